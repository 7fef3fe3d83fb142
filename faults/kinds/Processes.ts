/** Faults of a node's process: it dies, it is stopped, its clock is wrong, it is replaced. */
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"

const hour = 3_600_000

const wrongClock = (kind: string, direction: 1 | -1): Fault => ({
  kind,
  lane: "node",
  inject: ({ cluster }, random) => {
    const { process } = random.pick(cluster)
    const offset = direction * random.integer(1, 72) * hour
    // Set right again, it jumps a second time.
    return Effect.sync(() => process().tell({ wallClock: offset })).pipe(
      Effect.andThen(Effect.sleep(random.integer(300, 2_500))),
      Effect.ensuring(Effect.sync(() => process().tell({ wallClock: 0 })))
    )
  }
})

export const faults: ReadonlyArray<Fault> = [
  {
    kind: "nodeKilled",
    lane: "node",
    inject: ({ cluster }, random) => {
      const node = random.pick(cluster)
      return Effect.andThen(
        Effect.suspend(() => node.process().kill),
        node.start
      )
    }
  },
  {
    // Longer than memory may be served for, and than leases run.
    kind: "nodeStopped",
    lane: "node",
    inject: ({ cluster }, random) => {
      const stopped = random.pick(cluster).process()
      return Effect.sync(() => stopped.signal("SIGSTOP")).pipe(
        Effect.andThen(Effect.sleep(random.integer(1_600, 3_500))),
        Effect.ensuring(Effect.sync(() => stopped.signal("SIGCONT")))
      )
    }
  },
  {
    // A deployment: whatever else goes on, it ends in time, and another one takes its place.
    kind: "nodeReplaced",
    lane: "node",
    inject: ({ cluster }, random) => {
      const node = random.pick(cluster)
      return Effect.andThen(
        Effect.suspend(() => node.process().askToEnd),
        node.start
      )
    }
  },
  wrongClock("clockAhead", 1),
  wrongClock("clockBehind", -1)
]
