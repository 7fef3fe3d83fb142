/**
 * `npm run faults`: tries to break every promise, on real processes, a real
 * PostgreSQL and a network that fails. The last line is one JSON object; the exit
 * code is 1 when a promise was broken.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import * as Database from "./Database.ts"
import type { History } from "./History.ts"
import { judge } from "./Judge.ts"
import { type Options, parse, replay, usage } from "./Options.ts"
import { endWithParent, limitedDirectory, runLimited } from "./Quota.ts"
import { run } from "./Run.ts"

const program = Effect.fnUntraced(function* (options: Options, unlimited: string | undefined) {
  yield* Console.log(
    `Seed ${options.seed}: ${options.nodes} nodes and their clients, under faults for ${options.seconds} seconds`
  )
  const { faults, history } = yield* run(options, unlimited).pipe(Effect.provide(Database.layer), Effect.scoped)
  const { maxStalenessMs, unavailableMs, violations } = judge(history)
  for (const { guarantee, message } of violations) yield* Console.log(`${guarantee}: ${message}`)
  if (options.history !== undefined) writeFileSync(options.history, asLines(history))
  yield* Console.log(`To replay: ${replay(options)}`)
  yield* Console.log(
    JSON.stringify({
      seed: options.seed,
      operations: history.operations.length,
      faults,
      violations,
      maxStalenessMs: Math.round(maxStalenessMs),
      unavailableMs: Math.round(unavailableMs)
    })
  )
  if (violations.length > 0) process.exitCode = 1
})

/** One operation a line. */
const asLines = ({ operations }: History): string =>
  operations.map((operation) => `${JSON.stringify(operation)}\n`).join("")

const start = async (): Promise<void> => {
  if (process.argv.includes("--help")) return console.log(usage)
  const options = parse(process.argv.slice(2))
  const limited = limitedDirectory === undefined ? runLimited() : undefined
  if (typeof limited === "object") {
    process.exitCode = await limited
    return
  }
  endWithParent()
  NodeRuntime.runMain(program(options, limited))
}

await start()
