/**
 * The port to a database that keeps locks. `SessionLocks` builds leases, waiting
 * and heartbeats on it.
 *
 * The contract, which `testing/SessionLockStorageConformance.ts` checks:
 *
 * - **Time is the database's.** A lease has expired when the database's clock, read while the
 *   lock's row is locked, is at or beyond its end. Durations go in; answers carry `now`.
 * - **Tokens only grow.** Every grant has a token larger than all tokens that any lock was granted with
 *   before, for ever: across releases, restarts and the removal of unused rows.
 * - **A grant belongs to its owner**, a nonce that is new for each acquisition. Only the owner can extend
 *   or release it. Asking again with the same owner answers the same grant, so that a lost answer can be asked for.
 * - **A lock has permits**: it is granted while fewer than `permits` leases of it run.
 * - **Waiting nodes take turns.** A refused request that waits puts its node at the end of the lock's queue, once. When a
 *   permit becomes free, it is kept for the first node of the queue for the time of its `turn`, and a `LockFreed` notice names that node;
 *   after that anybody may have it. An expired lease is followed by such a turn as well, without a notice.
 * - **A tied lock ends with its session**: it is neither granted nor extended when the session is not live, and
 *   what was kept of it goes with the session's row.
 * - **Durable, autocommit**, and errors are for the system, as in `SessionStorage`. Locks never change a session or its version.
 */
import type * as Brand from "effect/Brand"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { SessionStoreUnavailable } from "./SessionError.ts"
import type { SessionKey } from "./SessionId.ts"
import type { Answer } from "./SessionStorage.ts"

/** The name of a lock in the database: 1 to 278 characters that PostgreSQL's `text` can hold. */
export type LockKey = string & Brand.Brand<"LockKey">

/** A lock, and the token of one of its grants. */
export interface LockFence {
  readonly lock: LockKey
  readonly token: bigint
}

/** A request for a lock. */
export interface AcquireLockRequest {
  readonly lock: LockKey
  /** The session that the lock is tied to; `undefined`: none. */
  readonly session: SessionKey | undefined
  /** A nonce of this acquisition. */
  readonly owner: string
  /** Who asks, for others to see and for the queue: at most 96 characters without line breaks. */
  readonly node: string
  /** How many may hold the lock at once. */
  readonly permits: number
  /** In milliseconds. */
  readonly leaseTime: number
  /**
   * What becomes of the node's place in the queue. `"none"`: it has none, and gets none when it is refused. `"wait"`: it is put
   * into the queue when it is refused, and taken out when it is granted. `"waitAgain"`: the same, but when it is granted it goes to the end of the queue, because
   * others on this node wait.
   */
  readonly queue: "none" | "wait" | "waitAgain"
  /** For how long a free permit is kept for the first node of the queue, in milliseconds. */
  readonly turn: number
}

export type AcquireLockOutcome =
  | {
      readonly _tag: "Granted"
      readonly token: bigint
      /** The end of the lease, on the database's clock. */
      readonly expiresAt: number
    }
  | {
      readonly _tag: "Held"
      /** Who holds the permit whose lease ends first, or is the next to get it. */
      readonly node: string
      /** When that lease, or that turn, ends, unless it is extended. */
      readonly until: number
      /** When it is worth asking again, if nothing is heard before. */
      readonly retryAt: number
    }
  /** The session that the lock is tied to has ended. */
  | { readonly _tag: "SessionGone" }

/** Names a grant. */
export interface GrantedLock extends LockFence {
  readonly owner: string
}

/** A request for a longer lease. */
export interface ExtendLockRequest extends GrantedLock {
  readonly session: SessionKey | undefined
  /** In milliseconds from now. A lease never becomes shorter. */
  readonly leaseTime: number
}

export type ExtendLockOutcome =
  | { readonly _tag: "Extended"; readonly expiresAt: number }
  /** It has expired, was released, or its session has ended; whether or not anybody else was granted it. */
  | { readonly _tag: "Lost" }

/** The operations of the port; see the module for what holds for all of them. */
export interface LockStorage {
  readonly acquire: (request: AcquireLockRequest) => Effect.Effect<Answer & AcquireLockOutcome, SessionStoreUnavailable>
  readonly extend: (request: ExtendLockRequest) => Effect.Effect<Answer & ExtendLockOutcome, SessionStoreUnavailable>
  /**
   * Frees what the owner was granted, and tells the first waiting node. Answers whether the lease was still the owner's and had not
   * expired; nothing else is an error.
   */
  readonly release: (
    lock: LockKey,
    owner: string
  ) => Effect.Effect<Answer & { readonly released: boolean }, SessionStoreUnavailable>
  /** Takes a node out of a lock's queue; where it was its turn, the next node is told. */
  readonly leave: (lock: LockKey, node: string) => Effect.Effect<void, SessionStoreUnavailable>
  /** Removes up to `limit` locks whose last lease ended at least `unusedFor` milliseconds ago. Answers how many. */
  readonly sweep: (request: {
    readonly unusedFor: number
    readonly limit: number
  }) => Effect.Effect<Answer & { readonly removed: number }, SessionStoreUnavailable>
}

/** The service of the port. `@effect-pg-session/pg` and the memory layers provide it. */
export class SessionLockStorage extends Context.Service<SessionLockStorage, LockStorage>()(
  "@effect-pg-session/core/SessionLockStorage"
) {}
