/**
 * The representation of sessions: a row, this node's view of the database's
 * clock, decoded attributes, and recorded changes. A view is shared by everybody
 * who reads the session from memory; changes make a new object around the same
 * view.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Pipeable from "effect/Pipeable"
import type { Session, SessionSummary } from "../Session.ts"
import type { AttributeValue, SessionAttribute } from "../SessionAttribute.ts"
import type { AttributeInvalid } from "../SessionError.ts"
import {
  type GroupId,
  hashOfToken,
  idOfToken,
  keyPrefix,
  type SecretHash,
  type SessionId,
  type SessionKey,
  type UserId
} from "../SessionId.ts"
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

/** A recorded change of one attribute. */
export type AttributeChange =
  | { readonly _tag: "Set"; readonly write: AttributeValue; readonly value: unknown }
  | { readonly _tag: "Remove" }

/** Recorded changes of the session itself. */
export interface SettingChanges {
  readonly groupId?: GroupId | null
  readonly lifetime?: Duration.Duration
  readonly idleTimeout?: Duration.Duration
}

const noChanges: ReadonlyMap<string, AttributeChange> = new Map()
const noSettings: SettingChanges = {}

export class SummaryImpl extends Pipeable.Class implements SessionSummary {
  readonly view: SessionView

  constructor(view: SessionView) {
    super()
    this.view = view
  }

  get key(): SessionKey {
    return this.view.key
  }
  get userId(): Option.Option<UserId> {
    return Option.fromUndefinedOr(this.view.userId)
  }
  get groupId(): Option.Option<GroupId> {
    return Option.fromUndefinedOr(this.view.groupId)
  }
  get version(): bigint {
    return this.view.version
  }
  get createdAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.view.createdAt)
  }
  get authenticatedAt(): Option.Option<DateTime.Utc> {
    return Option.map(Option.fromUndefinedOr(this.view.authenticatedAt), (millis) => DateTime.makeUnsafe(millis))
  }
  get lastAccessedAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.view.lastAccessedAt)
  }
  get expiresAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.view.expiresAt)
  }
  get idleTimeout(): Duration.Duration {
    const { idleTimeout } = this.view
    return idleTimeout === undefined ? Duration.infinity : Duration.millis(idleTimeout)
  }
  get attributeNames(): ReadonlyArray<string> {
    return this.view.attributeNames
  }
  /** The attribute as it stands, with recorded changes; `undefined` when it is absent or expired. */
  read<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    return this.view.read(attribute)
  }
  /** What {@link read} answers, if it needs no decoding and never changes. */
  memo<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    return this.view.memo(attribute)
  }
  override toString(): string {
    return `Session(${keyPrefix(this.key)}, version ${this.version}, attributes: ${
      this.attributeNames.join(", ") || "none"
    })`
  }
  toJSON(): unknown {
    return {
      _id: "Session",
      key: keyPrefix(this.key),
      version: String(this.version),
      attributeNames: this.attributeNames
    }
  }
  [NodeInspectSymbol](): string {
    return this.toString()
  }
}

export class SessionImpl extends SummaryImpl implements Session {
  // Private to the engine, too, so that nothing which walks over an object's properties finds the secret.
  readonly #token: string
  #id: SessionId | undefined
  private hashed: SecretHash | undefined
  readonly changes: ReadonlyMap<string, AttributeChange>
  readonly settings: SettingChanges

  constructor(view: SessionView, token: string, hashed?: SecretHash, changes = noChanges, settings = noSettings) {
    super(view)
    this.#token = token
    this.#id = undefined
    this.hashed = hashed
    this.changes = changes
    this.settings = settings
  }

  static of(session: Session): SessionImpl {
    if (session instanceof SessionImpl) return session
    throw new TypeError(
      "A Session is made by SessionStore (create, get, find, ...) and cannot be built or copied by hand"
    )
  }

  get token(): string {
    return this.#token
  }

  // Made when it is asked for: of most sessions in memory nobody asks, and a redacted value takes a hundred bytes.
  get id(): SessionId {
    return (this.#id ??= idOfToken(this.#token))
  }

  /** What proves the session to a database; hashed once. */
  get proof(): SecretHash {
    return (this.hashed ??= hashOfToken(this.#token))
  }

  get hasChanges(): boolean {
    return this.changes.size > 0 || this.settings !== noSettings
  }

  withChange(name: string, change: AttributeChange): SessionImpl {
    return new SessionImpl(this.view, this.#token, this.hashed, new Map(this.changes).set(name, change), this.settings)
  }

  withSettings(settings: SettingChanges): SessionImpl {
    return new SessionImpl(this.view, this.#token, this.hashed, this.changes, { ...this.settings, ...settings })
  }

  override get attributeNames(): ReadonlyArray<string> {
    if (this.changes.size === 0) return this.view.attributeNames
    const names = new Set(this.view.attributeNames)
    for (const [name, change] of this.changes) {
      if (change._tag === "Set") names.add(name)
      else names.delete(name)
    }
    return [...names].sort()
  }

  override read<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    const change = this.changes.get(attribute.name)
    if (change === undefined) return this.view.read(attribute)
    // Recorded with `Session.set`, which demands the attribute's type.
    return change._tag === "Set" ? Exit.succeed(change.value as A) : undefined
  }

  override memo<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    return this.changes.has(attribute.name) ? undefined : this.view.memo(attribute)
  }
}

export const isSummary = (value: unknown): value is SessionSummary => value instanceof SummaryImpl

export const isSession = (value: unknown): value is Session => value instanceof SessionImpl

/** The representation behind a session or a summary. */
export const summaryOf = (session: SessionSummary): SummaryImpl => {
  if (session instanceof SummaryImpl) return session
  throw new TypeError(
    "A Session is made by SessionStore (create, get, find, ...) and cannot be built or copied by hand"
  )
}
