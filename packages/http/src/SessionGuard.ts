/**
 * Guards: route middleware that lets a request pass only if its session fulfils a
 * condition. They go below a `SessionMiddleware` and compose in any order:
 * `requireAttribute(Elevated).combine(authoritative).combine(session).layer`.
 * Those that demand a user provide `Authenticated`. For endpoints of an `HttpApi`,
 * `SessionGuardApi` makes a middleware of a guard.
 */
import { Session, type SessionAttribute } from "@effect-pg-session/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Types from "effect/Types"
import {
  AnonymousWhenUnavailable,
  Authenticated,
  type SessionCondition,
  CurrentSession,
  type CurrentSessionOperations
} from "./CurrentSession.ts"
import { requireNow } from "./internal/SessionOperations.ts"
import { stepUpRequired } from "./internal/StoreErrors.ts"
import type { SessionUnavailable, StepUpRequired, Unauthenticated } from "./SessionHttpError.ts"

/** What a guard can refuse a request with. */
export type SessionGuardError = Unauthenticated | StepUpRequired | SessionUnavailable

/** A guard: a route middleware, and what it checks. */
export interface SessionGuard extends HttpRouter.Middleware<{
  provides: Authenticated
  handles: never
  error: SessionGuardError
  requires: CurrentSession
  layerError: never
  layerRequires: never
}> {
  /** The session that passed. */
  readonly check: (current: CurrentSessionOperations) => Effect.Effect<Session, SessionGuardError>
}

/** `now`: the same as `check`, called when it is to be run. */
const makeGuard = (check: SessionGuard["check"], now: SessionGuard["check"] = check): SessionGuard => {
  const passed = CurrentSession.use(now)
  return Object.assign(
    HttpRouter.middleware<{ provides: Authenticated }>()(
      (handler: Effect.Effect<HttpServerResponse, Types.unhandled, Authenticated>) =>
        Effect.flatMap(passed, (session) => Effect.provideService(handler, Authenticated, session))
    ),
    { check }
  )
}

/** A former id is accepted for a moment, but has no part in the rights for which it was replaced: it may have been stolen. */
const makeCondition = (condition: SessionCondition): SessionGuard => {
  const withCurrentId: SessionCondition = (session) =>
    Session.hasCurrentId(session) ? condition(session) : stepUpRequired
  return makeGuard((current) => current.ensure(withCurrentId))
}

/** Lets users pass who are logged in; `Unauthenticated` (401) for everybody else, guests included. */
export const requireSession: SessionGuard = makeGuard((current) => current.require, requireNow)

/** Options of {@link requireFresh}. */
export interface RequireFreshOptions {
  /** How long ago the user may have logged in, by PostgreSQL's clock. */
  readonly within: Duration.Input
}

/**
 * Lets users pass who have logged in recently; `StepUpRequired` (403) for others who are logged in, and for an id that a
 * login or a rotation has just replaced.
 */
export const requireFresh = (options: RequireFreshOptions): SessionGuard => {
  const within = Duration.fromInputUnsafe(options.within)
  return makeCondition((session) =>
    Effect.flatMap(Session.sinceAuthentication(session), (since) =>
      Option.isSome(since) && Duration.isLessThanOrEqualTo(since.value, within) ? Effect.void : stepUpRequired
    )
  )
}

/** Options of {@link requireAttribute}. */
export interface RequireAttributeOptions<A> {
  /** Which values let pass. Default: all but `false`. */
  readonly where?: ((value: A) => boolean) | undefined
}

/**
 * Lets users pass whose session has the attribute, as long as it lives; `StepUpRequired` (403) for others who are logged in,
 * and for an id that has just been replaced. What is stored but does not fit the attribute's schema lets nobody pass. An attribute with an initial value is no
 * condition, and is refused by its type.
 */
export const requireAttribute = <A, Missing>(
  attribute: SessionAttribute<A, Missing> & ([Missing] extends [never] ? "An initial value is never missing" : unknown),
  options?: RequireAttributeOptions<NoInfer<A>>
): SessionGuard => {
  const where = options?.where ?? ((value: A) => (value as unknown) !== false)
  return makeCondition((session) =>
    Effect.matchEffect(Session.getOption(session, attribute), {
      onFailure: () => stepUpRequired,
      onSuccess: (value) => (Option.isSome(value) && where(value.value) ? Effect.void : stepUpRequired)
    })
  )
}

/**
 * Lets users pass whose session is live in the database at this moment, whatever is in memory; and, in whichever order
 * they are combined, only if what other guards have demanded holds there, too. Costs a query.
 */
export const authoritative: SessionGuard = makeGuard((current) => current.authoritative)

/** Names a route's choice to go on with nobody while the store is down: it may then use `CurrentSession.getOrAnonymous`. Demands nothing. */
export const anonymousWhenUnavailable: HttpRouter.Middleware<{
  provides: AnonymousWhenUnavailable
  handles: never
  error: never
  requires: never
  layerError: never
  layerRequires: never
}> = HttpRouter.middleware<{ provides: AnonymousWhenUnavailable }>()(
  (handler: Effect.Effect<HttpServerResponse, Types.unhandled, AnonymousWhenUnavailable>) =>
    Effect.provideService(handler, AnonymousWhenUnavailable, true)
)
