/**
 * The scoped fiber that removes locks that nobody has used for a day, so that
 * nothing grows with the number of names ever used: once at start, because many a process that locks things lives
 * shorter than `cleanupInterval`, and then from time to time.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Settings } from "../../SessionConfig.ts"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import type { LockStorage } from "../../SessionLockStorage.ts"

/** In milliseconds: a day. */
const unusedFor = 86_400_000
/** Locks that one statement removes. */
const limit = 1_000

export const make = Effect.fnUntraced(function* (
  storage: LockStorage,
  settings: Settings
): Effect.fn.Return<void, never, Scope.Scope> {
  const removeAll: Effect.Effect<void, SessionStoreUnavailable> = Effect.flatMap(
    storage.sweep({ unusedFor, limit }),
    ({ removed }) => (removed < limit ? Effect.void : removeAll)
  )
  // Nodes that started together shall not always meet.
  const wait = Effect.flatMap(Random.nextBetween(0.9, 1.1), (factor) => Effect.sleep(settings.cleanupInterval * factor))
  const attempt = Effect.catch(removeAll, (error) =>
    Effect.logWarning(`The removal of unused locks failed and will be repeated: ${error.message}`)
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(attempt, wait)))
})
