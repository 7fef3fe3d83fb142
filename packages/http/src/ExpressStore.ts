/**
 * The store for `express-session`: an existing Express application changes one
 * line and gets sessions that are read from memory, coherent across nodes, and that
 * a logout ends for good.
 *
 * express-session mints the ids itself, and saves late, at the end of a response. So:
 *
 * - **Ids.** Key and secret are derived from express's id by SHA-256, so that any `genid` works that never repeats an id, and a
 *   dump of the database logs nobody in. (Ids of ours by a `genid` of ours would be a second line to change, and one that is easily forgotten.)
 * - **A save of a session that the request had loaded only updates.** When somebody ended it meanwhile, on any node, the
 *   save does nothing: it is not an error to express-session, and the session stays ended.
 * - **A save of a new session only inserts**, once: an id that the request has just minted. Later saves of that request know
 *   the session, and update. In which orders that is safe is written in `internal/ExpressSaves.ts`; the one that is left: a save by a bare
 *   id, of data that came from elsewhere, on a node that has never seen the session, begins a session, whatever was before.
 * - **Each property is an attribute of its own**, and a save writes what the request has changed since it loaded
 *   the session. So requests that run at once do not undo each other's changes; for one and the same property the last one wins,
 *   or is refused: see `concurrency`.
 * - **Another node's change** is seen when its notification has arrived, milliseconds later, and never later than `maxStaleness`. express-session
 *   has no place to carry a version in; where that matters, keep a browser on one node, or use this package's own middleware with `readYourWrites`.
 * - **A touch costs a mark in memory**, and is called back at once, so that express-session sends the response in one piece. `cookie.maxAge` is the session's idle timeout; a write only where it was changed. A cookie
 *   whose `maxAge` is taken away ends with the browser; the idle timeout stays what it was.
 * - **What a request saves, it saves in order**, also where it awaits nothing. A destroy that overtakes the first save wins.
 * - **A save that was called back without an error is stored**, or the session has ended. After one whose outcome is unknown the
 *   request's next save finds the session, or fails, too.
 * - **Errors are called back**, never announced by "disconnect": that would make express-session go on without `req.session`.
 */
import { InMemory, SessionStore, type Sessions } from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Result from "effect/Result"
import * as ExpressSaves from "./internal/ExpressSaves.ts"

export { ExpressSessionConflict } from "./internal/ExpressChanges.ts"

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
  readonly all: (callback: Callback<never>) => void
  readonly length: (callback: Callback<never>) => void
  readonly createSession: (request: object, data: ExpressSessionData) => unknown
}

/** Runs effects with the store: a `ManagedRuntime` of a layer such as `PgSessionLive`. */
export interface ExpressStoreRuntime {
  readonly runPromiseExit: <A, E>(effect: Effect.Effect<A, E, SessionStore>) => Promise<Exit.Exit<A, unknown>>
}

/** Options of {@link toExpressStore}. */
export interface ExpressStoreOptions {
  /**
   * Whose session it is, so that `deleteAllForUser`, `listForUser` and `maxSessionsPerUser` know it. Asked at every save; when it
   * answers somebody else than before, they have just logged in, and what they have the session under is the same id: better
   * `req.session.regenerate` first, as express-session's documentation tells. Nothing changes where it answers nobody. An answer that
   * is not a `UserId` is an error of the save. Default: nobody's.
   */
  readonly userId?: ((data: ExpressSessionData) => string | null | undefined) | undefined
  /** The absolute limit of a session, however often it is used. Default 30 days, or `cookie.maxAge` where that is longer. */
  readonly lifetime?: Duration.Input | undefined
  /**
   * What happens to a property that two requests change at once; different properties are both kept in any case.
   * - `"merge"` (the default): the last save wins.
   * - `"refuse"`: it fails with {@link ExpressSessionConflict}, and stores nothing. At the end of a response that comes too late for the
   *   client: such a route calls `req.session.save` before it answers.
   */
  readonly concurrency?: "merge" | "refuse" | undefined
}

/** Other stores can do this, and this one cannot: sessions are counted and listed per user, by `SessionStore.listForUser`. */
export class ExpressStoreUnsupported extends Data.TaggedError("ExpressStoreUnsupported")<{
  readonly method: "all" | "length"
}> {
  override get message(): string {
    return `The session store does not support \`${this.method}\`: it keeps no id that it could hand out. Ask \`SessionStore.listForUser\` for a user's sessions`
  }
}

/**
 * A store for `express-session`.
 *
 * Every operation calls back, also where the database does not answer: within a few seconds (`statementTimeout`), with the typed
 * error. `all` and `length` call back {@link ExpressStoreUnsupported}.
 *
 * Build the runtime before the application listens: a `ManagedRuntime` whose layer could not be built, because there was no
 * database at that moment, stays so; one that was built recovers by itself.
 *
 * @example
 * ```ts
 * const runtime = ManagedRuntime.make(PgSessionLive)
 * await runtime.context()
 * app.use(session({ secret, resave: false, saveUninitialized: false, store: toExpressStore(session.Store, runtime) }))
 * ```
 */
export const toExpressStore = <S extends object>(
  Store: abstract new () => S,
  runtime: ExpressStoreRuntime,
  options: ExpressStoreOptions = {}
): S => {
  const saves = ExpressSaves.make(options)

  // A runtime of the application's own may choose another store for each request.
  const hasOneStore = ManagedRuntime.isManagedRuntime(runtime)
  let near: ExpressSaves.Near | undefined
  const learn = Effect.gen(function* () {
    const sessions = yield* SessionStore
    near = { memory: InMemory.memoryOf(sessions), clock: yield* Clock.Clock }
    return sessions
  })

  /** What goes wrong at once is tried again in the other way, which calls errors back. */
  const attempt = <A>(ask: (near: ExpressSaves.Near) => A): A | undefined => {
    try {
      return near && ask(near)
    } catch {
      return undefined
    }
  }

  const answer = <A>(
    work: (sessions: Sessions) => Effect.Effect<A, unknown>,
    callback: Callback<A> | undefined
  ): void => {
    const call = (exit: Exit.Exit<A, unknown>) =>
      // A callback that throws is the application's error, and must not become an unhandled rejection of ours.
      queueMicrotask(() => (Exit.isSuccess(exit) ? callback?.(null, exit.value) : callback?.(Cause.squash(exit.cause))))
    const store = hasOneStore && near === undefined ? learn : SessionStore
    runtime.runPromiseExit(Effect.flatMap(store, work)).then(call, (defect: unknown) => call(Exit.die(defect)))
  }

  // An abstract class for the compiler, an ordinary one in fact; `EventEmitter`s are made by their constructor.
  const store = Reflect.construct(Store, []) as S
  const inherited: unknown = Reflect.get(store, "createSession")

  const methods: Methods = {
    get: (sid, callback) => {
      const data = attempt((near) => saves.getNow(near, sid))
      if (data === undefined) answer((sessions) => saves.get(sessions, sid), callback)
      else queueMicrotask(() => callback(null, data))
    },
    set: (sid, data, callback) => {
      // What JSON cannot say, and whatever `userId` throws, is an error of this save.
      const taken = Result.try({ try: () => saves.take(sid, data), catch: (error) => error })
      answer(
        (sessions) =>
          saves.inTurn(data)(Effect.flatMap(Effect.fromResult(taken), (snapshot) => saves.save(sessions, snapshot))),
        callback as Callback<void>
      )
    },
    destroy: (sid, callback) => {
      saves.bury(sid)
      answer((sessions) => saves.destroy(sessions, sid), callback as Callback<void>)
    },
    touch: (sid, data, callback) => {
      // What is called back at once lets express-session send the response in one piece.
      if (attempt((near) => saves.touchNow(near, sid, data)) === true) callback?.(null)
      else answer((sessions) => saves.inTurn(data)(saves.touch(sessions, sid, data)), callback as Callback<void>)
    },
    clear: (callback) => answer((sessions) => Effect.asVoid(sessions.deleteAll), callback as Callback<void>),
    all: (callback) => answer(() => Effect.fail(new ExpressStoreUnsupported({ method: "all" })), callback),
    length: (callback) => answer(() => Effect.fail(new ExpressStoreUnsupported({ method: "length" })), callback),
    createSession: (request, data) => {
      const created: unknown = typeof inherited === "function" ? Reflect.apply(inherited, store, [request, data]) : data
      saves.adopt(request, data, created)
      return created
    }
  }
  return Object.assign(store, methods)
}
