/**
 * Gives a request its current session, or finds the one that an outer middleware
 * has given it: a router and an API nested in it share one.
 */
import { SessionStore } from "@effect-pg-session/core"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import { CurrentSession, type CurrentSessionOperations } from "../CurrentSession.ts"
import { SessionCookie } from "../SessionCookie.ts"
import { cookiesRefused } from "./Counters.ts"
import { type Environment, makeEnvironment, RequestSession } from "./RequestSession.ts"
import { makePreResponseHandler } from "./ResponseCookie.ts"
import { SessionOperations } from "./SessionOperations.ts"

/** What all requests of a layer share. */
export const environment: Effect.Effect<Environment, never, SessionStore | SessionCookie> = Effect.gen(function* () {
  return makeEnvironment({ store: yield* SessionStore, cookies: yield* SessionCookie, clock: yield* Clock.Clock })
})

/**
 * The session that an outer middleware has given to this very request (one that a handler makes of the same process is
 * another one), in the same cookie (an application may have several).
 */
const attached = (
  context: Context.Context<never>,
  source: object,
  name: string
): CurrentSessionOperations | undefined => {
  const outer = Context.getOrUndefined(context, CurrentSession)
  if (!(outer instanceof SessionOperations) || outer.request.request.source !== source) return undefined
  return outer.request.environment.cookies.settings.name === name ? outer : undefined
}

/** Runs a handler with the session of its request. */
export const attach =
  (environment: Environment) =>
  <A, E, R>(
    handler: (session: CurrentSessionOperations) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, Exclude<R, CurrentSession> | HttpServerRequest> =>
    Effect.withFiber((fiber): Effect.Effect<A, E, Exclude<R, CurrentSession>> => {
      const { context } = fiber
      const request = Context.getUnsafe(context, HttpServerRequest)
      const outer = attached(context, request.source, environment.cookies.settings.name)
      if (outer !== undefined) return Effect.provideService(handler(outer), CurrentSession, outer)
      const session = new RequestSession(environment, request, () => cookiesRefused.updateUnsafe(1, context))
      HttpEffect.appendPreResponseHandlerUnsafe(context, makePreResponseHandler(session, request))
      const operations = new SessionOperations(session)
      // What `Effect.provideService` does, without effects of its own for each request: the service is there when it runs.
      const handled = handler(operations) as Effect.Effect<A, E, Exclude<R, CurrentSession>>
      fiber.setContext(Context.add(context, CurrentSession, operations))
      return Effect.onExitPrimitive(handled, () => {
        fiber.setContext(context)
        return undefined
      })
    })
