/**
 * Distributed locks: leases, kept by heartbeats, with fencing tokens.
 *
 * While a lease runs nobody else is granted the lock, on any node. A lease cannot
 * do more: a holder that is paused past its end (by a garbage collection, a stopped
 * process, a machine that sleeps) does not know it before it wakes up. So each grant carries a token that only
 * grows, and whatever is written under the lock should be refused where the token is not the
 * latest: `sessions.update(session, { fence: lease })` does that for sessions, and any other store can.
 *
 * A holder whose lease is over is told: the work under it is interrupted and fails with `LockLost`,
 * not later than the lease ends by the database's clock, unless the process itself is paused.
 *
 * Locks are not re-entrant: a holder that asks for its own lock again waits for itself.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Listening from "./internal/lock/Listening.ts"
import * as Locks from "./internal/lock/Locks.ts"
import * as MemoryDatabase from "./internal/memory/MemoryDatabase.ts"
import * as MemoryLockStorage from "./internal/memory/MemoryLockStorage.ts"
import * as MemoryNotifier from "./internal/memory/MemoryNotifier.ts"
import { NodeClock } from "./internal/NodeClock.ts"
import { NoticeBoard } from "./internal/NoticeBoard.ts"
import type { Session } from "./Session.ts"
import { type LockWait, SessionConfig, type SessionOptions } from "./SessionConfig.ts"
import type {
  InvalidSessionConfig,
  LockAlreadyHeld,
  LockLost,
  LockTimeout,
  SessionNotFound,
  SessionStoreUnavailable
} from "./SessionError.ts"
import type { SessionKey } from "./SessionId.ts"
import { type LockFence, SessionLockStorage } from "./SessionLockStorage.ts"

/** A lock that is held. `lock` and `token` together are its fence: `sessions.update(session, { fence: lease })`. */
export interface Lease extends LockFence {
  /** The lock's name, as it was asked for. */
  readonly resource: string
  /**
   * Grows with every grant of any lock, for ever. Pass it along with whatever is written under the lock, and let the
   * receiver refuse a token that is smaller than the largest it has seen.
   */
  readonly token: bigint
  /**
   * Makes the lease end this long from now, or later where it does already; 100 milliseconds to 1 day. Fails with `LockLost` where it
   * is over, and with `SessionStoreUnavailable` where the database could not be asked: then the lease runs on as before.
   */
  readonly extend: (duration: Duration.Input) => Effect.Effect<void, LockLost | SessionStoreUnavailable>
  /** For how long the lease can still be relied upon, if it is not extended; zero once it is over. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /** Fails when the lease is lost; never succeeds, and never ends where the lease was released before. Race your work against it. */
  readonly lost: Effect.Effect<never, LockLost>
  /**
   * Gives the lock back before its scope ends. Can be repeated, and never releases what somebody else was granted. Does not fail: where the database
   * cannot be asked it is tried again in the background, and the lock is free when the lease ends at the latest; so also where PostgreSQL crashes at that moment.
   */
  readonly release: Effect.Effect<void>
}

/** How to ask for a lock. */
export interface LockOptions<W extends LockWait = LockWait, S extends SessionKey | Session = SessionKey | Session> {
  /**
   * What to do while others hold it: `"none"` fails with `LockAlreadyHeld`, a duration waits that long (for an answer that is on its way up to a
   * second longer) and fails with `LockTimeout`, `"forever"` waits, as long as the database can be reached. Waiters of a node are served in the order of their arrival; nodes take turns. Default the setting `lockWait` ("none").
   */
  readonly wait?: W | undefined
  /** How long the lease runs until it must be extended: that long others wait for a holder that crashed. Default the setting `lockLeaseTime` (60 seconds); 100 milliseconds to 1 day, others are cut to that. */
  readonly leaseTime?: Duration.Input | undefined
  /** How often the lease is extended; at least three times in a lease. "Infinity": never, the holder extends it. Default the setting `lockHeartbeatInterval` (10 seconds). */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** The first pause after a failed statement, and between questions while notifications are not heard. Default the setting `lockRetryDelay` (1 millisecond). */
  readonly retryDelay?: Duration.Input | undefined
  /** How often to repeat a statement that failed; being refused the lock is no failure. Default the setting `lockMaxRetries` (2). */
  readonly maxRetries?: number | undefined
  /** Ties the lock to a session: its name is the session's own, it cannot be had once the session has ended, and a holder then loses it. Default: a global lock. */
  readonly session?: S | undefined
  /** How many may hold the lock at once; everybody should ask for the same number. Default 1; 1 to 1 000. */
  readonly permits?: number | undefined
}

/** What a way of waiting can fail with. */
export type WaitError<W extends LockWait> = W extends "none"
  ? LockAlreadyHeld
  : W extends "forever"
    ? never
    : LockTimeout

/** What asking for a lock can fail with. With `session` the session may have ended. */
export type AcquireError<W extends LockWait, S extends SessionKey | Session> =
  | WaitError<W>
  | ([S] extends [never] ? never : SessionNotFound)
  | SessionStoreUnavailable

/** How many locks this node holds, and how many it waits for. */
export interface LockHealth {
  readonly held: number
  readonly waiting: number
}

/** The operations on locks. */
export interface LockService {
  /**
   * Acquires the lock, runs the effect, and releases the lock however that ends. When the lease is lost, the effect is
   * interrupted, and the result is `LockLost`, also where the effect had just succeeded.
   */
  readonly withLock: <A, E, R, W extends LockWait = LockWait, S extends SessionKey | Session = never>(
    resource: string,
    use: (lease: Lease) => Effect.Effect<A, E, R>,
    options?: LockOptions<W, S>
  ) => Effect.Effect<A, E | LockLost | AcquireError<W, S>, R>
  /** Acquires the lock until the scope closes, or `release`. It is kept by heartbeats; watch `lost`. */
  readonly acquire: <W extends LockWait = LockWait, S extends SessionKey | Session = never>(
    resource: string,
    options?: LockOptions<W, S>
  ) => Effect.Effect<Lease, AcquireError<W, S>, Scope.Scope>
  /** {@link acquire} without waiting: fails at once with `LockAlreadyHeld`, which says for how long, and which node holds it. */
  readonly tryAcquire: <S extends SessionKey | Session = never>(
    resource: string,
    options?: Omit<LockOptions<"none", S>, "wait">
  ) => Effect.Effect<Lease, AcquireError<"none", S>, Scope.Scope>
  /** What this node holds and waits for. */
  readonly health: Effect.Effect<LockHealth>
}

/**
 * Locks, as a service.
 *
 * @example
 * ```ts
 * const program = Effect.gen(function*() {
 *   const locks = yield* SessionLocks
 *   yield* locks.withLock("invoice-run", (lease) => sendInvoices(lease.token), { wait: "none", leaseTime: "30 seconds" })
 * })
 * program.pipe(Effect.provide(PgSessionLive))
 * ```
 */
export class SessionLocks extends Context.Service<SessionLocks, LockService>()("@effect-pg-session/core/SessionLocks") {
  /**
   * Locks on a lock storage. When its scope closes, holders lose their leases, their work is interrupted, and the locks are
   * released. Waiters are woken by the notices that the store of the same build hears; without a store they ask again from time to time.
   */
  static readonly layer: Layer.Layer<SessionLocks, never, SessionConfig | SessionLockStorage> = Layer.effect(
    SessionLocks,
    Effect.gen(function* () {
      const clock = new NodeClock(yield* Clock.Clock)
      return yield* Locks.make(yield* SessionLockStorage, yield* SessionConfig, clock, yield* NoticeBoard)
    })
  ).pipe(Layer.provide(NoticeBoard.layer))

  /**
   * Locks in this process's memory, for tests and small programs. Their clock is Effect's `Clock`, so `TestClock` moves it. Locks
   * tied to a session need a store in the same memory: merge this layer with `SessionStore.layerMemory`. Fails with `InvalidSessionConfig`.
   */
  static readonly layerMemory = (options?: SessionOptions): Layer.Layer<SessionLocks, InvalidSessionConfig> =>
    SessionLocks.layer.pipe(
      Layer.provide(Listening.layer),
      Layer.provide([SessionConfig.layer(options), MemoryLockStorage.layer, MemoryNotifier.layer, NoticeBoard.layer]),
      Layer.provide(MemoryDatabase.layer)
    )
}
