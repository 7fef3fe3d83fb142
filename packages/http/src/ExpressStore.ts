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
 * - **A touch costs a mark in memory.** `cookie.maxAge` is the session's idle timeout; a write only where it was changed.
 * - **What a request saves, it saves in order**, also where it awaits nothing. A destroy that overtakes the first save wins.
 */
import {
  givenId,
  Session,
  SessionAttribute,
  SessionStore,
  type Sessions,
  SessionStoreUnavailable,
  UserId
} from "@effect-pg-session/core"
import type { WithGivenId } from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import * as ExpressData from "./internal/ExpressData.ts"

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

/** As the storage answers an id that exists already. */
const isDatabaseError = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) &&
  Option.exists(
    Exit.findErrorOption(exit),
    (error) => error instanceof SessionStoreUnavailable && error.reason === "DatabaseError"
  )

/** What a request knows of its session. */
interface Known {
  readonly sid: string
  readonly session: Session
  readonly texts: ExpressData.Texts
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
  const turns = new WeakMap<object, Semaphore.Semaphore>()
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

  /** What express-session does for a request, one thing after the other: saves that nobody awaits are saves in order. */
  const inOrder = (data: ExpressSessionData) => {
    const request = ExpressData.requestOf(data)
    const turn = request === undefined ? undefined : (turns.get(request) ?? Semaphore.makeUnsafe(1))
    if (request !== undefined && turn !== undefined) turns.set(request, turn)
    return <A, E>(effect: Effect.Effect<A, E>) => (turn === undefined ? effect : turn.withPermit(effect))
  }

  const insert = (sessions: Sessions, sid: string, data: ExpressSessionData, texts: ExpressData.Texts) => {
    const user = options.userId?.(data)
    const create = {
      [givenId]: ExpressData.idOf(sid),
      attributes: Array.from(texts, ([name, text]) =>
        SessionAttribute.value(ExpressData.attributeOf(name), ExpressData.parse(text))
      ),
      expiresIn: options.lifetime ?? defaultLifetime,
      ...ExpressData.idleTimeoutOf(data)
    } satisfies WithGivenId & Parameters<Sessions["createAnonymous"]>[0]
    return user === undefined ? sessions.createAnonymous(create) : sessions.create(UserId.make(user), create)
  }

  /** Writes what differs from what the request had loaded; `undefined` where the session was ended meanwhile, and stays so. */
  const update = (sessions: Sessions, from: Known, data: ExpressSessionData, texts: ExpressData.Texts) => {
    let changed = from.session
    for (const [name, text] of texts) {
      if (!ExpressData.isSame(name, from.texts.get(name), text)) {
        changed = Session.set(changed, ExpressData.attributeOf(name), ExpressData.parse(text))
        const { idleTimeout } = ExpressData.idleTimeoutOf(data)
        if (name === ExpressData.cookieName && idleTimeout !== undefined) {
          changed = Session.setIdleTimeout(changed, idleTimeout)
        }
      }
    }
    for (const name of from.texts.keys()) {
      if (!texts.has(name)) changed = Session.remove(changed, ExpressData.attributeOf(name))
    }
    // With `resave`, reading is a save without a change instead of a touch: it is activity all the same.
    if (changed === from.session) return Effect.map(sessions.find(changed.id), Option.getOrUndefined)
    return sessions
      .update(changed, { check: "none" })
      .pipe(Effect.catchTag("SessionNotFound", () => Effect.succeed(undefined)))
  }

  const remember = (data: ExpressSessionData, sid: string, texts: ExpressData.Texts, session: Session | undefined) => {
    const request = ExpressData.requestOf(data)
    if (request !== undefined && session !== undefined) known.set(request, { sid, session, texts })
  }

  const knownOf = (data: ExpressSessionData, sid: string): Known | undefined => {
    const request = ExpressData.requestOf(data)
    const own = request === undefined ? undefined : known.get(request)
    return own?.sid === sid ? own : undefined
  }

  const save = (sessions: Sessions, sid: string, data: ExpressSessionData) => {
    // Now: by its turn the application may have gone on.
    const texts = ExpressData.textsOf(data)
    const updateFound = Effect.gen(function* () {
      const found = yield* sessions.find(ExpressData.idOf(sid), { touch: false, refresh: true })
      if (Option.isNone(found)) return false
      const present = ExpressData.textsOf(yield* ExpressData.dataOf(found.value))
      const from: Known = { sid, session: found.value, texts: present }
      remember(data, sid, texts, yield* update(sessions, from, data, texts))
      return true
    })
    return Effect.gen(function* () {
      const own = knownOf(data, sid)
      if (own !== undefined) return remember(data, sid, texts, yield* update(sessions, own, data, texts))
      if (buried.has(sid)) return yield* Effect.asVoid(updateFound)
      const inserted = yield* Effect.exit(insert(sessions, sid, data, texts))
      if (Exit.isSuccess(inserted)) {
        remember(data, sid, texts, inserted.value)
        // It was destroyed before this insert arrived.
        if (buried.has(sid)) yield* sessions.delete(ExpressData.idOf(sid))
        return
      }
      // It is there already where somebody saves by the bare name.
      if (isDatabaseError(inserted) && (yield* updateFound)) return
      yield* inserted
    })
  }

  /** Express-session touches instead of saving where only the cookie has changed, if anything. */
  const touch = (sessions: Sessions, sid: string, data: ExpressSessionData) =>
    Effect.gen(function* () {
      const own = knownOf(data, sid)
      if (own === undefined) return yield* Effect.asVoid(sessions.find(ExpressData.idOf(sid)))
      const texts = ExpressData.withCookie(own.texts, data)
      remember(data, sid, texts, yield* update(sessions, own, data, texts))
    })

  // An abstract class for the compiler, an ordinary one in fact; `EventEmitter`s are made by their constructor.
  const store = Reflect.construct(Store, []) as S
  const inherited: unknown = Reflect.get(store, "createSession")

  const methods: Methods = {
    get: (sid, callback) =>
      answer(
        (sessions) =>
          Effect.gen(function* () {
            const found = yield* sessions.find(ExpressData.idOf(sid), { touch: false })
            if (Option.isNone(found)) return null
            const data = yield* ExpressData.dataOf(found.value)
            loaded.set(data, { sid, session: found.value, texts: ExpressData.textsOf(data) })
            return data
          }),
        callback
      ),
    set: (sid, data, callback) =>
      answer((sessions) => inOrder(data)(save(sessions, sid, data)), callback as Callback<void>),
    destroy: (sid, callback) => {
      bury(sid)
      answer((sessions) => sessions.delete(ExpressData.idOf(sid)), callback as Callback<void>)
    },
    touch: (sid, data, callback) =>
      answer((sessions) => inOrder(data)(touch(sessions, sid, data)), callback as Callback<void>),
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
