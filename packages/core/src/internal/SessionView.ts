/**
 * One version of a session in memory: its row, this node's view of the database's
 * clock, and decoded attributes. It is shared by everybody who reads the session.
 */
import type * as Exit from "effect/Exit"
import type { SessionAttribute } from "../SessionAttribute.ts"
import type { AttributeInvalid } from "../SessionError.ts"
import type { GroupId, SecretHash, SessionKey, UserId } from "../SessionId.ts"
import type { SessionRow, StoredAttribute } from "../SessionStorage.ts"
import { type AttributeSlot, AttributeTable, sharedVersion } from "./AttributeTable.ts"
import type { NodeClock } from "./NodeClock.ts"

/** When a statement's answer was asked for, on this node's clock, and what the database's clock said. */
export interface AnswerTime {
  /** {@link NodeClock} before the statement was sent. */
  readonly sentAt: number
  /** The database's clock, in milliseconds since the epoch. */
  readonly now: number
}

/** When a session ends, on the database's clock. */
export type Deadlines = Pick<SessionRow, "expiresAt" | "idleTimeout" | "lastAccessedAt">

type Changes = Partial<Deadlines & Pick<SessionRow, "version" | "attributes">>

/** One version of a session, as this node sees it: its row, whose attributes take little memory and are decoded once. */
export class SessionView implements SessionRow {
  readonly key: SessionKey
  readonly secretHash: SecretHash
  readonly formerHash: SecretHash | undefined
  readonly formerUntil: number | undefined
  readonly userId: UserId | undefined
  readonly groupId: GroupId | undefined
  readonly version: bigint
  readonly createdAt: number
  readonly authenticatedAt: number | undefined
  readonly lastAccessedAt: number
  readonly expiresAt: number
  readonly idleTimeout: number | undefined
  readonly attributes: AttributeTable
  readonly clock: NodeClock
  /** When the database was asked whether this is the current version, on this node's clock, in whole milliseconds. */
  readonly loadedAt: number
  /** Add it to a point on the database's clock to get one on this node's. */
  readonly offset: number

  /** Attributes whose version did not change keep what `previous` has decoded. */
  constructor(
    row: SessionRow,
    clock: NodeClock,
    time: AnswerTime,
    previous: SessionView | undefined,
    loadedAt = time.sentAt
  ) {
    // One object with all of it: each further one takes memory, and a visit to it takes time.
    this.key = row.key
    this.secretHash = row.secretHash
    this.formerHash = row.formerHash
    this.formerUntil = row.formerUntil
    this.userId = row.userId
    this.groupId = row.groupId
    this.version = sharedVersion(row.version)
    this.createdAt = row.createdAt
    this.authenticatedAt = row.authenticatedAt
    this.lastAccessedAt = row.lastAccessedAt
    this.expiresAt = row.expiresAt
    this.idleTimeout = row.idleTimeout
    this.attributes = AttributeTable.from(row.attributes, previous?.attributes)
    this.clock = clock
    this.loadedAt = Math.floor(loadedAt)
    this.offset = time.sentAt - time.now
  }

  /** The row with some of it changed. */
  with(changes: Changes): SessionRow {
    return {
      key: this.key,
      secretHash: this.secretHash,
      formerHash: this.formerHash,
      formerUntil: this.formerUntil,
      userId: this.userId,
      groupId: this.groupId,
      version: this.version,
      createdAt: this.createdAt,
      authenticatedAt: this.authenticatedAt,
      lastAccessedAt: this.lastAccessedAt,
      expiresAt: this.expiresAt,
      idleTimeout: this.idleTimeout,
      attributes: this.attributes,
      ...changes
    }
  }

  /** A point on the database's clock, on this node's; never later than it really is, because the answer took time. */
  localTime(databaseTime: number): number {
    return databaseTime + this.offset
  }

  /** The idle limit on this node's clock; infinite where there is none. */
  get idleDeadline(): number {
    const { idleTimeout, lastAccessedAt } = this
    return idleTimeout === undefined ? Infinity : this.localTime(lastAccessedAt + idleTimeout)
  }

  /** Until when the secret that the last rotation replaced is accepted, on this node's clock. */
  get formerDeadline(): number {
    const { formerUntil } = this
    return formerUntil === undefined ? -Infinity : this.localTime(formerUntil)
  }

  /** When the session ends unless it is used, on this node's clock. */
  get deadline(): number {
    return Math.min(this.localTime(this.expiresAt), this.idleDeadline)
  }

  /** The attribute, unless it is absent or expired. */
  stored(name: string): StoredAttribute | undefined {
    return this.liveSlot(name)
  }

  read<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    return this.liveSlot(attribute.name)?.read(attribute)
  }

  /** The same, if it is known already and whenever one looks: decoded before, and without an end of its own. */
  memo<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    const slot = this.attributes.get(attribute.name)
    return slot === undefined || slot.expiresAt !== undefined ? undefined : slot.memo(attribute)
  }

  get attributeNames(): ReadonlyArray<string> {
    return [...this.attributes.keys()].filter((name) => this.liveSlot(name) !== undefined).sort()
  }

  private liveSlot(name: string): AttributeSlot | undefined {
    const slot = this.attributes.get(name)
    if (slot === undefined) return undefined
    const { expiresAt } = slot
    return expiresAt !== undefined && this.clock.now() >= this.localTime(expiresAt) ? undefined : slot
  }
}
