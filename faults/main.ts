/**
 * `npm run faults`: tries to break every promise, on real processes, a real
 * PostgreSQL and a network that fails. The last line is one JSON object; the exit
 * code is 1 when a promise was broken.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { start } from "./Command.ts"
import * as Database from "./Database.ts"
import type { History } from "./History.ts"
import { judge } from "./Judge.ts"
import { type Options, parse, replay, usage } from "./Options.ts"
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

await start(usage, (unlimited) => program(parse(process.argv.slice(2)), unlimited))
