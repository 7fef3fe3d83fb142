/**
 * Keeps this node's knowledge fresh, and knows how fresh it is.
 *
 * A connection delivers notices in commit order, and one fiber applies them. This
 * node sends itself beats on the same channel: when the beat that was sent at
 * local time t comes back, every notice committed before it has been applied, so
 * everything committed before t is known here (`Cache.synchronized(t)`). No
 * failure of a network needs a special case: the beat stops coming.
 *
 * After a loss: subscribe first, compare every cached entry with the database,
 * and only then serve from memory again. A server with another identity may have
 * lost commits, so there everything is dropped instead.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Cache } from "../SessionCache.ts"
import type { Settings } from "../SessionConfig.ts"
import { SessionStoreUnavailable } from "../SessionError.ts"
import type { BeatAnswer, Connection, Notice, Notifier } from "../SessionNotifier.ts"
import type { Storage } from "../SessionStorage.ts"
import { randomBase64Url } from "./Crypto.ts"
import type { Board } from "./NoticeBoard.ts"

/** Beats per `maxStaleness`: four may be lost before memory is not served any more. */
const beatsPerStaleness = 5
/** The least time between beats, in milliseconds. */
const minBeatInterval = 20
/** The delays between attempts to connect, in milliseconds. */
const firstRetryDelay = 50
const maxRetryDelay = 5_000
/** How many cached keys are compared by one statement. */
const revalidationBatch = 1_000
/** How far the clocks of the database and of this node may wander apart before deadlines are computed anew, in milliseconds. */
const clockTolerance = 500
/** From here on it is a jump. */
const clockJump = 5_000

/** What the listener is doing. */
export interface ListenerStatus {
  readonly state: "Connecting" | "Revalidating" | "Listening"
  /** What is wrong, in words, and what to do; `None` while all is well. */
  readonly problem: Option.Option<string>
  readonly beatsSent: number
  readonly beatsReturned: number
  /** How often a connection was lost or given up. */
  readonly reconnects: number
}

export interface Synchronization {
  readonly status: () => ListenerStatus
  /** Done once memory is served for the first time. */
  readonly ready: Effect.Effect<void>
}

const silentListener =
  "beats are sent but do not come back: the network to the listener is broken, or LISTEN goes through a pooler in transaction mode (then set listenUrl to a direct connection to the primary)"

const otherServer =
  "the listener and the queries reach different servers: make listenUrl and the query connections lead to the same primary"

const lost = (detail: string): SessionStoreUnavailable =>
  new SessionStoreUnavailable({ operation: "listen for changes", reason: "Unreachable", outcome: "NotApplied", detail })

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  notifier: Notifier,
  settings: Settings,
  board: Board
): Effect.fn.Return<Synchronization, never, Scope.Scope> {
  const node = randomBase64Url(9)
  const beatInterval = Math.max(minBeatInterval, settings.maxStaleness / beatsPerStaleness)
  const ready = yield* Deferred.make<void>()
  /** Beats that are on their way: nonce to the local time at which they were sent. */
  const outstanding = new Map<string, number>()
  let state: ListenerStatus["state"] = "Connecting"
  let problem: string | undefined = undefined
  let beatsSent = 0
  let beatsReturned = 0
  let reconnects = 0
  let retryDelay = firstRetryDelay
  let identity: string | undefined = undefined
  let anchor: { readonly offset: number; readonly error: number } | undefined = undefined

  const report = (what: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (problem === what) return Effect.void
      problem = what
      return Effect.logWarning(`Sessions are read from the database until this is repaired: ${what}`)
    })

  const apply = (notice: Notice): void => {
    if (notice._tag !== "Beat") {
      cache.apply(notice)
      board.publish(notice)
      return
    }
    const sentAt = outstanding.get(notice.nonce)
    if (sentAt === undefined) return
    beatsReturned++
    // Beats return in order: whatever was sent before this one is answered, too.
    for (const [nonce, time] of outstanding) {
      if (time <= sentAt) outstanding.delete(nonce)
    }
    const missedNothing = cache.isSynced(cache.clock.now())
    cache.synchronized(sentAt)
    if (!missedNothing) board.resume()
    retryDelay = firstRetryDelay
    Deferred.doneUnsafe(ready, Effect.void)
  }

  const read = (connection: Connection): Effect.Effect<never, SessionStoreUnavailable> =>
    Effect.forever(
      Effect.map(connection.take, (notices) => {
        for (const notice of notices) apply(notice)
      }),
      { disableYield: true }
    )

  /** Compares everything that is cached with the database. */
  const revalidate = Effect.gen(function* () {
    const keys = cache.keys()
    for (let start = 0; start < keys.length; start += revalidationBatch) {
      const batch = keys.slice(start, start + revalidationBatch)
      const sentAt = cache.clock.now()
      const { now, sessions } = yield* storage.revalidate(batch)
      cache.revalidate(batch, sessions, { sentAt, now })
    }
  })

  // Also where none was known: what has been loaded without a listener may be from another server.
  const meet = (server: Connection["server"]): void => {
    if (identity !== server.identity) cache.forgetAll({ _tag: "All" })
    identity = server.identity
  }

  /**
   * Cached deadlines were computed with the database's clock as it stood against this node's. When that has wandered,
   * they are computed anew; when it has jumped, nothing is served from memory until they are.
   */
  const checkClock = (answer: BeatAnswer, sentAt: number): Effect.Effect<void, SessionStoreUnavailable> =>
    Effect.suspend(() => {
      const receivedAt = cache.clock.now()
      const error = (receivedAt - sentAt) / 2
      const offset = answer.now - (sentAt + receivedAt) / 2
      const known = anchor
      if (known === undefined) {
        anchor = { offset, error }
        return Effect.void
      }
      const wandered = Math.abs(offset - known.offset)
      if (wandered <= clockTolerance + error + known.error) return Effect.void
      const renewed = Effect.map(revalidate, () => {
        anchor = { offset, error }
      })
      // Leases may end earlier than their holders know.
      board.resume()
      if (wandered < clockJump) return renewed
      cache.desynchronized()
      outstanding.clear()
      return Effect.andThen(
        Effect.logWarning(
          `The database's clock jumped by ${Math.round(wandered)} ms against this node's: deadlines are computed anew`
        ),
        renewed
      )
    })

  const checkServer = (answer: BeatAnswer, connection: Connection): Effect.Effect<void, SessionStoreUnavailable> =>
    Effect.suspend(() => {
      if (answer.server.identity === connection.server.identity) return Effect.void
      // What was loaded meanwhile is from the server that we do not listen to.
      cache.forgetAll({ _tag: "All" })
      identity = undefined
      return Effect.fail(lost(otherServer))
    })

  /** Sends a beat. The result says what became of it; a failure means that the connection must be given up. */
  const beat = (
    connection: Connection
  ): Effect.Effect<Result.Result<void, SessionStoreUnavailable>, SessionStoreUnavailable> =>
    Effect.gen(function* () {
      const nonce = randomBase64Url(9)
      const sentAt = cache.clock.now()
      outstanding.set(nonce, sentAt)
      beatsSent++
      // A beat that was given up may still be committed, even by a primary that has lost its standby: it proves nothing.
      const answer = yield* Effect.result(
        Effect.onError(notifier.beat(node, nonce), () => Effect.sync(() => outstanding.delete(nonce)))
      )
      if (Result.isFailure(answer)) return Result.fail(answer.failure)
      yield* checkServer(answer.success, connection)
      yield* checkClock(answer.success, sentAt)
      return Result.void
    })

  const beats = (connection: Connection): Effect.Effect<never, SessionStoreUnavailable> =>
    Effect.gen(function* () {
      const since = cache.clock.now()
      while (true) {
        const result = yield* beat(connection)
        if (Result.isFailure(result)) yield* report(result.failure.detail)
        yield* Effect.sleep(beatInterval)
        const now = cache.clock.now()
        const silentFor = now - Math.max(since, now - cache.staleness(now))
        if (Result.isSuccess(result) && silentFor >= beatInterval && outstanding.size > 0 && !cache.isSynced(now)) {
          yield* report(silentListener)
        }
        if (silentFor > settings.maxStaleness) {
          return yield* lost(Result.isSuccess(result) ? silentListener : result.failure.detail)
        }
        if (cache.isSynced(now) && problem !== undefined) {
          problem = undefined
          yield* Effect.logInfo("Sessions are served from memory again")
        }
      }
    })

  const connectOnce: Effect.Effect<never, SessionStoreUnavailable> = Effect.scoped(
    Effect.gen(function* () {
      state = "Connecting"
      const connection = yield* Effect.timeoutOrElse(notifier.connect, {
        duration: settings.statementTimeout,
        orElse: () => Effect.fail(lost(`no connection within ${settings.statementTimeout} ms`))
      })
      // What was in flight before LISTEN was confirmed may have missed a notice.
      cache.desynchronized()
      outstanding.clear()
      anchor = undefined
      meet(connection.server)
      const reader = yield* Effect.forkScoped(read(connection))
      state = "Revalidating"
      const work = Effect.andThen(
        revalidate,
        Effect.suspend(() => {
          state = "Listening"
          return beats(connection)
        })
      )
      return yield* Effect.raceFirst(Fiber.join(reader), work)
    })
  )

  const loop: Effect.Effect<never> = Effect.forever(
    connectOnce.pipe(
      Effect.catch((error) => report(error.detail)),
      Effect.catchDefect((defect) => report(`a defect in the listener: ${String(defect)}`)),
      Effect.ensuring(
        Effect.sync(() => {
          cache.desynchronized()
          outstanding.clear()
          state = "Connecting"
        })
      ),
      Effect.andThen(
        Effect.suspend(() => {
          reconnects++
          const delay = retryDelay
          retryDelay = Math.min(maxRetryDelay, retryDelay * 2)
          return Effect.flatMap(Random.nextBetween(0.5, 1), (factor) => Effect.sleep(Duration.millis(delay * factor)))
        })
      )
    )
  )

  const unfeed = board.feed(() => cache.isSynced(cache.clock.now()))
  yield* Effect.addFinalizer(() => Effect.sync(unfeed))
  yield* Effect.forkScoped(loop)

  return {
    status: () => ({ state, problem: Option.fromUndefinedOr(problem), beatsSent, beatsReturned, reconnects }),
    ready: Deferred.await(ready)
  }
})
