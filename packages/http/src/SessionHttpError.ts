/**
 * What may go wrong in a request, as the caller is told. Each error knows its
 * status and encodes to its tag and nothing else: core's errors carry versions,
 * limits, keys and a session, and so are mapped to these before anything leaves
 * the server. In a router they answer for themselves; in an `HttpApi` they are
 * schemas that clients can decode.
 */
import * as Effect from "effect/Effect"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import * as Data from "effect/Data"

const respond = (status: number, body: { readonly _tag: string }) =>
  Effect.succeed(HttpServerResponse.jsonUnsafe({ _tag: body._tag }, { status }))

/** 401: there is no session, it has ended, or it is a guest's. Ask the user to log in. */
export class Unauthenticated extends Schema.TaggedError<Unauthenticated>()(
  "Unauthenticated",
  {},
  { httpApiStatus: 401 }
) {
  override get message(): string {
    return "This needs a user who is logged in: let the user log in and try again"
  }
  [HttpServerRespondable.symbol]() {
    return respond(401, this)
  }
}

/** 403: the user is logged in, but has to prove more: a recent login, or whatever sets the attribute that the route requires. */
export class StepUpRequired extends Schema.TaggedError<StepUpRequired>()("StepUpRequired", {}, { httpApiStatus: 403 }) {
  override get message(): string {
    return "This needs a recent login or additional rights: let the user authenticate again and try again"
  }
  [HttpServerRespondable.symbol]() {
    return respond(403, this)
  }
}

/** 403: the request changes something, and nothing proves that it comes from the application's own pages. */
export class CsrfRejected extends Schema.TaggedError<CsrfRejected>()("CsrfRejected", {}, { httpApiStatus: 403 }) {
  override get message(): string {
    return "The request does not come from this site: send it from the site's own pages, or with the token of CurrentSession.csrfToken"
  }
  [HttpServerRespondable.symbol]() {
    return respond(403, this)
  }
}

/** 409: a checked change lost a race, and lost it again when it was repeated. Nothing was written. */
export class SessionConflict extends Schema.TaggedError<SessionConflict>()(
  "SessionConflict",
  {},
  { httpApiStatus: 409 }
) {
  override get message(): string {
    return "The session was changed by another request at the same time: try again"
  }
  [HttpServerRespondable.symbol]() {
    return respond(409, this)
  }
}

/** 409: the user has as many sessions as are allowed, and `onSessionLimit` is "reject". */
export class SessionLimitReached extends Schema.TaggedError<SessionLimitReached>()(
  "SessionLimitReached",
  {},
  { httpApiStatus: 409 }
) {
  override get message(): string {
    return "The user has too many sessions: end one and try again"
  }
  [HttpServerRespondable.symbol]() {
    return respond(409, this)
  }
}

/** 413: what the session would hold is larger than `maxAttributeBytes` or `maxSessionBytes` allow. Nothing was written. */
export class SessionDataTooLarge extends Schema.TaggedError<SessionDataTooLarge>()(
  "SessionDataTooLarge",
  {},
  { httpApiStatus: 413 }
) {
  override get message(): string {
    return "This is too much to keep in a session: store less"
  }
  [HttpServerRespondable.symbol]() {
    return respond(413, this)
  }
}

/** 503: the session store could not be asked. After a write it is unknown whether it was applied. The reason is in the log. */
export class SessionUnavailable extends Schema.TaggedError<SessionUnavailable>()(
  "SessionUnavailable",
  {},
  { httpApiStatus: 503 }
) {
  override get message(): string {
    return "Sessions are not available at the moment: try again later"
  }
  [HttpServerRespondable.symbol]() {
    return respond(503, this)
  }
}

/** Every error of this package that is an answer. */
export type SessionHttpError =
  | Unauthenticated
  | StepUpRequired
  | CsrfRejected
  | SessionConflict
  | SessionLimitReached
  | SessionDataTooLarge
  | SessionUnavailable

const answers = [
  Unauthenticated,
  StepUpRequired,
  CsrfRejected,
  SessionConflict,
  SessionLimitReached,
  SessionDataTooLarge,
  SessionUnavailable
] as const

/** The schemas of {@link SessionHttpError}, for the `error` of an endpoint or of a middleware. */
export const SessionHttpErrors: typeof answers = answers

/** Whether something is one of {@link SessionHttpError}. */
export const isSessionHttpError = (u: unknown): u is SessionHttpError => answers.some((answer) => u instanceof answer)

/** Why a cookie was refused. */
export type InvalidCookieReason =
  /** It is not of the form that this package writes. */
  | "Malformed"
  /** No key of the ring has signed it. */
  | "Forged"
  /** The request has several of its name: one of them was planted, and nobody can tell which. */
  | "Duplicated"
  /** It, or the whole header, is longer than a browser would send. */
  | "Oversized"

/**
 * A cookie that was refused before anybody looked for its session. Handlers never see it: to them such a request has no
 * session. It does not carry what was presented.
 */
export class InvalidCookie extends Data.TaggedError("InvalidCookie")<{
  readonly reason: InvalidCookieReason
}> {
  override get message(): string {
    return `The session cookie was refused (${this.reason}): treat the caller as not logged in`
  }
}
