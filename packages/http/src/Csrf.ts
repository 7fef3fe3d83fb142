/**
 * Protection against requests that another site makes a browser send along with
 * the user's cookie.
 *
 * Whatever may change something (every method but GET, HEAD, OPTIONS, TRACE and QUERY) must
 * show where it comes from: `Sec-Fetch-Site`, which pages cannot forge, or else
 * `Origin`. A browser that sends neither, or hides the origin, must present the
 * session's token (`CurrentSession.csrfToken`) in the header `x-csrf-token` or the form
 * field `_csrf`; the token is bound to the session and compared in constant time.
 * What is known to come from elsewhere is refused even with a token. Routes that
 * change something on GET are not protected: do not write those. The opening of a WebSocket counts as a change.
 */
import { InvalidSessionConfig } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Types from "effect/Types"
import { CurrentSession } from "./CurrentSession.ts"
import { csrfRejections } from "./internal/Counters.ts"
import { CsrfRejected, type SessionUnavailable } from "./SessionHttpError.ts"

/** Options of {@link csrf}. */
export interface CsrfOptions {
  /**
   * Origins that may send requests besides the application's own, such as `https://admin.example.com`: exactly as
   * browsers write them; anything else throws `InvalidSessionConfig`. Name the application's own, too, where a proxy
   * changes the `Host` header, or where there is no encryption. Default none.
   */
  readonly trustedOrigins?: ReadonlyArray<string> | undefined
  /** The header that carries the token. Default "x-csrf-token". */
  readonly headerName?: string | undefined
  /** The field of a urlencoded form that carries the token. Default "_csrf". */
  readonly fieldName?: string | undefined
}

const safeMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"])

/** What a request says of where it comes from. */
type Evidence = "ours" | "foreign" | "none"

/** Browsers treat these as safe places for cookies that are `Secure`. */
const isLocal = (hostname: string): boolean =>
  hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "127.0.0.1" || hostname === "[::1]"

/** Whether an origin is this host's. A page without encryption is another origin, except on the own machine. */
const isOwnOrigin = (origin: string, host: string | undefined): boolean => {
  if (host === undefined || !URL.canParse(origin)) return false
  const { hostname, host: originHost, protocol } = new URL(origin)
  if (protocol !== "https:" && !(protocol === "http:" && isLocal(hostname))) return false
  return URL.canParse(`${protocol}//${host}`) && new URL(`${protocol}//${host}`).host === originHost
}

const evidence = (request: HttpServerRequest, trusted: ReadonlySet<string>): Evidence => {
  const origin = request.headers["origin"]
  const site = request.headers["sec-fetch-site"]
  if (origin !== undefined && trusted.has(origin)) return "ours"
  if (site !== undefined) return site === "same-origin" || site === "none" ? "ours" : "foreign"
  // Hidden by a referrer policy, or a sandbox: both are possible.
  if (origin === undefined || origin === "null") return "none"
  return isOwnOrigin(origin, request.headers["host"]) ? "ours" : "foreign"
}

/** Refuses what browsers never write: it would never match, or, such as "null", match too much. */
const trustedOrigins = (origins: ReadonlyArray<string>): ReadonlySet<string> => {
  for (const origin of origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin || origin.includes("*")) {
      throw new InvalidSessionConfig({
        setting: "trustedOrigins",
        value: JSON.stringify(origin),
        allowed:
          "an origin as browsers write it, such as https://admin.example.com, without a path, a slash at its end or a wildcard"
      })
    }
  }
  return new Set(origins)
}

/** The check behind {@link csrf}, for a middleware of one's own. */
export const checkCsrf = (
  options?: CsrfOptions
): Effect.Effect<void, CsrfRejected | SessionUnavailable, CurrentSession | HttpServerRequest> => {
  const trusted = trustedOrigins(options?.trustedOrigins ?? [])
  const headerName = (options?.headerName ?? "x-csrf-token").toLowerCase()
  const fieldName = options?.fieldName ?? "_csrf"

  const fieldOf = (request: HttpServerRequest): Effect.Effect<string> =>
    Effect.match(request.urlParamsBody, {
      onFailure: () => "",
      onSuccess: (fields) => Option.getOrElse(UrlParams.getFirst(fields, fieldName), () => "")
    })

  const presentedToken = (request: HttpServerRequest): Effect.Effect<string, SessionUnavailable, CurrentSession> => {
    const header = request.headers[headerName]
    if (header !== undefined) return Effect.succeed(header)
    const isForm = /^application\/x-www-form-urlencoded\s*(;|$)/i.test(request.headers["content-type"] ?? "")
    if (!isForm) return Effect.succeed("")
    // Without a session no token is valid: what a stranger sends is not even read.
    return Effect.flatMap(CurrentSession.get, (found) => (Option.isSome(found) ? fieldOf(request) : Effect.succeed("")))
  }

  return Effect.flatMap(HttpServerRequest, (request) => {
    if (safeMethods.has(request.method) && request.headers["upgrade"] === undefined) return Effect.void
    const from = evidence(request, trusted)
    if (from === "ours") return Effect.void
    if (from === "foreign") return rejected
    return presentedToken(request).pipe(
      Effect.flatMap((token) => CurrentSession.verifyCsrfToken(token)),
      Effect.flatMap((isOurs) => (isOurs ? Effect.void : rejected))
    )
  })
}

const rejected: Effect.Effect<never, CsrfRejected> = Effect.andThen(
  Metric.update(csrfRejections, 1),
  Effect.suspend(() => Effect.fail(new CsrfRejected()))
)

/** The middleware that {@link csrf} makes. */
export type CsrfMiddleware = HttpRouter.Middleware<{
  provides: never
  handles: never
  error: CsrfRejected | SessionUnavailable
  requires: CurrentSession
  layerError: never
  layerRequires: never
}>

/**
 * A route middleware that refuses what other sites send with `CsrfRejected` (403). It asks for the session only where
 * neither `Sec-Fetch-Site` nor `Origin` tells; a request that shows none of the three is refused, so that clients which are
 * not browsers have to send an `Origin` of their own.
 *
 * @example
 * ```ts
 * Routes.pipe(Layer.provide(csrf().combine(session).layer))
 * ```
 */
export const csrf = (options?: CsrfOptions): CsrfMiddleware => {
  const check = checkCsrf(options)
  return HttpRouter.middleware((handler: Effect.Effect<HttpServerResponse, Types.unhandled>) =>
    Effect.andThen(check, handler)
  )
}
