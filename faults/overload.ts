/**
 * `npm run overload`: asks one node for several times what it can do. The last line
 * is one JSON object; the exit code is 1 where it does not degrade as it should.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import { start } from "./Command.ts"
import * as Database from "./Database.ts"
import { type Options, run } from "./load/Overload.ts"
import { goodput, recoveredAt } from "./load/OverloadVerdict.ts"
import { whole } from "./Options.ts"

const usage = `npm run overload -- [--seconds S] [--factor F] [--seed N]

  --seconds S  for how long the load is too much; default 20, at least 5
  --factor F   how many times what can be done is asked for; default 4
  --seed N     what is asked in which order; default: a random one`

/** Throws where they make no sense. */
const parse = (args: ReadonlyArray<string>): Options => {
  const string = { type: "string" } as const
  const { values } = parseArgs({ args: [...args], options: { seconds: string, factor: string, seed: string } })
  return {
    seconds: whole(values.seconds, "seconds", 20, 5),
    factor: whole(values.factor, "factor", 4, 2),
    seed: whole(values.seed, "seed", randomInt(1, 2 ** 31), 0)
  }
}

const rounded = (value: number): number => Math.round(value * 100) / 100

const program = Effect.fnUntraced(function* (options: Options) {
  const { factor, seconds, seed } = options
  yield* Console.log(`Seed ${seed}: one node, asked for ${factor} times what it can do, for ${seconds} seconds`)
  const { phases, violations } = yield* run(options).pipe(Effect.provide(Database.layer), Effect.scoped)
  for (const violation of violations) yield* Console.log(`Not as it should be: ${violation}`)
  const { capacity, overload } = phases
  yield* Console.log(
    JSON.stringify({
      seed,
      seconds,
      factor,
      capacityPerSecond: Math.round(goodput(capacity)),
      overloadPerSecond: Math.round(goodput(overload)),
      cachedReadsMs: { p50: rounded(overload.cachedReads.p50), p99: rounded(overload.cachedReads.p99) },
      heapMegabytes: Math.round(overload.mostHeapMegabytes),
      drainedMs: Math.round(overload.drained),
      recoveredMs: Math.round(recoveredAt(phases)),
      outcomes: overload.outcomes,
      violations
    })
  )
  if (violations.length > 0) process.exitCode = 1
})

// What PostgreSQL writes is not to be waited for: the load is the node's.
await start(usage, () => program(parse(process.argv.slice(2))))
