/**
 * Which fault happens when: planned from the seed before anything runs. Each lane
 * goes through all of its kinds in a random order, again and again, so that a
 * run of a minute has had each of them.
 */
import * as Effect from "effect/Effect"
import type { Fault, Surroundings } from "./Fault.ts"
import * as Random from "./Random.ts"

/** The pauses between two faults of a lane, in milliseconds: what a node does alone is seen only while the server is well. */
const pauses = { server: { min: 1_000, max: 4_000 }, node: { min: 100, max: 800 } } as const

/** The kinds of a lane in the order in which they come, for as long as one wants. */
export const order = function* (
  seed: number,
  lane: Fault["lane"],
  faults: ReadonlyArray<Fault>
): Generator<Fault, void> {
  const kinds = faults.filter((fault) => fault.lane === lane && fault.skipped === undefined)
  for (let round = 0; kinds.length > 0; round++) yield* Random.make(seed, lane, round).shuffled(kinds)
}

const runLane = Effect.fnUntraced(function* (
  seed: number,
  lane: Fault["lane"],
  faults: ReadonlyArray<Fault>,
  surroundings: Surroundings,
  injected: (kind: string) => Effect.Effect<void>
) {
  let index = 0
  for (const fault of order(seed, lane, faults)) {
    const random = Random.make(seed, lane, "fault", index++)
    yield* Effect.sleep(random.integer(pauses[lane].min, pauses[lane].max))
    yield* injected(fault.kind)
    yield* fault.inject(surroundings, random)
  }
})

/** Injects faults until it is interrupted; the one that is going on is healed then. */
export const run = (
  seed: number,
  faults: ReadonlyArray<Fault>,
  surroundings: Surroundings,
  injected: (kind: string) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.all(
    (["server", "node"] as const).map((lane) => runLane(seed, lane, faults, surroundings, injected)),
    { concurrency: "unbounded", discard: true }
  )
