/** Faults of a node's process: it dies, it is stopped, its clock is wrong, it is replaced. */
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"
import type { NodeProcess } from "../NodeProcess.ts"

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

/** Stopped for longer than memory may be served for, and than leases run, and then woken up. */
const stopped = (kind: string, waitFor: (process: NodeProcess) => Effect.Effect<unknown>): Fault => ({
  kind,
  lane: "node",
  inject: ({ cluster }, random) =>
    Effect.suspend(() => {
      const process = random.pick(cluster).process()
      return waitFor(process).pipe(
        Effect.andThen(Effect.sync(() => process.signal("SIGSTOP"))),
        Effect.andThen(Effect.sleep(random.integer(1_600, 3_500))),
        Effect.ensuring(Effect.sync(() => process.signal("SIGCONT")))
      )
    })
})

/** Waits for a moment until somebody on the node holds a lock. */
const holdsLock = (process: NodeProcess) =>
  Effect.promise(() => process.measure({ _tag: "Health" })).pipe(
    Effect.delay("5 millis"),
    Effect.repeat({ until: (figures) => figures === undefined || (figures["held"] ?? 0) > 0 }),
    Effect.timeoutOption("1 second")
  )

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
  stopped("nodeStopped", () => Effect.void),
  stopped("holderStopped", holdsLock),
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
