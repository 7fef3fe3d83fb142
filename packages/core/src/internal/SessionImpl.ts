/**
 * What users hold: a session by an id, with the changes that were recorded on it, or
 * a summary without one. Many share the view; a change makes a new object around
 * the same view.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
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
import type { SessionView } from "./SessionView.ts"

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
  /** Nothing is compared that only moves with time, nor what is reachable from here: a session in memory leads to much. */
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof SummaryImpl && this.isLike(that)
  }
  [Hash.symbol](): number {
    return Hash.combine(Hash.string(this.key), Hash.hash(this.version))
  }
  protected isLike(that: SummaryImpl): boolean {
    return !(that instanceof SessionImpl) && this.key === that.key && this.version === that.version
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

  protected override isLike(that: SummaryImpl): boolean {
    if (!(that instanceof SessionImpl) || this.#token !== that.#token || this.version !== that.version) return false
    return this.changes === that.changes && this.settings === that.settings
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
