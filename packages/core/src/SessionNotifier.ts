/**
 * The port to a database's notifications: changes and beats, in commit order.
 *
 * The contract, which `testing/SessionNotifierConformance.ts` checks:
 *
 * - A connection delivers every notice that was committed after `connect` had
 *   answered, in the order of the commits, or it fails. It never skips one.
 * - A beat is delivered to every connection like any other notice, after all
 *   notices committed before it. It proves that both ways work: it takes the way that queries
 *   take, on a connection of its own, and commits a row, so that a server that can no longer commit cannot confirm it.
 * - What is delivered is a hint: anybody who may connect to the database can forge
 *   it. A receiver may drop what it has in memory because of a notice, and must believe nothing else.
 * - The buffer between the database and `take` is bounded; when it overflows, the
 *   connection fails.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { LockKey } from "./SessionLockStorage.ts"
import type { SessionStoreUnavailable } from "./SessionError.ts"
import type { GroupId, SessionKey, UserId } from "./SessionId.ts"

/** What happened to a session, for those who watch events; a hint like everything else in a notice. */
export type ChangeKind = "Updated" | "Rotated" | "Deleted" | "Expired" | "Evicted"

/** One session has a new version, or is gone. */
export interface Change {
  readonly key: SessionKey
  readonly kind: ChangeKind
  /** The version it now has; `undefined`: it is gone. */
  readonly version: bigint | undefined
}

export type Notice =
  | { readonly _tag: "Changes"; readonly changes: ReadonlyArray<Change> }
  /** All sessions of a user were ended, or should be dropped from memory. */
  | { readonly _tag: "User"; readonly userId: UserId }
  | { readonly _tag: "Group"; readonly groupId: GroupId }
  /** All sessions were ended, or should be dropped from memory. */
  | { readonly _tag: "All" }
  | { readonly _tag: "Beat"; readonly nonce: string }
  /** A lock, or a permit of it, is free; for the time of its turn it is kept for this waiting node. */
  | { readonly _tag: "LockFreed"; readonly lock: LockKey; readonly node: string }
  /** Somebody sent something that is not ours. */
  | { readonly _tag: "Unreadable" }

/** Which server answered: another value means other data, or data that may have lost commits. */
export interface Server {
  /** System identifier, timeline and start time, as one comparable text. */
  readonly identity: string
  /** A server in recovery accepts no writes and no LISTEN. */
  readonly inRecovery: boolean
}

/** A confirmed subscription; it ends with its scope. */
export interface Connection {
  /** The server that it listens to. */
  readonly server: Server
  /** The next notices, at least one, in commit order; waits for them. Fails when the connection broke or its buffer overflowed. */
  readonly take: Effect.Effect<ReadonlyArray<Notice>, SessionStoreUnavailable>
}

/** The answer to a beat, which says what server the query connections reach. */
export interface BeatAnswer {
  /** The database's clock, in milliseconds since the epoch. */
  readonly now: number
  readonly server: Server
}

/** The operations of the port. */
export interface Notifier {
  /** Subscribes. Where it would never deliver anything (a server in recovery), it fails and says why. */
  readonly connect: Effect.Effect<Connection, SessionStoreUnavailable, Scope.Scope>
  /** Sends a beat. `node` names this node's row; `nonce` comes back in the notice. */
  readonly beat: (node: string, nonce: string) => Effect.Effect<BeatAnswer, SessionStoreUnavailable>
}

/** The service of the port. `@effect-pg-session/pg` and the memory layers provide it. */
export class SessionNotifier extends Context.Service<SessionNotifier, Notifier>()(
  "@effect-pg-session/core/SessionNotifier"
) {}
