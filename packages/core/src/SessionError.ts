/**
 * Every error of the library. Each has a `message` that says what happened and
 * what to do next, and fields a program can decide by. None of them carries a
 * secret, an attribute's value or a raw database error: they may be logged as
 * they are.
 */
import * as Data from "effect/Data"
import { UntracedError } from "./internal/UntracedError.ts"
import * as Duration from "effect/Duration"
import type { Session } from "./Session.ts"
import { keyPrefix } from "./SessionId.ts"
import type { SessionKey, UserId } from "./SessionId.ts"

/**
 * The session does not exist, has expired, was ended, or the id presented for it
 * is not (or no longer) valid. The library does not say which: the difference
 * would help somebody who guesses ids.
 */
export class SessionNotFound extends UntracedError("SessionNotFound")<{
  /** The public handle; absent when what was presented is not a session id at all. */
  readonly key: SessionKey | undefined
}> {
  override get message(): string {
    return this.key === undefined
      ? "What was presented is not a session id: treat the caller as not logged in"
      : `Session ${keyPrefix(this.key)} does not exist, has expired or was ended: treat the caller as not logged in`
  }
}

/** A `check: "session"` update lost a race: somebody changed the session since it was read. Nothing was written. */
export class VersionMismatch extends UntracedError("VersionMismatch")<{
  readonly key: SessionKey
  /** The version the caller had read. */
  readonly expected: bigint
  /** The version that stands now. */
  readonly actual: bigint
  /** The session as it stands now, to apply the change to again. */
  readonly current: Session
}> {
  override get message(): string {
    return `Session ${keyPrefix(
      this.key
    )} is at version ${this.actual}, but the change was made on version ${this.expected}: apply it again to \`current\`, or use \`modify\``
  }
}

/** An update lost a race for an attribute that it writes: somebody wrote it since it was read. Nothing was written. */
export class AttributeVersionMismatch extends UntracedError("AttributeVersionMismatch")<{
  readonly key: SessionKey
  readonly attribute: string
  /** The session version at which the caller had seen the attribute written last; 0 means it was absent. */
  readonly expected: bigint
  /** The session version at which it was really written last; 0 means it is absent. */
  readonly actual: bigint
  /** The session as it stands now, to apply the change to again. */
  readonly current: Session
}> {
  override get message(): string {
    const state = this.actual === 0n ? "was removed" : `was written at version ${this.actual}`
    const seen = this.expected === 0n ? "was absent" : `was of version ${this.expected}`
    return `Attribute "${this.attribute}" of session ${keyPrefix(
      this.key
    )} ${state} after it had been read, when it ${seen}: apply the change again to \`current\`, or use \`modify\``
  }
}

/** The session has no such attribute, or it has expired. */
export class AttributeNotFound extends UntracedError("AttributeNotFound")<{
  readonly attribute: string
}> {
  override get message(): string {
    return `The session has no attribute "${this.attribute}" (or it has expired): set it, or give the attribute an \`initial\` value`
  }
}

/**
 * A value does not fit its attribute's schema. Reading: what is stored was
 * written with another schema; the rest of the session stays usable. Writing:
 * the value cannot be encoded, and nothing was written.
 */
export class AttributeInvalid extends Data.TaggedError("AttributeInvalid")<{
  readonly attribute: string
  readonly operation: "decode" | "encode"
  /** Where and why, in words, without the value. */
  readonly issue: string
}> {
  override get message(): string {
    return this.operation === "decode"
      ? `The stored value of attribute "${this.attribute}" does not fit its schema (${this.issue}): widen the schema, or set or remove the attribute`
      : `The value for attribute "${this.attribute}" cannot be stored (${this.issue}): give the attribute a schema that encodes it`
  }
}

/** An encoded value is larger than `maxAttributeBytes`. Nothing was written. */
export class AttributeTooLarge extends Data.TaggedError("AttributeTooLarge")<{
  readonly attribute: string
  /** The size of the encoded value, in bytes. */
  readonly bytes: number
  /** The setting `maxAttributeBytes`. */
  readonly limit: number
}> {
  override get message(): string {
    return `The value for attribute "${this.attribute}" takes ${this.bytes} bytes, of which ${this.limit} are allowed: store it elsewhere and keep a reference, or raise maxAttributeBytes`
  }
}

/** All attributes together would be larger than `maxSessionBytes`. Nothing was written. */
export class SessionTooLarge extends Data.TaggedError("SessionTooLarge")<{
  readonly key: SessionKey | undefined
  /** The size that all encoded values and their names would have, in bytes. */
  readonly bytes: number
  /** The setting `maxSessionBytes`. */
  readonly limit: number
}> {
  override get message(): string {
    return `The session's attributes would take ${this.bytes} bytes, of which ${this.limit} are allowed: remove some, or raise maxSessionBytes`
  }
}

/** The user has `maxSessionsPerUser` sessions already, and `onSessionLimit` is "reject". */
export class TooManySessions extends UntracedError("TooManySessions")<{
  readonly userId: UserId
  readonly limit: number
}> {
  override get message(): string {
    return `The user has ${this.limit} sessions, which is the limit: end one (listForUser, deleteByKey), raise maxSessionsPerUser, or set onSessionLimit to "evictOldest"`
  }
}

/** Somebody else holds the lock, and the caller did not want to wait. */
export class LockAlreadyHeld extends UntracedError("LockAlreadyHeld")<{
  /** The lock's name. */
  readonly resource: string
  /** The node that holds it (the setting `nodeName`), or whose turn it is; never a user. */
  readonly node: string
  /** For how long that lease still runs, unless it is extended. */
  readonly remaining: Duration.Duration
}> {
  override get message(): string {
    return `The lock "${this.resource}" is held by node ${this.node} for another ${print(this.remaining)}, unless that is extended: try again later, or wait for it with the option \`wait\``
  }
}

/** The lock could not be had in the time that the caller wanted to wait. */
export class LockTimeout extends UntracedError("LockTimeout")<{
  readonly resource: string
  /** For how long the caller waited. */
  readonly waited: Duration.Duration
  /** The node that held the lock when it was last asked for; `undefined` where others of this node were before. */
  readonly node: string | undefined
}> {
  override get message(): string {
    const holder = this.node === undefined ? "others were waiting before" : `node ${this.node} held it`
    return `The lock "${this.resource}" could not be had within ${print(this.waited)} (${holder}): wait longer, or do without`
  }
}

/**
 * A lease ended before its holder released it. The holder's work was interrupted: what it had not finished may be done by
 * another holder, and what it still writes is refused only where the lease's token is checked (`fence`).
 */
export class LockLost extends UntracedError("LockLost")<{
  readonly resource: string
  readonly token: bigint
  /**
   * - `"Expired"`: it could not be extended in time: this process was paused, or the database could not be reached;
   * - `"Ended"`: the database says that it is over: it expired there, or the session that it is tied to has ended;
   * - `"Closed"`: the library is shutting down.
   */
  readonly reason: "Expired" | "Ended" | "Closed"
}> {
  override get message(): string {
    const why = {
      Expired: "it could not be extended in time",
      Ended: "the database says that it is over",
      Closed: "the session layer is closing"
    }[this.reason]
    return `The lock "${this.resource}" was lost (${why}), and the work under it was interrupted: acquire it again and start from what is stored`
  }
}

/** An update presented a lease that is not the latest of its lock: somebody else was granted it since. Nothing was written. */
export class Fenced extends UntracedError("Fenced")<{
  readonly key: SessionKey
  readonly resource: string
  /** The token that was presented. */
  readonly token: bigint
}> {
  override get message(): string {
    return `The update of session ${keyPrefix(this.key)} was refused, because the lock "${this.resource}" was granted again after token ${this.token}: acquire the lock anew and start from what is stored`
  }
}

/** Why {@link SessionStoreUnavailable} happened. */
export type UnavailableReason =
  /** No connection could be had, or it broke. */
  | "Unreachable"
  /** The database did not answer within the statement timeout. */
  | "Timeout"
  /** More operations are waiting than the library allows; the database is too slow for the load. */
  | "Overloaded"
  /** The database answered with an error that is neither the caller's nor ours to repair. */
  | "DatabaseError"
  /** The layer's scope is closing or closed. */
  | "Closed"

const unavailableAdvice: Record<UnavailableReason, string> = {
  Unreachable: "check that PostgreSQL runs and that the connection settings reach it",
  Timeout: "check PostgreSQL's load and locks, or raise statementTimeout",
  Overloaded: "PostgreSQL is too slow for this load; slow down or add capacity",
  DatabaseError: "the detail says what it was",
  Closed: "the session layer was shut down; do not use it after its scope has closed"
}

/**
 * PostgreSQL could not be asked. After a write, `outcome` says whether it may
 * have been applied: `"NotApplied"` can be tried again; after `"Unknown"` read the
 * session first, because the library never sends a write twice by itself.
 */
export class SessionStoreUnavailable extends UntracedError("SessionStoreUnavailable")<{
  /** What was attempted, such as "update". */
  readonly operation: string
  readonly reason: UnavailableReason
  readonly outcome: "NotApplied" | "Unknown"
  /** The cause in words: an SQLSTATE and PostgreSQL's primary message, never a row or a parameter. */
  readonly detail: string
}> {
  override get message(): string {
    const outcome =
      this.outcome === "Unknown"
        ? " It is unknown whether the change was applied: read the session again before you repeat it."
        : ""
    return `The session store could not ${this.operation} (${this.detail}): ${unavailableAdvice[this.reason]}.${outcome}`
  }
}

/** Tables, columns or functions that the library needs are not in the database, and `migrations` is not "run". */
export class SessionSchemaMissing extends Data.TaggedError("SessionSchemaMissing")<{
  readonly schemaName: string
  /** What is missing, such as `table "public"."sessions"`. */
  readonly missing: ReadonlyArray<string>
}> {
  override get message(): string {
    return `The database lacks ${this.missing.join(
      ", "
    )}: run the library once with migrations: "run" as a role that may create them, or apply docs/schema.sql yourself`
  }
}

/** A setting has a value that cannot work. Raised when the layer is built, before anything is touched. */
export class InvalidSessionConfig extends Data.TaggedError("InvalidSessionConfig")<{
  /** The setting's name, such as `maxStaleness`. */
  readonly setting: string
  /** The value given, as text; secrets are redacted. */
  readonly value: string
  /** What is allowed, in words. */
  readonly allowed: string
}> {
  override get message(): string {
    return `The setting ${this.setting} is ${this.value}, but must be ${this.allowed}`
  }
}

/** What a read can fail with. */
export type ReadError = SessionNotFound | SessionStoreUnavailable

/** What a write can fail with, besides the mismatch its check asks for. */
export type WriteError =
  | SessionNotFound
  | AttributeInvalid
  | AttributeTooLarge
  | SessionTooLarge
  | SessionStoreUnavailable

const print = (duration: Duration.Duration): string =>
  Duration.format(Duration.millis(Math.round(Duration.toMillis(duration))))
