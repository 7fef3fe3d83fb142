/**
 * The scoped fiber that removes what has expired: once at start, then every
 * `cleanupInterval`, in batches, one node at a time. Nobody waits for it: expiry
 * holds at every read.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { Storage } from "../../SessionStorage.ts"
import type { Operations } from "./Operations.ts"

/** Rows that one statement looks at. */
const batch = 5_000

export interface Sweep {
  /** One whole sweep; nothing where another node is sweeping. Answers how many sessions had expired. */
  readonly run: Effect.Effect<number, SessionStoreUnavailable>
}

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings,
  operations: Operations
): Effect.fn.Return<Sweep, never, Scope.Scope> {
  const sweepFrom = (after: SessionKey | undefined, ended: number): Effect.Effect<number, SessionStoreUnavailable> =>
    Effect.flatMap(storage.sweep({ after, limit: batch }), (outcome) => {
      if (outcome._tag === "Busy") return Effect.succeed(ended)
      for (const { key, userId } of outcome.expired) {
        cache.acknowledge(key, undefined)
        operations.publish({ _tag: "Expired", key, userId })
      }
      for (const { key, version } of outcome.purged) cache.acknowledge(key, version)
      const total = ended + outcome.expired.length
      return outcome.next === undefined || !operations.isOpen() ? Effect.succeed(total) : sweepFrom(outcome.next, total)
    })

  const run = operations.run(
    "sweep expired sessions",
    Effect.suspend(() => sweepFrom(undefined, 0))
  )

  // Nodes that started together shall not always meet.
  const wait = Effect.flatMap(Random.nextBetween(0.9, 1.1), (factor) => Effect.sleep(settings.cleanupInterval * factor))

  const loop = Effect.forever(
    Effect.andThen(
      Effect.catch(run, (error) =>
        Effect.logWarning(`The sweep for expired sessions failed and will be repeated: ${error.message}`)
      ),
      wait
    )
  )
  yield* Effect.forkScoped(loop)
  return { run }
})
