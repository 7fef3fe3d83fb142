/**
 * What this node did to sessions, for audit logs and for reacting to it. Every
 * event is published by exactly one node, the one whose statement did it: to see
 * all, subscribe on every node. To follow one session wherever it is changed, use
 * `SessionStore.watch`.
 */
import type { GroupId, SessionKey, UserId } from "./SessionId.ts"

/** An event; none carries a secret or an attribute's value. `userId` is `undefined` for guests. */
export type SessionEvent =
  /** A session began. */
  | { readonly _tag: "Created"; readonly key: SessionKey; readonly userId: UserId | undefined }
  /** A session was changed. */
  | {
      readonly _tag: "Updated"
      readonly key: SessionKey
      readonly version: bigint
      /** The names of the attributes that were set or removed. */
      readonly attributes: ReadonlyArray<string>
    }
  /** A session got a new id; `login` tells whether a user authenticated. */
  | { readonly _tag: "Rotated"; readonly key: SessionKey; readonly userId: UserId | undefined; readonly login: boolean }
  /** A session was ended. */
  | { readonly _tag: "Deleted"; readonly key: SessionKey; readonly by: DeletedBy }
  /** A session was ended to make room for another login of its user. */
  | { readonly _tag: "Evicted"; readonly key: SessionKey; readonly userId: UserId }
  /** A sweep removed a session whose deadline had passed: exactly one such event per session, on whichever node's sweep found it. */
  | { readonly _tag: "Expired"; readonly key: SessionKey; readonly userId: UserId | undefined }
  /** Somebody presented a former secret after its grace: it may have been stolen. The session itself goes on. */
  | { readonly _tag: "SecretReused"; readonly key: SessionKey }

/** Which operation ended a session. */
export type DeletedBy =
  | { readonly _tag: "Session" }
  | { readonly _tag: "User"; readonly userId: UserId }
  | { readonly _tag: "Group"; readonly groupId: GroupId }
  | { readonly _tag: "All" }
