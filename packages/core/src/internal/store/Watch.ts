/**
 * Following one session: its state now, then every state that this node learns
 * of, until the session ends. Only the latest state counts, so a slow consumer
 * needs no buffer.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import { SessionId } from "../../SessionId.ts"
import { summaryOf } from "../SessionImpl.ts"
import type { Reads } from "./Reads.ts"

/** How many may watch sessions at once on a node. */
const maxWatchers = 100_000

export type Watch = (id: SessionId) => Stream.Stream<Session, SessionStoreUnavailable>

export const make =
  (cache: Cache, settings: Settings, find: Reads["find"]): Watch =>
  (id) =>
    Stream.unwrap(
      Effect.gen(function* () {
        if (cache.watchers.total >= maxWatchers) {
          return Stream.fail(
            new SessionStoreUnavailable({
              operation: "watch the session",
              reason: "Overloaded",
              outcome: "NotApplied",
              detail: `${maxWatchers} streams watch sessions already`
            })
          )
        }
        const changed = yield* Latch.make()
        yield* Effect.acquireRelease(
          Effect.sync(() => cache.watchers.add(SessionId.key(id), () => queueMicrotask(() => changed.openUnsafe()))),
          (unregister) => Effect.sync(unregister)
        )

        /** Something was said, the session may have ended, or nothing was said for as long as we may go without asking. */
        const nextOccasion = (session: Session): Effect.Effect<void> => {
          const { clock } = cache
          const { deadline } = summaryOf(session).view
          const delay = Math.max(1, Math.min(deadline - clock.now(), settings.maxStaleness))
          return Effect.raceFirst(changed.await, Effect.sleep(delay))
        }

        /** The first state that is newer than `last`; `None` once the session has ended. */
        const next = (last: Session | undefined): Effect.Effect<Option.Option<Session>, SessionStoreUnavailable> =>
          Effect.suspend(() => {
            // Before reading, so that what is said while we read is not missed.
            changed.closeUnsafe()
            return Effect.flatMap(find(id, { touch: false }), (found) => {
              if (Option.isNone(found) || last === undefined || found.value.version > last.version) {
                return Effect.succeed(found)
              }
              return Effect.andThen(nextOccasion(found.value), next(last))
            })
          })

        return Stream.unfold<Session | undefined, Session, SessionStoreUnavailable, never>(undefined, (last) =>
          Effect.map(
            next(last),
            Option.match({
              onNone: () => undefined,
              onSome: (session) => [session, session] as const
            })
          )
        )
      })
    )
