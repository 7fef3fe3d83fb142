/**
 * The session for routes of an `HttpRouter`: provides `CurrentSession` to handlers
 * and guards, sends the cookie, and answers the errors of this package (a router
 * knows nothing of an API's statuses).
 */
import type { SessionStore } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type * as Types from "effect/Types"
import { AnonymousWhenUnavailable, type CurrentSession } from "./CurrentSession.ts"
import * as Attach from "./internal/Attach.ts"
import type { SessionCookie } from "./SessionCookie.ts"
import { isSessionHttpError, type SessionHttpError } from "./SessionHttpError.ts"

/** What happens while the store is down. */
export type WhenUnavailable =
  /** Whoever asks for the session fails with `SessionUnavailable`, which is answered with 503. */
  | "failClosed"
  /**
   * Handlers may use `CurrentSession.getOrAnonymous`, which then answers `None`. The cookie is kept, and everything that
   * needs the store (`require`, guards, `login`) still fails.
   */
  | "anonymous"

/** Options of `SessionMiddleware.make`. */
export interface SessionMiddlewareOptions<W extends WhenUnavailable = WhenUnavailable> {
  /** Default "failClosed". For single routes there is the guard `anonymousWhenUnavailable`. */
  readonly whenUnavailable?: W | undefined
  /**
   * How errors of this package are answered, for pages that redirect to a login, say. Default: the error's status, and
   * its tag as JSON.
   */
  readonly respond?:
    | ((error: SessionHttpError, request: HttpServerRequest) => Effect.Effect<HttpServerResponse>)
    | undefined
}

/** The middleware: `layer` for routes that need nothing else, `combine` below guards. */
export type SessionMiddleware<W extends WhenUnavailable = "failClosed"> = HttpRouter.Middleware<{
  provides: CurrentSession | (W extends "anonymous" ? AnonymousWhenUnavailable : never)
  handles: SessionHttpError
  error: never
  requires: never
  layerError: never
  layerRequires: SessionStore | SessionCookie
}>

const make = <const W extends WhenUnavailable = "failClosed">(
  options?: SessionMiddlewareOptions<W>
): SessionMiddleware<W> => {
  const respond = options?.respond ?? ((error: SessionHttpError) => HttpServerRespondable.toResponse(error))
  const isAnonymous = options?.whenUnavailable === "anonymous"
  type Provided = CurrentSession | (W extends "anonymous" ? AnonymousWhenUnavailable : never)

  return HttpRouter.middleware<{ provides: Provided; handles: SessionHttpError }>()(
    Effect.map(Attach.environment, (environment) => {
      const attach = Attach.attach(environment)
      return (
        handler: Effect.Effect<HttpServerResponse, SessionHttpError | Types.unhandled, Provided>
      ): Effect.Effect<HttpServerResponse, Types.unhandled, HttpServerRequest> => {
        const answered = Effect.catchIf(handler, isSessionHttpError, (error) =>
          Effect.flatMap(HttpServerRequest, (request) => respond(error, request))
        )
        const named = isAnonymous
          ? Effect.provideService(answered, AnonymousWhenUnavailable, true)
          : // Then `Provided` is `CurrentSession` alone.
            (answered as Effect.Effect<HttpServerResponse, Types.unhandled, CurrentSession | HttpServerRequest>)
        return attach(() => named)
      }
    })
  )
}

/**
 * Constructors.
 *
 * - `make(options?)`: a route middleware. It must be the outermost of its guards: `requireSession.combine(session).layer`.
 *
 * @example
 * ```ts
 * const session = SessionMiddleware.make()
 * const Routes = Layer.mergeAll(
 *   HttpRouter.add("POST", "/login", login),
 *   HttpRouter.add("GET", "/", home)
 * ).pipe(
 *   Layer.provide(csrf().combine(session).layer),
 *   Layer.provide(SessionCookie.layerConfig),
 *   Layer.provide(PgSessionLive)
 * )
 * ```
 */
export const SessionMiddleware = { make }
