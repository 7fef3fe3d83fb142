/**
 * Assembles a store: what it starts, and in which order it ends.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import type { Notifier } from "../../SessionNotifier.ts"
import type { Storage } from "../../SessionStorage.ts"
import type { SessionHealth, Sessions } from "../../SessionStore.ts"
import type { Board } from "../NoticeBoard.ts"
import * as SessionLoader from "../SessionLoader.ts"
import { SummaryImpl } from "../SessionImpl.ts"
import { SessionView } from "../SessionView.ts"
import * as Synchronization from "../Synchronization.ts"
import * as TouchFlush from "../TouchFlush.ts"
import * as Lifecycle from "./Lifecycle.ts"
import * as Logins from "./Logins.ts"
import * as Modify from "./Modify.ts"
import * as Operations from "./Operations.ts"
import * as Reads from "./Reads.ts"
import * as Sweep from "./Sweep.ts"
import * as Updates from "./Updates.ts"
import * as Watch from "./Watch.ts"

/** How long the layer waits for the first beat before it starts without one, in milliseconds; it then reads from the database. */
const firstBeatWait = 2_000

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  notifier: Notifier,
  settings: Settings,
  board: Board
): Effect.fn.Return<Sessions, never, Scope.Scope> {
  const clearLocalCache = Effect.sync(() => cache.forgetAll({ _tag: "All" }))
  // The last thing of all: whoever remembers one of its ids must not keep a cache in memory that is no more.
  yield* Effect.addFinalizer(() => clearLocalCache)
  const operations = yield* Operations.make
  const synchronization = yield* Synchronization.make(cache, storage, notifier, settings, board)
  const loader = yield* SessionLoader.make(cache, storage, settings)
  const flush = yield* TouchFlush.make(cache, storage, settings)
  const reads = yield* Reads.make(cache, storage, loader, settings, operations)
  const updates = yield* Updates.make(cache, storage, settings, operations)
  const logins = yield* Logins.make(cache, storage, settings, operations)
  const lifecycle = Lifecycle.make(cache, storage, settings, operations, logins)
  const sweep = yield* Sweep.make(cache, storage, settings, operations)

  const inTime = (what: string, effect: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.timeoutOrElse(effect, {
      duration: settings.shutdownTimeout / 2,
      orElse: () => Effect.logWarning(`The session layer could not ${what} within ${settings.shutdownTimeout / 2} ms`)
    })

  // Finalizers run in the reverse order of their registration: this one is before all fibers and connections end.
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      inTime("finish what it had begun", Effect.andThen(operations.close, updates.drained)),
      inTime(
        "write pending last accesses",
        Effect.catch(flush.flushAll, (error) =>
          Effect.logWarning(`${cache.touches.size} last accesses could not be written at shutdown: ${error.message}`)
        )
      )
    )
  )

  yield* Effect.timeoutOption(synchronization.ready, Math.min(firstBeatWait, settings.maxStaleness))

  const health: Effect.Effect<SessionHealth> = Effect.sync(() => {
    const now = cache.clock.now()
    const staleness = cache.staleness(now)
    const { hits, invalidations, misses } = cache.counters
    return {
      synced: cache.isSynced(now),
      staleness: Number.isFinite(staleness) ? Duration.millis(Math.max(0, staleness)) : Duration.infinity,
      listener: synchronization.status(),
      cache: {
        size: cache.size,
        capacity: settings.cacheCapacity,
        hits,
        misses,
        invalidations,
        evicted: cache.evicted,
        absent: cache.absentKeys
      },
      activity: { pending: cache.touches.size, ...flush.counters },
      pendingUpdates: updates.pending(),
      watched: cache.watchers.size
    }
  })

  return {
    ...lifecycle,
    ...reads,
    update: updates.update,
    modify: Modify.make(reads.get, updates.update),
    listForUser: (userId) =>
      Effect.suspend(() => {
        if (!operations.isOpen()) return Effect.fail(operations.closed("list the user's sessions"))
        const sentAt = cache.clock.now()
        return Effect.map(storage.list(userId), ({ now, rows }) =>
          rows.map((row) => new SummaryImpl(new SessionView(row, cache.clock, { sentAt, now }, undefined)))
        )
      }),
    clearCache: operations.run("clear the caches", Effect.andThen(storage.announceClear(undefined), clearLocalCache)),
    clearCacheForUser: (userId) =>
      operations.run(
        "clear the caches",
        Effect.andThen(
          storage.announceClear(userId),
          Effect.sync(() => cache.forgetAll({ _tag: "User", userId, except: undefined }))
        )
      ),
    clearLocalCache,
    watch: Watch.make(cache, settings, reads.find),
    events: operations.events,
    sweep: sweep.run,
    flushActivity: operations.run("write last accesses", flush.flushAll),
    health
  }
})
