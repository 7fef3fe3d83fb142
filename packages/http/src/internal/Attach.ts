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
import { type Environment, RequestSession } from "./RequestSession.ts"
import { makePreResponseHandler } from "./ResponseCookie.ts"
import { SessionOperations } from "./SessionOperations.ts"

/** What all requests of a layer share. */
export const environment: Effect.Effect<Environment, never, SessionStore | SessionCookie> = Effect.gen(function* () {
  return { store: yield* SessionStore, cookies: yield* SessionCookie, clock: yield* Clock.Clock }
})

/**
 * The session of a request, which one that is (a request that a handler makes of the same process is another one), and
 * in which cookie (an application may have several).
 */
const Attached = Context.Reference<
  { readonly source: object; readonly name: string; readonly operations: CurrentSessionOperations } | undefined
>("@effect-pg-session/http/Attached", { defaultValue: () => undefined })

/** Runs a handler with the session of its request. */
export const attach =
  (environment: Environment) =>
  <A, E, R>(
    handler: (session: CurrentSessionOperations) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, Exclude<R, CurrentSession> | HttpServerRequest> =>
    Effect.contextWith((context: Context.Context<HttpServerRequest>) => {
      const request = Context.get(context, HttpServerRequest)
      const { source } = request
      const { name } = environment.cookies.settings
      const outer = Context.get(context, Attached)
      if (outer?.source === source && outer.name === name) {
        return Effect.provideContext(handler(outer.operations), Context.make(CurrentSession, outer.operations))
      }
      const session = new RequestSession(
        environment,
        () => request.headers["cookie"],
        () => cookiesRefused.updateUnsafe(1, context)
      )
      HttpEffect.appendPreResponseHandlerUnsafe(context, makePreResponseHandler(session, request))
      const operations = new SessionOperations(session)
      return Effect.provideContext(
        handler(operations),
        Context.add(Context.make(CurrentSession, operations), Attached, { source, name, operations })
      )
    })
