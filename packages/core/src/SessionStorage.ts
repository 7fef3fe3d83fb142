/**
 * The port to a database: what it must provide so that sessions can be kept in
 * it. It knows nothing of caches and notifications' meaning; `SessionStore`
 * composes it with them.
 *
 * The contract, which `testing/SessionStorageConformance.ts` checks:
 *
 * - **Time is the database's.** Every answer carries `now`, the database's clock
 *   in milliseconds since the epoch when the statement looked at its rows, and
 *   all points in time are on that clock. Lifetimes are given as durations.
 * - **Expired means absent.** A session whose absolute or idle deadline has
 *   passed is not loaded, written, touched, rotated or listed, whether or not a
 *   sweep has removed it. A passed deadline is final.
 * - **One version.** Every accepted write increments the session's version; an
 *   attribute carries the version at which it was last written. Touches change
 *   neither.
 * - **Atomic and durable.** An operation either happened, with its notifications,
 *   or it did not; what was acknowledged survives a crash. Notifications are
 *   sent by the statement that makes the change.
 * - **Autocommit.** Operations run outside of any transaction of the caller.
 * - **Not found is not an error.** Errors are for the system: an operation fails
 *   with `SessionStoreUnavailable` only, with `outcome: "Unknown"` where a change may
 *   have been applied.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { SessionStoreUnavailable } from "./SessionError.ts"
import type { GroupId, SecretHash, SessionKey, UserId } from "./SessionId.ts"
import type { LockFence } from "./SessionLockStorage.ts"
import type { SessionRow } from "./SessionRow.ts"

export type { SessionRow, StoredAttribute } from "./SessionRow.ts"

/** What every answer carries. */
export interface Answer {
  /** The database's clock; see `Storage.load` for an answer that may lack it. */
  readonly now: number
}

/** Rows in any order; keys without a live session have none. */
export interface Rows extends Answer {
  readonly rows: ReadonlyArray<SessionRow>
}

/** A value to be stored under an attribute's name. */
export interface AttributeWrite {
  readonly name: string
  /** JSON text. */
  readonly value: string
  /** Milliseconds from now; `undefined`: as long as the session. */
  readonly timeToLive: number | undefined
}

/** How many sessions a user may have, and what happens when there are more. */
export interface SessionLimit {
  readonly max: number
  /** `"evictOldest"` ends those whose user logged in the longest ago; `"reject"` refuses the new one. */
  readonly onLimit: "evictOldest" | "reject"
}

/** A session to be inserted. */
export interface CreateRequest {
  readonly key: SessionKey
  readonly secretHash: SecretHash
  /** `undefined` creates a guest. */
  readonly userId: UserId | undefined
  readonly groupId: GroupId | undefined
  /** Milliseconds until the absolute limit. */
  readonly lifetime: number
  /** Milliseconds; `undefined`: none. */
  readonly idleTimeout: number | undefined
  readonly attributes: ReadonlyArray<AttributeWrite>
  /** Enforced for users, exactly, however many logins race on however many nodes. */
  readonly limit: SessionLimit
}

/** A session that was ended to make room. */
export interface EvictedSession {
  readonly key: SessionKey
  readonly userId: UserId
}

export type CreateOutcome =
  | { readonly _tag: "Created"; readonly row: SessionRow; readonly evicted: ReadonlyArray<EvictedSession> }
  | { readonly _tag: "TooManySessions" }

/** What `tryCreate` answers for a session. `Undone`: nothing was done about it, and `create` will tell why. */
export type TryCreateOutcome = CreateOutcome | { readonly _tag: "Undone" }

/** A change of one session. It counts as activity, and increments the version in any case; a name in both `set` and `remove` is set. */
export interface WriteRequest {
  readonly key: SessionKey
  /** Accepted when it is the row's hash, or its former one within the grace. */
  readonly proof: SecretHash
  /** The version that the caller has: where it is the current one, the row need not be sent back. */
  readonly baseVersion: bigint
  /**
   * The session's attributes at `baseVersion`, all of them, where the caller has them: a storage may then know what becomes of
   * them without asking. Default: unknown.
   */
  readonly baseAttributes?: SessionRow["attributes"] | undefined
  /** Refuse unless the session has this version. */
  readonly expectedVersion: bigint | undefined
  /** Refuse unless these attributes were last written at these versions; 0: absent or expired. */
  readonly expectedAttributes: ReadonlyArray<readonly [name: string, version: bigint]>
  readonly set: ReadonlyArray<AttributeWrite>
  readonly remove: ReadonlyArray<string>
  /** `null` takes the session out of its group; `undefined` leaves it. */
  readonly groupId: GroupId | null | undefined
  /** A new absolute limit, in milliseconds from now; `undefined` leaves it. */
  readonly lifetime: number | undefined
  /** A new idle limit in milliseconds; `null`: none; `undefined` leaves it. */
  readonly idleTimeout: number | null | undefined
  /** `false`: other nodes are not told, unless a limit became shorter or the group changed. */
  readonly notify: boolean
  /** Refuse when all encoded values and their names, without expired ones, would take more bytes than this. */
  readonly maxBytes: number
  /**
   * Refuse unless this is the latest grant of its lock, or of one of its permits. Looked up while the lock is kept from being
   * granted until the write has been committed, so that whoever is granted it next sees the write.
   */
  readonly fence: LockFence | undefined
}

export type WriteOutcome =
  /**
   * Done. `row` is the session as it now stands; it is left out only where `baseVersion` was current and neither limits
   * nor group were changed, because the caller can then compute it: `now` is the time that attribute lifetimes count from.
   */
  | { readonly _tag: "Accepted"; readonly version: bigint; readonly now: number; readonly row: SessionRow | undefined }
  /** Absent, expired, or the proof is not accepted. */
  | { readonly _tag: "Gone" }
  /** Somebody else was granted the lock since; checked before the versions. */
  | { readonly _tag: "Fenced" }
  | { readonly _tag: "VersionMismatch"; readonly row: SessionRow }
  /** `actual` is 0 where the attribute is absent or expired. */
  | {
      readonly _tag: "AttributeVersionMismatch"
      readonly attribute: string
      readonly actual: bigint
      readonly row: SessionRow
    }
  | { readonly _tag: "TooLarge"; readonly bytes: number }

/** What `tryWrite` answers for a change. */
export type TryOutcome =
  | WriteOutcome
  /** Somebody else has locked the session. */
  | { readonly _tag: "Busy" }
  /** The statement for this change failed, and others did not. */
  | { readonly _tag: "Unavailable"; readonly error: SessionStoreUnavailable }

/** Activity of one session. */
export interface Touch {
  readonly key: SessionKey
  /** How long ago it was used, in milliseconds. */
  readonly age: number
}

/** What the database now holds as the last access of a live session. */
export interface Touched {
  readonly key: SessionKey
  readonly lastAccessedAt: number
}

/**
 * A new secret for a session and, optionally, a user who has just authenticated. It counts as activity; the hash that it
 * replaces becomes the former one. A refused rotation changes nothing and evicts nobody.
 */
export interface RotateRequest {
  readonly key: SessionKey
  readonly proof: SecretHash
  readonly secretHash: SecretHash
  /** For how long the old secret is still accepted, in milliseconds; taken as 0 where the user changes. */
  readonly grace: number
  /**
   * Given: this user has just authenticated. `authenticatedAt` becomes now and the limits start anew from `lifetime` and
   * `idleTimeout`; the attributes of another user are dropped, a guest's are kept; `limit` is enforced if the user changes.
   */
  readonly login:
    | {
        readonly userId: UserId
        readonly lifetime: number
        readonly idleTimeout: number | undefined
        readonly limit: SessionLimit
      }
    | undefined
  readonly set: ReadonlyArray<AttributeWrite>
  readonly maxBytes: number
}

export type RotateOutcome =
  | { readonly _tag: "Rotated"; readonly row: SessionRow; readonly evicted: ReadonlyArray<EvictedSession> }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "TooManySessions" }
  | { readonly _tag: "TooLarge"; readonly bytes: number }

/**
 * Which sessions to end. Those whose deadline has passed are left to the sweep, so that each is reported by exactly one
 * statement. A bulk ending announces its user, group, or all; with `except` it announces each key.
 */
export type DeleteTarget =
  /** One session; with a proof only if that is accepted (see {@link WriteRequest}). */
  | { readonly _tag: "Session"; readonly key: SessionKey; readonly proof: SecretHash | undefined }
  | { readonly _tag: "User"; readonly userId: UserId; readonly except: SessionKey | undefined }
  | { readonly _tag: "Group"; readonly groupId: GroupId; readonly except: SessionKey | undefined }
  | { readonly _tag: "All" }

/** Sessions that were ended by the statement that answers this; each is reported by exactly one statement anywhere. */
export interface Deleted extends Answer {
  readonly keys: ReadonlyArray<SessionKey>
  /** There are more: an ending of very many sessions is done in parts, each with its notification. Ask again. */
  readonly more: boolean
}

/** A session and the version it now has. */
export interface KeyVersion {
  readonly key: SessionKey
  readonly version: bigint
}

/** What a node must know of a session to go on serving its copy. */
export interface Revalidated extends KeyVersion {
  readonly lastAccessedAt: number
  readonly expiresAt: number
  readonly idleTimeout: number | undefined
}

/** One batch of a sweep. */
export interface SweepRequest {
  /** Where the last batch ended; `undefined` starts at the beginning. */
  readonly after: SessionKey | undefined
  /** How many rows to look at, at most. */
  readonly limit: number
}

export type SweepOutcome =
  /** Another node is sweeping. */
  | { readonly _tag: "Busy" }
  | {
      readonly _tag: "Swept"
      /** Ended because a deadline had passed; each is reported by exactly one sweep anywhere. */
      readonly expired: ReadonlyArray<{ readonly key: SessionKey; readonly userId: UserId | undefined }>
      /** Sessions that lost expired attributes, and their new versions. */
      readonly purged: ReadonlyArray<KeyVersion>
      /** Where to go on; `undefined`: the sweep is complete. */
      readonly next: SessionKey | undefined
    }

/** The operations of the port; see the module for what holds for all of them. */
export interface Storage {
  /** The live sessions among `keys`. Where keys were given and none of them has a row, the clock may be unknown: `-Infinity`. */
  readonly load: (keys: ReadonlyArray<SessionKey>) => Effect.Effect<Rows, SessionStoreUnavailable>
  /** A key that exists already fails with `DatabaseError` and leaves the session as it is. */
  readonly create: (request: CreateRequest) => Effect.Effect<Answer & CreateOutcome, SessionStoreUnavailable>
  /**
   * Creates as if one after the other; outcomes in the order of the requests. What would have to wait for somebody, or fails, is left
   * undone, as may be whatever is better done by itself, so that no session is the others' trouble.
   */
  readonly tryCreate: (
    requests: ReadonlyArray<CreateRequest>
  ) => Effect.Effect<Answer & { readonly outcomes: ReadonlyArray<TryCreateOutcome> }, SessionStoreUnavailable>
  /** Applies each change by itself: outcomes in the order of the requests, which must be of different sessions. */
  readonly write: (
    requests: ReadonlyArray<WriteRequest>
  ) => Effect.Effect<Answer & { readonly outcomes: ReadonlyArray<WriteOutcome> }, SessionStoreUnavailable>
  /**
   * Like `write`, without waiting for sessions that somebody else has locked: they are left alone, and answered with `Busy`. Where
   * it takes several statements, and one of them fails, its changes are answered with `Unavailable`.
   */
  readonly tryWrite: (
    requests: ReadonlyArray<WriteRequest>
  ) => Effect.Effect<Answer & { readonly outcomes: ReadonlyArray<TryOutcome> }, SessionStoreUnavailable>
  /** Sets last accesses to the larger of what is stored and what is given. Sessions that are not live are left out of the answer. */
  readonly touch: (
    touches: ReadonlyArray<Touch>
  ) => Effect.Effect<Answer & { readonly touched: ReadonlyArray<Touched> }, SessionStoreUnavailable>
  readonly rotate: (request: RotateRequest) => Effect.Effect<Answer & RotateOutcome, SessionStoreUnavailable>
  readonly delete: (target: DeleteTarget) => Effect.Effect<Deleted, SessionStoreUnavailable>
  /** Removes an attribute from all sessions of a user, which is no activity; answers the sessions that had it. */
  readonly deleteAttribute: (
    userId: UserId,
    name: string
  ) => Effect.Effect<Answer & { readonly changed: ReadonlyArray<KeyVersion> }, SessionStoreUnavailable>
  /** The user's live sessions, the latest login first. */
  readonly list: (userId: UserId) => Effect.Effect<Rows, SessionStoreUnavailable>
  /** The live sessions among `keys`, without their data. */
  readonly revalidate: (
    keys: ReadonlyArray<SessionKey>
  ) => Effect.Effect<Answer & { readonly sessions: ReadonlyArray<Revalidated> }, SessionStoreUnavailable>
  /** Ends sessions whose deadline has passed and purges expired attributes, one batch at a time, one node at a time. */
  readonly sweep: (request: SweepRequest) => Effect.Effect<Answer & SweepOutcome, SessionStoreUnavailable>
  /** Tells every node to drop what it has cached: of one user, or everything. */
  readonly announceClear: (userId: UserId | undefined) => Effect.Effect<void, SessionStoreUnavailable>
}

/** The service of the port. `@effect-pg-session/pg` and the memory layers provide it. */
export class SessionStorage extends Context.Service<SessionStorage, Storage>()(
  "@effect-pg-session/core/SessionStorage"
) {}
