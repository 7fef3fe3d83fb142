/**
 * A session as a database keeps it: what `SessionStorage` answers and what the
 * cache is made of.
 */
import type { GroupId, SecretHash, SessionKey, UserId } from "./SessionId.ts"

/** An attribute as stored. */
export interface StoredAttribute {
  /** JSON text, opaque to the database. */
  readonly value: string
  /** The session version at which it was last written. */
  readonly version: bigint
  /** When it ends, on the database's clock; `undefined`: with its session. */
  readonly expiresAt: number | undefined
}

/** A session as stored. Points in time are milliseconds on the database's clock. */
export interface SessionRow {
  readonly key: SessionKey
  readonly secretHash: SecretHash
  /** The hash that the last rotation replaced. */
  readonly formerHash: SecretHash | undefined
  /** Until when the former secret is accepted. */
  readonly formerUntil: number | undefined
  /** `undefined` for a guest. */
  readonly userId: UserId | undefined
  readonly groupId: GroupId | undefined
  readonly version: bigint
  readonly createdAt: number
  /** When the user last proved who they are; `undefined` for a guest. */
  readonly authenticatedAt: number | undefined
  readonly lastAccessedAt: number
  /** The absolute limit. */
  readonly expiresAt: number
  /** The idle limit in milliseconds; `undefined`: none. */
  readonly idleTimeout: number | undefined
  /** By name, including attributes that have expired and are not purged yet. */
  readonly attributes: ReadonlyMap<string, StoredAttribute>
}
