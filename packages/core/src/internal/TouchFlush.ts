/**
 * Writes gathered activity to the database: in batches, in one statement each,
 * before anybody could be taken for idle. A failed flush is tried again with the
 * same uses; the database keeps the larger time, so nothing moves backwards.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Cache } from "../SessionCache.ts"
import type { Settings } from "../SessionConfig.ts"
import type { SessionStoreUnavailable } from "../SessionError.ts"
import type { SessionKey } from "../SessionId.ts"
import type { Storage, Touched } from "../SessionStorage.ts"
import type { AnswerTime } from "./SessionView.ts"
import type { Activity } from "./TouchBuffer.ts"

/** How long after a failed flush the next one is tried, in milliseconds. */
const retryDelay = 1_000

/** How much earlier than necessary a mark may be written along with others, as a share of the flush interval. */
const slackShare = 0.1

export interface TouchFlush {
  /** Writes everything that waits. Fails if something could not be written. */
  readonly flushAll: Effect.Effect<void, SessionStoreUnavailable>
  /** How many last accesses were written, and how many flushes failed. */
  readonly counters: { readonly written: number; readonly failures: number }
}

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings
): Effect.fn.Return<TouchFlush, never, Scope.Scope> {
  const { clock, touches } = cache
  const counters = { written: 0, failures: 0 }
  const earlier = yield* Latch.make()
  touches.onEarlier = () => earlier.openUnsafe()
  const slack = settings.lastAccessFlushInterval * slackShare

  const flush = (activities: ReadonlyArray<Activity>): Effect.Effect<void, SessionStoreUnavailable> =>
    Effect.suspend(() => {
      const sentAt = clock.now()
      return storage
        .touch(activities.map(({ key, touchedAt }) => ({ key, age: Math.max(0, sentAt - touchedAt) })))
        .pipe(
          Effect.map(({ now, touched }) => {
            counters.written += touched.length
            confirm(cache, activities, touched, { sentAt, now })
          }),
          Effect.onError(() =>
            Effect.sync(() => {
              counters.failures++
              touches.putBack(activities, clock.now() + retryDelay)
            })
          )
        )
    })

  const limit = settings.lastAccessFlushBatchSize
  const flushDue = (time: number, batches: number): Effect.Effect<void, SessionStoreUnavailable> =>
    Effect.suspend(() => {
      const due = batches > 0 ? touches.take(time, limit) : []
      return due.length === 0 ? Effect.void : Effect.andThen(flush(due), flushDue(time, batches - 1))
    })

  // Whoever flushes waits for a flush that is under way: what that has taken may come back.
  const semaphore = yield* Semaphore.make(1)

  /** Writes what is due at a time; what is used meanwhile waits for the next time. */
  const flushBefore = (time: number) =>
    semaphore.withPermit(Effect.suspend(() => flushDue(time, Math.ceil(touches.size / limit))))

  const waitUntilDue = Effect.suspend(() => {
    earlier.closeUnsafe()
    const delay = touches.nextFlushAt - clock.now()
    // Something may have become due since the last look, which has opened the latch that was just closed.
    const slept = delay === Infinity ? Effect.never : Effect.sleep(Math.max(1, delay))
    return Effect.raceFirst(slept, earlier.await)
  })

  const loop = Effect.forever(
    Effect.suspend(() => {
      const now = clock.now()
      if (touches.nextFlushAt > now) return waitUntilDue
      return flushBefore(now + slack).pipe(
        Effect.catch((error) =>
          Effect.logWarning(`Last accesses could not be written and will be tried again: ${error.message}`)
        )
      )
    })
  )
  yield* Effect.forkScoped(loop)

  return { flushAll: flushBefore(Infinity), counters }
})

/** Takes in what the database now holds. Sessions that it left out have ended. */
export const confirm = (
  cache: Cache,
  asked: ReadonlyArray<{ readonly key: SessionKey }>,
  touched: ReadonlyArray<Touched>,
  time: AnswerTime
): void => {
  const confirmed = new Map(touched.map((touch) => [touch.key, touch.lastAccessedAt]))
  for (const { key } of asked) {
    const lastAccessedAt = Option.fromUndefinedOr(confirmed.get(key))
    if (Option.isNone(lastAccessedAt)) {
      cache.acknowledge(key, undefined)
      continue
    }
    const entry = cache.peek(key)
    if (entry === undefined || entry.lastAccessedAt >= lastAccessedAt.value) continue
    const { expiresAt, idleTimeout } = entry
    cache.refresh(entry, { expiresAt, idleTimeout, lastAccessedAt: lastAccessedAt.value }, time, entry.loadedAt)
  }
}
