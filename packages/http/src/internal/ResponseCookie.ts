/**
 * What a response says about the session: the cookie where it changed, and that
 * the response depends on it. Total: whatever happens here, a response leaves.
 */
import { Session } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import type { CookiesError } from "effect/http/Cookies"
import type { PreResponseHandler } from "effect/http/HttpEffect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { SessionCookies } from "../SessionCookie.ts"
import type { RequestSession } from "./RequestSession.ts"

type Response = HttpServerResponse.HttpServerResponse

/** Tells caches that the response is another one for another cookie. */
const dependsOnCookie = (response: Response): Response => {
  const vary = response.headers["vary"]
  if (vary === undefined) return HttpServerResponse.setHeader(response, "vary", "Cookie")
  const names = vary.split(",").map((name) => name.trim().toLowerCase())
  return names.includes("*") || names.includes("cookie")
    ? response
    : HttpServerResponse.setHeader(response, "vary", `${vary}, Cookie`)
}

/** A response that sets the cookie is for its receiver only. */
const withCookie = (
  response: Response,
  cookies: SessionCookies,
  value: Redacted.Redacted<string>,
  attributes: SessionCookies["attributes"]
) =>
  HttpServerResponse.setCookie(response, cookies.settings.name, Redacted.value(value), attributes).pipe(
    Effect.map((response) => HttpServerResponse.setHeader(dependsOnCookie(response), "cache-control", "no-store"))
  )

/** Whether the caller is known to be connected in the clear; `undefined` where nobody can tell. */
export const isPlain = (request: HttpServerRequest, cookies: SessionCookies): boolean | undefined => {
  // Set where the application itself has decided whom to believe.
  if (request.protocol !== undefined) return request.protocol === "http"
  if (cookies.settings.forwardedProto === "ignore") return undefined
  const forwarded = request.headers["x-forwarded-proto"]
  if (forwarded === undefined) return !/^https:/i.test(request.originalUrl)
  // A list has an entry for every hop, and each of them has seen the cookie.
  return !forwarded.split(",").every((protocol) => protocol.trim().toLowerCase() === "https")
}

const empty = Redacted.make("", { label: "SessionCookie" })

const clear = (response: Response, cookies: SessionCookies) =>
  Effect.map(withCookie(response, cookies, empty, cookies.clearingAttributes), (response) =>
    cookies.settings.clearSiteData
      ? HttpServerResponse.setHeader(response, "clear-site-data", `"cache", "cookies", "storage"`)
      : response
  )

/**
 * The session to put into the cookie, as it stands now. `None` where another request has given it a newer id meanwhile:
 * that one's response carries it, and ours might arrive later.
 */
const current = (session: RequestSession): Effect.Effect<Option.Option<Session>> => {
  const { change, environment, known } = session
  if (known === undefined) return Effect.succeedNone
  if (change === "begin") return Effect.succeedSome(known)
  return Effect.matchCause(environment.store.find(known.id, { touch: false }), {
    onFailure: () => (change === "issue" ? Option.some(known) : Option.none()),
    onSuccess: (found) => {
      if (Option.isNone(found)) return change === "issue" ? Option.some(known) : found
      if (!Session.hasCurrentId(found.value)) return Option.none()
      return found.value.version > known.version ? found : Option.some(known)
    }
  })
}

/** The response with what the session has to say in the cookie. */
const withChange = (
  session: RequestSession,
  request: HttpServerRequest,
  response: Response
): Effect.Effect<Response, CookiesError> => {
  const { cookies } = session.environment
  if (session.change === "clear") return clear(response, cookies)
  if (cookies.settings.secure && isPlain(request, cookies) === true) {
    return Effect.as(
      Effect.logWarning(
        "The session cookie is for encrypted connections only and was not sent in answer to a plain request: let the proxy redirect to https, and have it set X-Forwarded-Proto"
      ),
      dependsOnCookie(response)
    )
  }
  return Effect.flatMap(
    current(session),
    Option.match({
      onNone: () => Effect.succeed(dependsOnCookie(response)),
      onSome: (value) => withCookie(response, cookies, cookies.encode(value, session.now), cookies.attributes)
    })
  )
}

/**
 * The handler to append for a request; it needs no service and never fails. `request` is the one that the middleware saw:
 * the one that the handler is called with lacks what other middleware has found out about it.
 */
export const makePreResponseHandler =
  (session: RequestSession, request: HttpServerRequest): PreResponseHandler =>
  (_, response) => {
    session.sent = true
    // Most responses change nothing: what is known at once lets the server write them at once.
    if (session.change === "none") return Effect.succeed(session.asked ? dependsOnCookie(response) : response)
    return Effect.catchCause(
      Effect.suspend(() => withChange(session, request, response)),
      (cause) => Effect.as(Effect.logError("The session cookie could not be set", cause), dependsOnCookie(response))
    )
  }
