/**
 * The service that applications use. It composes the cache, the storage and the
 * notifier of one node into sessions that are read from memory, written to the
 * database, and coherent across nodes.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import * as MemoryDatabase from "./internal/memory/MemoryDatabase.ts"
import * as MemoryNotifier from "./internal/memory/MemoryNotifier.ts"
import * as MemoryStorage from "./internal/memory/MemoryStorage.ts"
import { NoticeBoard } from "./internal/NoticeBoard.ts"
import * as Store from "./internal/store/Store.ts"
import type { ListenerStatus } from "./internal/Synchronization.ts"
import type { Session, SessionSummary } from "./Session.ts"
import type { AttributeValue, SessionAttribute } from "./SessionAttribute.ts"
import { SessionCache } from "./SessionCache.ts"
import { SessionConfig, type SessionOptions } from "./SessionConfig.ts"
import type {
  AttributeInvalid,
  AttributeTooLarge,
  AttributeVersionMismatch,
  Fenced,
  InvalidSessionConfig,
  ReadError,
  SessionNotFound,
  SessionStoreUnavailable,
  SessionTooLarge,
  TooManySessions,
  VersionMismatch,
  WriteError
} from "./SessionError.ts"
import type { SessionEvent } from "./SessionEvent.ts"
import type { GroupId, SessionId, SessionKey, UserId } from "./SessionId.ts"
import type { LockFence } from "./SessionLockStorage.ts"
import { SessionNotifier } from "./SessionNotifier.ts"
import { SessionStorage } from "./SessionStorage.ts"

/** Options of `find` and `get`. */
export interface FindOptions {
  /** Whether this counts as activity. Default true. */
  readonly touch?: boolean | undefined
  /** Read the database, whatever is in memory: for routes where a revocation of a moment ago must count. Default false. */
  readonly refresh?: boolean | undefined
  /**
   * Serve memory only if it has at least this version, and the database otherwise; a lower version found there is still
   * returned. Take it from signed data only: it is a way around the cache.
   */
  readonly minVersion?: bigint | undefined
}

/** Options of `create` and `createAnonymous`. */
export interface CreateOptions {
  /** Values made with `SessionAttribute.value`; of several for one attribute the last counts. */
  readonly attributes?: ReadonlyArray<AttributeValue> | undefined
  /** A name to end sessions together by. Default none. */
  readonly groupId?: GroupId | undefined
  /** The absolute limit. Default `sessionLifetime`, or `anonymousLifetime` for guests; more than 100 years is cut to that. */
  readonly expiresIn?: Duration.Input | undefined
  /** The idle limit; "Infinity" means none. Default the setting `idleTimeout`. */
  readonly idleTimeout?: Duration.Input | undefined
}

/**
 * What an update is checked against, and so what it can fail with:
 * - `"attributes"`: nobody wrote the attributes that it sets or removes since the session was read (`AttributeVersionMismatch`);
 * - `"session"`: nobody changed anything since (`VersionMismatch`);
 * - `"none"`: nothing; the last write wins, for the attributes that it writes only.
 */
export type Check = "attributes" | "session" | "none"

/** The error that a check can fail with. */
export type Mismatch<C extends Check> = C extends "attributes"
  ? AttributeVersionMismatch
  : C extends "session"
    ? VersionMismatch
    : never

/** Options of `update`. */
export interface UpdateOptions<C extends Check = Check, F extends LockFence = LockFence> {
  /** Default "attributes". */
  readonly check?: C | undefined
  /**
   * Whether other nodes are told. Default the setting `notifyOnUpdates`. Without, they may serve the old state for as
   * long as they have it in memory. A shortened limit and another group are announced in any case.
   */
  readonly notify?: boolean | undefined
  /**
   * A lease: the database refuses the update with `Fenced` once anybody else was granted that lock, however late the update
   * arrives. Default none.
   */
  readonly fence?: F | undefined
}

/** The error of an update that presents a lease. */
export type FencedBy<F extends LockFence> = [F] extends [never] ? never : Fenced

/** Options of `modify`. */
export interface ModifyOptions<C extends Check = Check, F extends LockFence = LockFence> extends UpdateOptions<C, F> {
  /** How often to start over after losing a race. Default 100; the last mismatch is the error. */
  readonly retries?: number | undefined
  /** Whether this counts as activity. Default true. */
  readonly touch?: boolean | undefined
}

/** Options of `rotate`. */
export interface RotateOptions {
  /**
   * This user has just authenticated: the session becomes theirs, `authenticatedAt` is now, the limits start anew and
   * `maxSessionsPerUser` is enforced. A guest's attributes are kept, another user's are dropped. Default: nobody did, only the id changes.
   */
  readonly userId?: UserId | undefined
  /** For how long the old id is still accepted. Default 10 seconds; always none where the user changes. */
  readonly grace?: Duration.Input | undefined
  /** Values to set along with it. */
  readonly attributes?: ReadonlyArray<AttributeValue> | undefined
  /** With `userId`: the new absolute limit. Default `sessionLifetime`. */
  readonly expiresIn?: Duration.Input | undefined
  /** With `userId`: the new idle limit; "Infinity" means none. Default the setting `idleTimeout`. */
  readonly idleTimeout?: Duration.Input | undefined
}

/** Options of bulk deletions. */
export interface ExceptOptions {
  /** A session to keep: the caller's own, for "log out all other devices". */
  readonly except?: SessionKey | undefined
}

/** How the library is doing on this node. */
export interface SessionHealth {
  /** Whether sessions are served from memory. */
  readonly synced: boolean
  /** How far back this node's knowledge may be; infinite before the first beat and after a loss. */
  readonly staleness: Duration.Duration
  readonly listener: ListenerStatus
  readonly cache: {
    readonly size: number
    readonly capacity: number
    readonly hits: number
    readonly misses: number
    /** Entries dropped because something was announced, or might have been. */
    readonly invalidations: number
    /** Entries dropped for lack of room. */
    readonly evicted: number
    /** Ids remembered as absent. */
    readonly absent: number
  }
  readonly activity: {
    /** Sessions whose last access waits to be written. */
    readonly pending: number
    readonly written: number
    readonly failures: number
  }
  /** Updates that wait for a statement. */
  readonly pendingUpdates: number
  /** Sessions that are watched. */
  readonly watched: number
}

/** The operations on sessions. */
export interface Sessions {
  /**
   * Begins a session for a user who has just authenticated. Fails with `TooManySessions` only if `onSessionLimit` is
   * "reject".
   */
  readonly create: (
    userId: UserId,
    options?: CreateOptions
  ) => Effect.Effect<
    Session,
    TooManySessions | AttributeInvalid | AttributeTooLarge | SessionTooLarge | SessionStoreUnavailable
  >
  /** Begins a guest's session; `rotate` with a `userId` makes it a user's. */
  readonly createAnonymous: (
    options?: CreateOptions
  ) => Effect.Effect<Session, AttributeInvalid | AttributeTooLarge | SessionTooLarge | SessionStoreUnavailable>
  /** The session of an id, from memory where that is allowed. `None` for anything that is not a live session's id. */
  readonly find: (
    id: SessionId,
    options?: FindOptions
  ) => Effect.Effect<Option.Option<Session>, SessionStoreUnavailable>
  /** Like `find`; fails with `SessionNotFound`. */
  readonly get: (id: SessionId, options?: FindOptions) => Effect.Effect<Session, ReadError>
  /**
   * Writes the recorded changes, and answers the session as it now stands, with what others have changed. Nothing is
   * sent where nothing is recorded. A refused update has written nothing.
   */
  readonly update: <C extends Check = "attributes", F extends LockFence = never>(
    session: Session,
    options?: UpdateOptions<C, F>
  ) => Effect.Effect<Session, WriteError | Mismatch<C> | FencedBy<F>>
  /**
   * Reads, changes and writes, and starts over with the session as it stands when it lost a race. `f` may run more than
   * once. Its errors and services pass through.
   */
  readonly modify: <E = never, R = never, C extends Check = "attributes", F extends LockFence = never>(
    id: SessionId,
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyOptions<C, F>
  ) => Effect.Effect<Session, E | WriteError | Mismatch<C> | FencedBy<F>, R>
  /** Gives the session a new id, and optionally a user: on login, step-up, or regularly. The key, the data and the version go on. */
  readonly rotate: (
    id: SessionId,
    options?: RotateOptions
  ) => Effect.Effect<
    Session,
    SessionNotFound | TooManySessions | AttributeInvalid | AttributeTooLarge | SessionTooLarge | SessionStoreUnavailable
  >
  /** Ends a session by its id, or by a former id within its grace. No error when there is none. */
  readonly delete: (id: SessionId) => Effect.Effect<void, SessionStoreUnavailable>
  /** Ends a session by its public handle; answers whether there was one. Check first that the caller may. */
  readonly deleteByKey: (key: SessionKey) => Effect.Effect<boolean, SessionStoreUnavailable>
  /** Ends all sessions of a user, on every node; answers how many. */
  readonly deleteAllForUser: (userId: UserId, options?: ExceptOptions) => Effect.Effect<number, SessionStoreUnavailable>
  /** Ends all sessions of a group, on every node; answers how many. */
  readonly deleteAllForGroup: (
    groupId: GroupId,
    options?: ExceptOptions
  ) => Effect.Effect<number, SessionStoreUnavailable>
  /** Ends every session there is; answers how many. */
  readonly deleteAll: Effect.Effect<number, SessionStoreUnavailable>
  /** Removes an attribute from all sessions of a user; answers from how many. */
  readonly deleteAttributeForUser: <A, Missing>(
    userId: UserId,
    attribute: SessionAttribute<A, Missing>
  ) => Effect.Effect<number, SessionStoreUnavailable>
  /** The user's live sessions from the database, the latest login first: a list of devices. */
  readonly listForUser: (userId: UserId) => Effect.Effect<ReadonlyArray<SessionSummary>, SessionStoreUnavailable>
  /** Empties the cache of this node and, by a notification, of every other. */
  readonly clearCache: Effect.Effect<void, SessionStoreUnavailable>
  /** Drops a user's sessions from the cache of this node and, by a notification, of every other. */
  readonly clearCacheForUser: (userId: UserId) => Effect.Effect<void, SessionStoreUnavailable>
  /** Empties the cache of this node only. */
  readonly clearLocalCache: Effect.Effect<void>
  /**
   * The session now, then every newer state, until it ends; the stream then ends, too. A consumer that is slow gets the
   * latest state. Does not count as activity.
   */
  readonly watch: (id: SessionId) => Stream.Stream<Session, SessionStoreUnavailable>
  /** What this node does to sessions; see {@link SessionEvent}. A subscriber that falls 4 096 events behind loses the oldest. */
  readonly events: Stream.Stream<SessionEvent>
  /** Removes what has expired now instead of at the next `cleanupInterval`; answers how many sessions. Nothing where another node does it. */
  readonly sweep: Effect.Effect<number, SessionStoreUnavailable>
  /** Writes gathered activity now instead of at the next `lastAccessFlushInterval`. */
  readonly flushActivity: Effect.Effect<void, SessionStoreUnavailable>
  /** How the library is doing on this node. */
  readonly health: Effect.Effect<SessionHealth>
}

/**
 * Sessions, as a service.
 *
 * @example
 * ```ts
 * const program = Effect.gen(function*() {
 *   const sessions = yield* SessionStore
 *   const session = yield* sessions.create(UserId.make("alice"))
 *   const again = yield* sessions.get(session.id)
 * })
 * program.pipe(Effect.provide(PgSessionLive))
 * ```
 */
export class SessionStore extends Context.Service<SessionStore, Sessions>()("@effect-pg-session/core/SessionStore") {
  /**
   * The store on a storage and a notifier. Its fibers end with its scope: intake stops, pending writes and activity are
   * written, then the connections close.
   */
  static readonly layer: Layer.Layer<SessionStore, never, SessionConfig | SessionStorage | SessionNotifier> =
    Layer.effect(
      SessionStore,
      Effect.gen(function* () {
        return yield* Store.make(
          yield* SessionCache,
          yield* SessionStorage,
          yield* SessionNotifier,
          yield* SessionConfig,
          yield* NoticeBoard
        )
      })
    ).pipe(Layer.provide([Layer.fresh(SessionCache.layer), NoticeBoard.layer]))

  /**
   * Everything in this process's memory, for tests and small programs: the whole protocol, no database. Its clock is
   * Effect's `Clock`, so `TestClock` moves it. Fails with `InvalidSessionConfig`.
   */
  static readonly layerMemory = (options?: SessionOptions): Layer.Layer<SessionStore, InvalidSessionConfig> =>
    SessionStore.layer.pipe(
      Layer.provide(SessionConfig.layer(options)),
      Layer.provide([MemoryStorage.layer, MemoryNotifier.layer]),
      Layer.provide(MemoryDatabase.layer)
    )
}
