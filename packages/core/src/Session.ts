/**
 * An immutable session: what was read, and what is to be changed.
 *
 * A `Session` is a snapshot of one version. `Session.get` reads its typed
 * attributes; `Session.set`, `remove` and their like return a new session with the
 * change recorded, and nothing is written before `SessionStore.update`. Decoded
 * values are deeply frozen, because every reader of a session shares them.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import { dual } from "effect/Function"
import { isSession, isSummary, SessionImpl, summaryOf } from "./internal/SessionImpl.ts"
import { type Options, SessionAttribute, whenMissing } from "./SessionAttribute.ts"
import type { AttributeInvalid } from "./SessionError.ts"
import { type GroupId, hashesEqual, type SessionId, type SessionKey, type UserId } from "./SessionId.ts"

/**
 * What may be known of a session without its credential: an entry in a list of
 * devices. Points in time are PostgreSQL's, for showing to people; to decide by
 * them use {@link Session.remaining} and {@link Session.sinceAuthentication}.
 */
export interface SessionSummary {
  /** The public handle, the same for the session's whole life. */
  readonly key: SessionKey
  /** `None` for a guest. */
  readonly userId: Option.Option<UserId>
  readonly groupId: Option.Option<GroupId>
  /** Grows with every change; touches do not change it. */
  readonly version: bigint
  readonly createdAt: DateTime.Utc
  /** When the user last proved who they are; `None` for a guest. */
  readonly authenticatedAt: Option.Option<DateTime.Utc>
  /** As the database knows it: activity is written in batches, see `lastAccessFlushInterval`. */
  readonly lastAccessedAt: DateTime.Utc
  /** The absolute limit. */
  readonly expiresAt: DateTime.Utc
  /** The idle limit; infinite means none. */
  readonly idleTimeout: Duration.Duration
  /** The names of its attributes, without those that have expired. */
  readonly attributeNames: ReadonlyArray<string>
  /** The key's prefix, the version and the names of the attributes. */
  toString(): string
}

/**
 * A session as its holder sees it. Printing one shows its key's prefix, version and attribute names, nothing else. `Equal` are two
 * with the same id and version that share their recorded changes, or have none; activity does not count.
 */
export interface Session extends SessionSummary, Pipeable {
  /** The credential to present for it; redacted wherever it is printed. */
  readonly id: SessionId
}

// `set` and `modify` take options, so the number of arguments does not tell the two styles apart.
const isFirst = (args: IArguments): boolean => isSummary(args[0])

const get: {
  <A, Missing>(
    attribute: SessionAttribute<A, Missing>
  ): (session: SessionSummary) => Effect.Effect<A, Missing | AttributeInvalid>
  <A, Missing>(
    session: SessionSummary,
    attribute: SessionAttribute<A, Missing>
  ): Effect.Effect<A, Missing | AttributeInvalid>
} = dual(
  isFirst,
  <A, Missing>(
    session: SessionSummary,
    attribute: SessionAttribute<A, Missing>
  ): Effect.Effect<A, Missing | AttributeInvalid> => {
    const summary = summaryOf(session)
    // A session does not change: what has been decoded, and does not end by itself, is the answer whenever it is run.
    return (
      summary.memo(attribute) ??
      Effect.suspend(
        (): Effect.Effect<A, Missing | AttributeInvalid> => summary.read(attribute) ?? whenMissing(attribute)
      )
    )
  }
)

const getOption: {
  <A, Missing>(
    attribute: SessionAttribute<A, Missing>
  ): (session: SessionSummary) => Effect.Effect<Option.Option<A>, AttributeInvalid>
  <A, Missing>(
    session: SessionSummary,
    attribute: SessionAttribute<A, Missing>
  ): Effect.Effect<Option.Option<A>, AttributeInvalid>
} = dual(
  isFirst,
  <A, Missing>(
    session: SessionSummary,
    attribute: SessionAttribute<A, Missing>
  ): Effect.Effect<Option.Option<A>, AttributeInvalid> =>
    Effect.suspend(() => {
      const exit = summaryOf(session).read(attribute)
      return exit === undefined ? Exit.succeed(Option.none()) : Exit.map(exit, Option.some)
    })
)

const set: {
  <A, Missing>(
    attribute: SessionAttribute<A, Missing>,
    value: NoInfer<A>,
    options?: Options
  ): (session: Session) => Session
  <A, Missing>(session: Session, attribute: SessionAttribute<A, Missing>, value: NoInfer<A>, options?: Options): Session
} = dual(
  isFirst,
  <A, Missing>(
    session: Session,
    attribute: SessionAttribute<A, Missing>,
    value: NoInfer<A>,
    options?: Options
  ): Session =>
    SessionImpl.of(session).withChange(attribute.name, {
      _tag: "Set",
      write: SessionAttribute.value(attribute, value, options),
      value
    })
)

const remove: {
  <A, Missing>(attribute: SessionAttribute<A, Missing>): (session: Session) => Session
  <A, Missing>(session: Session, attribute: SessionAttribute<A, Missing>): Session
} = dual(isFirst, <A, Missing>(session: Session, attribute: SessionAttribute<A, Missing>): Session =>
  SessionImpl.of(session).withChange(attribute.name, { _tag: "Remove" })
)

const modify: {
  <A, Missing>(
    attribute: SessionAttribute<A, Missing>,
    f: NoInfer<(value: A) => A>,
    options?: Options
  ): (session: Session) => Effect.Effect<Session, Missing | AttributeInvalid>
  <A, Missing>(
    session: Session,
    attribute: SessionAttribute<A, Missing>,
    f: NoInfer<(value: A) => A>,
    options?: Options
  ): Effect.Effect<Session, Missing | AttributeInvalid>
} = dual(
  isFirst,
  <A, Missing>(
    session: Session,
    attribute: SessionAttribute<A, Missing>,
    f: NoInfer<(value: A) => A>,
    options?: Options
  ): Effect.Effect<Session, Missing | AttributeInvalid> =>
    Effect.map(get(session, attribute), (value) => set(session, attribute, f(value), options))
)

const setGroup: {
  (groupId: Option.Option<GroupId>): (session: Session) => Session
  (session: Session, groupId: Option.Option<GroupId>): Session
} = dual(isFirst, (session: Session, groupId: Option.Option<GroupId>): Session =>
  SessionImpl.of(session).withSettings({ groupId: Option.getOrNull(groupId) })
)

const setExpiresIn: {
  (expiresIn: Duration.Input): (session: Session) => Session
  (session: Session, expiresIn: Duration.Input): Session
} = dual(isFirst, (session: Session, expiresIn: Duration.Input): Session =>
  SessionImpl.of(session).withSettings({ lifetime: Duration.fromInputUnsafe(expiresIn) })
)

const setIdleTimeout: {
  (idleTimeout: Duration.Input): (session: Session) => Session
  (session: Session, idleTimeout: Duration.Input): Session
} = dual(isFirst, (session: Session, idleTimeout: Duration.Input): Session =>
  SessionImpl.of(session).withSettings({ idleTimeout: Duration.fromInputUnsafe(idleTimeout) })
)

/** How long the session still lives if nobody uses it any more, by PostgreSQL's clock; zero once it has ended. */
const remaining = (session: SessionSummary): Effect.Effect<Duration.Duration> =>
  Effect.sync(() => {
    const { view } = summaryOf(session)
    return Duration.millis(Math.max(0, Math.floor(view.deadline - view.clock.now())))
  })

/** How long ago the user proved who they are, by PostgreSQL's clock; `None` for a guest. */
const sinceAuthentication = (session: SessionSummary): Effect.Effect<Option.Option<Duration.Duration>> =>
  Effect.sync(() => {
    const { view } = summaryOf(session)
    return view.authenticatedAt === undefined
      ? Option.none()
      : Option.some(Duration.millis(Math.max(0, Math.ceil(view.clock.now() - view.localTime(view.authenticatedAt)))))
  })

/** Whether its id is the one that the session goes by now; a former id within its grace is accepted, but is not. */
const hasCurrentId = (session: Session): boolean =>
  hashesEqual(SessionImpl.of(session).proof, summaryOf(session).view.secretHash)

/**
 * Reading a session, and recording changes. All are data-last and data-first.
 *
 * - `get(attribute)`: the value, frozen and decoded once per version. Fails with
 *   `AttributeNotFound` when it is absent or has expired (not with an `initial`), and with
 *   `AttributeInvalid` when what is stored does not fit the schema.
 * - `getOption(attribute)`: `None` when it is absent or has expired.
 * - `set(attribute, value, { timeToLive }?)`, `remove(attribute)`: record a change; the last one for an attribute counts.
 * - `modify(attribute, f)`: `get`, `f`, `set` in one; made for `SessionStore.modify`.
 * - `setGroup(option)`, `setExpiresIn(duration)` (the absolute limit, from the moment
 *   of the update), `setIdleTimeout(duration)` ("Infinity" means none): record a change of the session itself.
 * - `remaining`, `sinceAuthentication`: durations to decide by.
 * - `hasCurrentId`: whether the session was read by its present id, and not by a former one within its grace.
 * - `isSession`: a guard.
 *
 * @example
 * ```ts
 * const changed = session.pipe(Session.set(Theme, "dark"), Session.remove(Draft))
 * const cart = yield* Session.get(session, Cart)
 * ```
 */
export const Session = {
  get,
  getOption,
  set,
  remove,
  modify,
  setGroup,
  setExpiresIn,
  setIdleTimeout,
  remaining,
  sinceAuthentication,
  hasCurrentId,
  isSession
}
