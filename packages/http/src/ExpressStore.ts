/**
 * The store for `express-session`: an existing Express application changes one
 * line and gets sessions that are read from memory, coherent across nodes, and that
 * a logout ends for good.
 *
 * express-session mints the ids itself, and saves late, at the end of a response. So:
 *
 * - **Ids.** Key and secret are derived from express's id by SHA-256, so that any `genid` works, and a dump of the database
 *   logs nobody in.
 * - **A save of a session that the request had loaded only updates.** When somebody ended it meanwhile, on any node, the
 *   save does nothing: it is not an error to express-session, and the session stays ended.
 * - **A save of a new session only inserts.** A request makes a session new exactly once, by an id that it has just
 *   minted. Later saves of that request know the session, and update. An id that was destroyed on this node is remembered,
 *   so that a save by its bare name cannot bring it back either.
 * - **Each property is an attribute of its own**, and a save writes what the request has changed since it loaded
 *   the session. So requests that run at once do not undo each other's changes; for one and the same property the last one wins.
 * - **Another node's change** is seen when its notification has arrived, milliseconds later, and never later than `maxStaleness`. express-session
 *   has no place to carry a version in; where that matters, keep a browser on one node, or use this package's own middleware with `readYourWrites`.
 * - **A touch costs a mark in memory.** `cookie.maxAge` is the session's idle timeout.
 */
import {
  givenId,
  Session,
  SessionAttribute,
  type AttributeValue,
  SessionId,
  SessionStore,
  type Sessions,
  UserId,
  type WithGivenId
} from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { sha256Base64Url } from "./internal/Crypto.ts"

/** What express-session keeps of a session: `cookie` and whatever the application put there. */
export interface ExpressSessionData {
  readonly cookie?: ExpressCookie | undefined
  readonly [property: string]: unknown
}

interface ExpressCookie {
  readonly originalMaxAge?: number | null | undefined
  readonly toJSON?: (() => unknown) | undefined
}

type Callback<A> = (error?: unknown, result?: A) => void

/** The part of express-session's store that is replaced. */
interface Methods {
  readonly get: (sid: string, callback: Callback<ExpressSessionData | null>) => void
  readonly set: (sid: string, data: ExpressSessionData, callback?: Callback<never>) => void
  readonly destroy: (sid: string, callback?: Callback<never>) => void
  readonly touch: (sid: string, data: ExpressSessionData, callback?: Callback<never>) => void
  readonly clear: (callback?: Callback<never>) => void
  readonly createSession: (request: object, data: ExpressSessionData) => unknown
}

/** Runs effects with the store: a `ManagedRuntime` of a layer such as `PgSessionLive`. */
export interface ExpressStoreRuntime {
  readonly runPromiseExit: <A, E>(effect: Effect.Effect<A, E, SessionStore>) => Promise<Exit.Exit<A, unknown>>
}

/** Options of {@link toExpressStore}. */
export interface ExpressStoreOptions {
  /**
   * Whose session it is, so that `deleteAllForUser`, `listForUser` and `maxSessionsPerUser` know it. Asked when a session is saved for the first time:
   * `req.session.regenerate` before a login, as express-session's documentation tells, and it is. Default: nobody's.
   */
  readonly userId?: ((data: ExpressSessionData) => string | undefined) | undefined
  /** The absolute limit of a session. Default 30 days. */
  readonly lifetime?: Duration.Input | undefined
}

const defaultLifetime = "30 days"
/** Ids that were destroyed are remembered, the latest so many. */
const maxBuried = 10_000
const prefix = "express:"
const cookieName = "express.cookie"

const attributeOf = (name: string) => SessionAttribute.make(name, Schema.Json)

/** Any id of express-session's becomes one of ours. */
const idOf = (sid: string): SessionId => {
  const key = sha256Base64Url(`effect-pg-session: express key: ${sid}`)
  // 22 characters hold 128 bits and four more, which must be zero.
  const canonical = Buffer.from(key, "base64url").subarray(0, 16).toString("base64url")
  const secret = sha256Base64Url(`effect-pg-session: express secret: ${sid}`)
  return Option.getOrThrow(SessionId.fromString(canonical + secret))
}

/** What JSON makes of a value; `undefined`: nothing, as with `JSON.stringify`. */
const jsonOf = (value: unknown): string | undefined => JSON.stringify(value)

/** The properties as JSON texts, by attribute name. */
const textsOf = (data: ExpressSessionData): ReadonlyMap<string, string> => {
  const texts = new Map<string, string>()
  for (const [property, value] of Object.entries(data)) {
    if (property === "cookie") continue
    const text = jsonOf(value)
    if (text !== undefined) texts.set(prefix + property, text)
  }
  // When it expires is the session's business; how long it lasts is kept.
  const cookie = jsonOf(data.cookie?.toJSON?.() ?? data.cookie)
  if (cookie !== undefined) texts.set(cookieName, JSON.stringify({ ...JSON.parse(cookie), expires: undefined }))
  return texts
}

const valueOf = (name: string, text: string): AttributeValue =>
  SessionAttribute.value(attributeOf(name), JSON.parse(text) as Schema.Json)

/** What a request knows of its session. */
interface Known {
  readonly sid: string
  readonly session: Session
  readonly texts: ReadonlyMap<string, string>
}

/** The data of a session, as express-session wants it. */
const dataOf = Effect.fnUntraced(function* (session: Session) {
  const data: Record<string, unknown> = {}
  for (const name of session.attributeNames) {
    if (!name.startsWith(prefix)) continue
    const value = yield* Session.getOption(session, attributeOf(name))
    // What it gets is its own to change.
    if (Option.isSome(value)) data[name.slice(prefix.length)] = structuredClone(value.value)
  }
  const stored = yield* Session.getOption(session, attributeOf(cookieName))
  const cookie = Option.isSome(stored) ? (structuredClone(stored.value) as Record<string, unknown>) : {}
  const maxAge = cookie["originalMaxAge"]
  const expires =
    typeof maxAge === "number" ? { expires: new Date((yield* Clock.currentTimeMillis) + maxAge).toISOString() } : {}
  return { ...data, cookie: { ...cookie, ...expires } } as ExpressSessionData
})

const idleTimeoutOf = (data: ExpressSessionData): { readonly idleTimeout?: Duration.Input } => {
  const maxAge = data.cookie?.originalMaxAge
  return typeof maxAge === "number" ? { idleTimeout: Math.max(0, maxAge) } : {}
}

const requestOf = (data: ExpressSessionData): object | undefined => {
  const request: unknown = Reflect.get(data, "req")
  return typeof request === "object" && request !== null ? request : undefined
}

/**
 * A store for `express-session`.
 *
 * Every operation calls back, also where the database does not answer: within `statementTimeout`, with the typed error.
 *
 * @example
 * ```ts
 * const runtime = ManagedRuntime.make(PgSessionLive)
 * app.use(session({ secret, resave: false, saveUninitialized: false, store: toExpressStore(session.Store, runtime) }))
 * ```
 */
export const toExpressStore = <S extends object>(
  Store: abstract new () => S,
  runtime: ExpressStoreRuntime,
  options: ExpressStoreOptions = {}
): S => {
  const known = new WeakMap<object, Known>()
  const loaded = new WeakMap<object, Known>()
  const buried = new Set<string>()

  const bury = (sid: string): void => {
    buried.delete(sid)
    buried.add(sid)
    for (const oldest of buried) {
      if (buried.size <= maxBuried) break
      buried.delete(oldest)
    }
  }

  const answer = <A>(
    work: (sessions: Sessions) => Effect.Effect<A, unknown>,
    callback: Callback<A> | undefined
  ): void => {
    void runtime.runPromiseExit(Effect.flatMap(SessionStore, work)).then((exit) => {
      // A callback that throws is the application's error, and must not become an unhandled rejection of ours.
      setImmediate(() => (Exit.isSuccess(exit) ? callback?.(null, exit.value) : callback?.(Cause.squash(exit.cause))))
    })
  }

  const insert = (sessions: Sessions, sid: string, data: ExpressSessionData, texts: ReadonlyMap<string, string>) => {
    const user = options.userId?.(data)
    const create = {
      [givenId]: idOf(sid),
      attributes: Array.from(texts, ([name, text]) => valueOf(name, text)),
      expiresIn: options.lifetime ?? defaultLifetime,
      ...idleTimeoutOf(data)
    } satisfies WithGivenId & Parameters<Sessions["createAnonymous"]>[0]
    return user === undefined ? sessions.createAnonymous(create) : sessions.create(UserId.make(user), create)
  }

  /** Writes what differs from what the request had loaded. */
  const update = (sessions: Sessions, from: Known, data: ExpressSessionData, texts: ReadonlyMap<string, string>) => {
    let changed = from.session
    for (const [name, text] of texts) {
      if (from.texts.get(name) !== text) {
        changed = Session.set(changed, attributeOf(name), JSON.parse(text) as Schema.Json)
        const { idleTimeout } = idleTimeoutOf(data)
        if (name === cookieName && idleTimeout !== undefined) changed = Session.setIdleTimeout(changed, idleTimeout)
      }
    }
    for (const name of from.texts.keys()) {
      if (!texts.has(name)) changed = Session.remove(changed, attributeOf(name))
    }
    return sessions.update(changed, { check: "none" }).pipe(
      // It was ended meanwhile, and stays so.
      Effect.catchTag("SessionNotFound", () => Effect.succeed(undefined))
    )
  }

  const save = (sessions: Sessions, sid: string, data: ExpressSessionData) =>
    Effect.gen(function* () {
      const request = requestOf(data)
      const texts = textsOf(data)
      const own = request === undefined ? undefined : known.get(request)
      const remember = (session: Session | undefined): void => {
        if (request === undefined) return
        if (session !== undefined) known.set(request, { sid, session, texts })
      }
      if (own?.sid === sid) return remember(yield* update(sessions, own, data, texts))
      const updateFound = Effect.gen(function* () {
        const found = yield* sessions.find(idOf(sid), { touch: false, refresh: true })
        if (Option.isNone(found)) return false
        const present = { sid, session: found.value, texts: textsOf(yield* dataOf(found.value)) }
        remember(yield* update(sessions, present, data, texts))
        return true
      })
      if (buried.has(sid)) return yield* Effect.asVoid(updateFound)
      // It is there already where the same request saves twice at once, or somebody saves by the bare name.
      yield* Effect.catch(Effect.map(insert(sessions, sid, data, texts), remember), (error) =>
        Effect.flatMap(updateFound, (isThere) => (isThere ? Effect.void : Effect.fail(error)))
      )
    })

  // An abstract class for the compiler, an ordinary one in fact; `EventEmitter`s are made by their constructor.
  const store = Reflect.construct(Store, []) as S
  const inherited: unknown = Reflect.get(store, "createSession")

  const methods: Methods = {
    get: (sid, callback) =>
      answer(
        (sessions) =>
          Effect.gen(function* () {
            const found = yield* sessions.find(idOf(sid), { touch: false })
            if (Option.isNone(found)) return null
            const data = yield* dataOf(found.value)
            loaded.set(data, { sid, session: found.value, texts: textsOf(data) })
            return data
          }),
        callback
      ),
    set: (sid, data, callback) => answer((sessions) => save(sessions, sid, data), callback as Callback<void>),
    destroy: (sid, callback) => {
      bury(sid)
      answer((sessions) => sessions.delete(idOf(sid)), callback as Callback<void>)
    },
    touch: (sid, _data, callback) =>
      answer((sessions) => Effect.asVoid(sessions.find(idOf(sid))), callback as Callback<void>),
    clear: (callback) => answer((sessions) => Effect.asVoid(sessions.deleteAll), callback as Callback<void>),
    createSession: (request, data) => {
      const from = loaded.get(data)
      if (from !== undefined) known.set(request, from)
      const created: unknown = typeof inherited === "function" ? Reflect.apply(inherited, store, [request, data]) : data
      return created
    }
  }
  return Object.assign(store, methods)
}
