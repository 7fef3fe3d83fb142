/**
 * `npm run faults`: tries to break every promise, on real processes, a real
 * PostgreSQL and a network that fails. The last line is one JSON object; the exit
 * code is 1 when a promise was broken.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Database from "./Database.ts"
import { judge } from "./Judge.ts"
import { parse, replay, usage } from "./Options.ts"
import { run } from "./Run.ts"

const program = Effect.gen(function* () {
  const options = parse(process.argv.slice(2))
  yield* Console.log(
    `Seed ${options.seed}: ${options.nodes} nodes and their clients, under faults for ${options.seconds} seconds`
  )
  const { faults, history } = yield* run(options).pipe(Effect.provide(Database.layer), Effect.scoped)
  const { maxStalenessMs, unavailableMs, violations } = judge(history)
  for (const { guarantee, message } of violations) yield* Console.log(`${guarantee}: ${message}`)
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

if (process.argv.includes("--help")) console.log(usage)
else NodeRuntime.runMain(program)
