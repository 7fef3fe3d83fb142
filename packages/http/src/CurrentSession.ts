/**
 * The session of the request being handled: what handlers ask for, and how users
 * log in and out.
 *
 * It is loaded when somebody asks for it, once per request however many ask: a
 * route that never asks costs nothing. What changes the cookie (`login`, `rotate`,
 * `logout`, a guest that is begun) must happen before the handler answers; later,
 * in the body of a stream say, it dies with a message that says so. The cookie
 * leaves with the response whether the handler succeeded or not, because the old
 * id may be worthless by then. A cookie that leads to no session is left alone:
 * only logout clears it, for the answer to a request that was overtaken by a login
 * must not log the user out.
 */
import { type AttributeValue, type Session, type SessionKey, SessionStore, type UserId } from "@effect-pg-session/core"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { randomBase64Url } from "./internal/Crypto.ts"
import type { FlashMessage } from "./internal/Flash.ts"
import { makeEnvironment, RequestSession } from "./internal/RequestSession.ts"
import { getNow, requireNow, SessionOperations } from "./internal/SessionOperations.ts"
import { makeCookies } from "./SessionCookie.ts"
import type {
  SessionConflict,
  SessionDataTooLarge,
  SessionLimitReached,
  SessionUnavailable,
  StepUpRequired,
  Unauthenticated
} from "./SessionHttpError.ts"

export type { FlashMessage } from "./internal/Flash.ts"

/** Options of `login`. */
export interface LoginOptions {
  /** Values to set along with it; made with `SessionAttribute.value`. */
  readonly attributes?: ReadonlyArray<AttributeValue> | undefined
  /** The absolute limit. Default core's `sessionLifetime`. */
  readonly expiresIn?: Duration.Input | undefined
  /** The idle limit; "Infinity" means none. Default core's `idleTimeout`. */
  readonly idleTimeout?: Duration.Input | undefined
}

/** Options of `rotate`. */
export interface RotateIdOptions {
  /** For how long the old id is still accepted, for requests that are under way. Default 10 seconds. */
  readonly grace?: Duration.Input | undefined
  /** Values to set along with it. */
  readonly attributes?: ReadonlyArray<AttributeValue> | undefined
}

/** Options of `guest`. */
export interface GuestOptions {
  /** Values to begin with, where a session is begun. */
  readonly attributes?: ReadonlyArray<AttributeValue> | undefined
}

/** Options of `modify`. */
export interface ModifyCurrentOptions {
  /**
   * What a change is checked against. "attributes" (default): nobody wrote the same attributes meanwhile; "session": nobody
   * changed anything; "none": the last write wins. A lost race is repeated, so `SessionConflict` is rare.
   */
  readonly check?: "attributes" | "session" | "none" | undefined
  /** What happens where there is no session: "fail" (default) with `Unauthenticated`, or "createGuest". */
  readonly whenAbsent?: "fail" | "createGuest" | undefined
}

/** Options of `logoutEverywhere`. */
export interface LogoutEverywhereOptions {
  /** A session to keep: "current" for "log out all my other devices", or another one's key. Default none. */
  readonly except?: "current" | SessionKey | undefined
}

/** What must hold of a session for a request to go on. */
export type SessionCondition = (session: Session) => Effect.Effect<void, Unauthenticated | StepUpRequired>

/** What `modify` can fail with, besides the errors of its callback. */
export type ModifySessionError = Unauthenticated | SessionConflict | SessionDataTooLarge | SessionUnavailable

/** The operations on the current session. */
export interface CurrentSessionOperations {
  /**
   * The session, a guest's included; `None` without a valid cookie or once it has ended. Counts as activity. It stays what it
   * was for the rest of the request: a stream or a WebSocket that must notice a logout follows `SessionStore.watch`.
   */
  readonly get: Effect.Effect<Option.Option<Session>, SessionUnavailable>
  /** Like `get`, but `None` also while the store is down; the cookie is kept. The static accessor demands that the route names this choice. */
  readonly getOrAnonymous: Effect.Effect<Option.Option<Session>>
  /** The session of a user who is logged in; `Unauthenticated` without one, and for guests. */
  readonly require: Effect.Effect<Session, Unauthenticated | SessionUnavailable>
  /** Like `require`, with a condition that `authoritative` repeats should it be asked later in the same request. */
  readonly ensure: (
    condition: SessionCondition
  ) => Effect.Effect<Session, Unauthenticated | StepUpRequired | SessionUnavailable>
  /** Like `require`, from the database now, whatever was read before; everything that was ensured so far must still hold. */
  readonly authoritative: Effect.Effect<Session, Unauthenticated | StepUpRequired | SessionUnavailable>
  /** The session, whoever's it is; where there is none a guest's begins. */
  readonly guest: (options?: GuestOptions) => Effect.Effect<Session, SessionDataTooLarge | SessionUnavailable>
  /**
   * The user has just proved who they are: the session becomes theirs under a new id, or a new one begins. A guest's
   * attributes are kept, another user's are dropped: what a guest's session says of its owner proves nothing. The old id is worthless where the user changed, and otherwise after 10 seconds.
   */
  readonly login: (
    userId: UserId,
    options?: LoginOptions
  ) => Effect.Effect<Session, SessionLimitReached | SessionDataTooLarge | SessionUnavailable>
  /**
   * Gives the session a new id: whenever its rights grow. `Unauthenticated` where there is no session at all. During the grace
   * of the old id guards that demand a step-up refuse it; everything else takes one for the other.
   */
  readonly rotate: (
    options?: RotateIdOptions
  ) => Effect.Effect<Session, Unauthenticated | SessionDataTooLarge | SessionUnavailable>
  /**
   * Changes the session, a guest's included, and starts over when another request came in between. `f` may run more than
   * once; its errors and services pass through.
   */
  readonly modify: <E = never, R = never>(
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyCurrentOptions
  ) => Effect.Effect<Session, E | ModifySessionError, R>
  /** Ends the session on every node and clears the cookie. No error where there is none. On `SessionUnavailable` the cookie is kept, so that one can try again. */
  readonly logout: Effect.Effect<void, SessionUnavailable>
  /** Ends all sessions of the user; answers how many. Clears the cookie unless the current session is excepted. */
  readonly logoutEverywhere: (
    options?: LogoutEverywhereOptions
  ) => Effect.Effect<number, Unauthenticated | SessionUnavailable>
  /** Leaves a message for the next page, in a guest's session if need be. Of more than 20 the oldest is dropped, and where they are too large together all but this one are. */
  readonly flash: (kind: string, text: string) => Effect.Effect<void, ModifySessionError>
  /** The messages that were left, each given out exactly once. Costs no write where there is none. */
  readonly takeFlash: Effect.Effect<ReadonlyArray<FlashMessage>, ModifySessionError>
  /**
   * A token for forms and scripts, bound to this session and its login; see `csrf`. Different each time, and all of them
   * are valid. Where there is no session a guest's begins, which is a row in the database and a response that nobody caches:
   * ask where a form is shown, not on every page, and limit how often strangers may.
   */
  readonly csrfToken: Effect.Effect<string, SessionUnavailable>
  /** Whether a text is a `csrfToken` of this session. Constant-time; without a session always false. */
  readonly verifyCsrfToken: (token: string) => Effect.Effect<boolean, SessionUnavailable>
}

/**
 * On this route a store that is down makes everybody anonymous, instead of answering 503: provided by
 * `SessionMiddleware.make({ whenUnavailable: "anonymous" })`, by the guard `anonymousWhenUnavailable`, and by
 * `AnonymousSessionApi`.
 */
export class AnonymousWhenUnavailable extends Context.Service<AnonymousWhenUnavailable, true>()(
  "@effect-pg-session/http/AnonymousWhenUnavailable"
) {}

/** The session of the user who is logged in, as a guard found it: what a guarded route can rely on. */
export class Authenticated extends Context.Service<Authenticated, Session>()("@effect-pg-session/http/Authenticated") {
  /** Who it is. */
  static readonly userId: Effect.Effect<UserId, never, Authenticated> = Effect.flatMap(Authenticated, (session) =>
    Effect.orDie(Effect.fromOption(session.userId))
  )
}

/**
 * The current session, as a service of the request. Its operations are static accessors.
 *
 * @example
 * ```ts
 * const login = Effect.gen(function*() {
 *   const userId = yield* checkPassword
 *   yield* CurrentSession.login(userId, { attributes: [SessionAttribute.value(Theme, "dark")] })
 *   return HttpServerResponse.redirect("/")
 * })
 * const home = Effect.gen(function*() {
 *   const session = yield* CurrentSession.require // 401 otherwise
 *   const cart = yield* Session.get(session, Cart)
 *   return HttpServerResponse.jsonUnsafe(cart)
 * })
 * ```
 */
export class CurrentSession extends Context.Service<CurrentSession, CurrentSessionOperations>()(
  "@effect-pg-session/http/CurrentSession"
) {
  /** See {@link CurrentSessionOperations.get}. */
  static readonly get = CurrentSession.use(getNow)
  /** See {@link CurrentSessionOperations.getOrAnonymous}; compiles only on routes that name this choice. */
  static readonly getOrAnonymous: Effect.Effect<
    Option.Option<Session>,
    never,
    CurrentSession | AnonymousWhenUnavailable
  > = Effect.andThen(
    AnonymousWhenUnavailable,
    CurrentSession.use((session) => session.getOrAnonymous)
  )
  /** See {@link CurrentSessionOperations.require}. */
  static readonly require = CurrentSession.use(requireNow)
  /** See {@link CurrentSessionOperations.ensure}. */
  static readonly ensure = (condition: SessionCondition) => CurrentSession.use((session) => session.ensure(condition))
  /** See {@link CurrentSessionOperations.authoritative}. */
  static readonly authoritative = CurrentSession.use((session) => session.authoritative)
  /** See {@link CurrentSessionOperations.guest}. */
  static readonly guest = (options?: GuestOptions) => CurrentSession.use((session) => session.guest(options))
  /** See {@link CurrentSessionOperations.login}. */
  static readonly login = (userId: UserId, options?: LoginOptions) =>
    CurrentSession.use((session) => session.login(userId, options))
  /** See {@link CurrentSessionOperations.rotate}. */
  static readonly rotate = (options?: RotateIdOptions) => CurrentSession.use((session) => session.rotate(options))
  /** See {@link CurrentSessionOperations.modify}. */
  static readonly modify = <E = never, R = never>(
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyCurrentOptions
  ) => CurrentSession.use((session) => session.modify(f, options))
  /** See {@link CurrentSessionOperations.logout}. */
  static readonly logout = CurrentSession.use((session) => session.logout)
  /** See {@link CurrentSessionOperations.logoutEverywhere}. */
  static readonly logoutEverywhere = (options?: LogoutEverywhereOptions) =>
    CurrentSession.use((session) => session.logoutEverywhere(options))
  /** See {@link CurrentSessionOperations.flash}. */
  static readonly flash = (kind: string, text: string) => CurrentSession.use((session) => session.flash(kind, text))
  /** See {@link CurrentSessionOperations.takeFlash}. */
  static readonly takeFlash = CurrentSession.use((session) => session.takeFlash)
  /** See {@link CurrentSessionOperations.csrfToken}. */
  static readonly csrfToken = CurrentSession.use((session) => session.csrfToken)
  /** See {@link CurrentSessionOperations.verifyCsrfToken}. */
  static readonly verifyCsrfToken = (token: string) => CurrentSession.use((session) => session.verifyCsrfToken(token))

  /**
   * The current session of a request that presents this one, or none, on the store that is provided: for tests of
   * handlers without a server. Everything works as in a request, but no cookie is sent. `Authenticated` is not
   * provided: `Layer.succeed(Authenticated, session)`.
   */
  static readonly layerTest = (session?: Session): Layer.Layer<CurrentSession, never, SessionStore> =>
    Layer.effect(
      CurrentSession,
      Effect.gen(function* () {
        const store = yield* SessionStore
        const clock = yield* Clock.Clock
        const cookies = yield* testCookies
        const value = session === undefined ? undefined : cookies.encode(session, 0)
        const header = value === undefined ? undefined : `${cookies.settings.name}=${Redacted.value(value)}`
        const request = { source: {}, headers: { cookie: header } }
        return new SessionOperations(new RequestSession(makeEnvironment({ store, cookies, clock }), request, constVoid))
      })
    )
}

/** A key of its own for each layer: what it signs is worth nothing anywhere else. */
const testCookies = Effect.suspend(() => makeCookies({}, [Redacted.make(randomBase64Url(32))])).pipe(Effect.orDie)
