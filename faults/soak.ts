/**
 * `npm run soak`: nodes under an even load for as long as one wants, which must end
 * with the memory, the handles and the connections that they had when they were
 * warm. The last line is one JSON object; the exit code is 1 where they do not.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import { start } from "./Command.ts"
import * as Database from "./Database.ts"
import type { Percentiles } from "./load/Latencies.ts"
import { median } from "./load/Flatness.ts"
import { type Options, run, type Soaked } from "./load/Soak.ts"
import { whole } from "./Options.ts"

const usage = `npm run soak -- [--seconds S] [--nodes K] [--seed N] [--leak BYTES]

  --seconds S   for how long; default 900, at least 20
  --nodes K     how many node processes; default 2
  --seed N      what clients do in which order; default: a random one
  --leak BYTES  nodes keep so many bytes of each session that they begin: the run must fail`

/** Throws where they make no sense. */
const parse = (args: ReadonlyArray<string>): Options => {
  const string = { type: "string" } as const
  const { values } = parseArgs({
    args: [...args],
    options: { seconds: string, nodes: string, seed: string, leak: string }
  })
  return {
    seconds: whole(values.seconds, "seconds", 900, 20),
    nodes: whole(values.nodes, "nodes", 2, 1),
    seed: whole(values.seed, "seed", randomInt(1, 2 ** 31), 0),
    leak: whole(values.leak, "leak", 0, 0)
  }
}

const rounded = (value: number): number => Math.round(value * 100) / 100

/** Of the samples of all nodes, each of some seconds. */
const latency = (all: ReadonlyArray<Percentiles>) => ({
  p50: rounded(median(all.map(({ p50 }) => p50))),
  p99: rounded(median(all.map(({ p99 }) => p99))),
  worstP99: rounded(Math.max(...all.map(({ p99 }) => p99)))
})

/** So many bytes of heap, kept of each session that a node begins, would have been too many. */
const leastLeakNoticed = ({ outcomes, trends }: Soaked, { nodes }: Options): number => {
  const allowed = Math.max(...trends.flatMap(({ allowed, figure }) => (figure === "heapMegabytes" ? [allowed] : [])))
  // Half of the run is between the middles of the two quarters.
  const begun = (outcomes["turnOver"]?.["Done"] ?? 0) / nodes / 2
  return Math.round((allowed * 2 ** 20) / begun)
}

const program = Effect.fnUntraced(function* (options: Options) {
  yield* Console.log(`Seed ${options.seed}: ${options.nodes} nodes under an even load for ${options.seconds} seconds`)
  const soaked = yield* run(options).pipe(Effect.provide(Database.layer), Effect.scoped)
  const { disturbances, duration, others, outcomes, reads, trends, violations } = soaked
  for (const violation of violations) yield* Console.log(`Not flat, or broken: ${violation}`)
  const counts: Record<string, number> = {}
  for (const [outcome, count] of Object.values(outcomes).flatMap((sums) => Object.entries(sums))) {
    counts[outcome] = (counts[outcome] ?? 0) + count
  }
  const operations = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const figures: Record<string, Record<string, readonly [number, number]>> = {}
  for (const { early, figure, late, of } of trends) (figures[of] ??= {})[figure] = [rounded(early), rounded(late)]
  yield* Console.log(
    JSON.stringify({
      seed: options.seed,
      seconds: Math.round(duration / 1_000),
      nodes: options.nodes,
      operations,
      perSecond: Math.round(operations / (duration / 1_000)),
      sessionsBegun: outcomes["turnOver"]?.["Done"] ?? 0,
      outcomes: counts,
      disturbances,
      readsMs: latency(reads),
      othersMs: latency(others),
      secondAndLastQuarter: figures,
      leastLeakNoticed: leastLeakNoticed(soaked, options),
      violations
    })
  )
  if (violations.length > 0) process.exitCode = 1
})

// What PostgreSQL writes is not to be waited for: the load is the nodes'.
await start(usage, () => program(parse(process.argv.slice(2))))
