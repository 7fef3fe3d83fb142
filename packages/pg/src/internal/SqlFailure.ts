/**
 * What a failure of `@effect/sql-pg` means: whether the statement was refused or
 * the connection lost, and what may be told of it. A failure's text never
 * holds more than an SQLSTATE and PostgreSQL's primary message: details, hints
 * and contexts quote rows and parameters, and causes can hold the connection's URL.
 */
import { SessionStoreUnavailable } from "@effect-pg-session/core"
import type { UnavailableReason } from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"

/** A failure in the library's words. */
export interface SqlFailure {
  readonly reason: UnavailableReason
  /**
   * `true`: the server answered that the statement failed, so that nothing of it was applied. `false`: the connection
   * ended before an answer came.
   */
  readonly refused: boolean
  readonly detail: string
}

interface ServerError {
  readonly code: string
  readonly message: string
  readonly fatal: boolean
}

/** What the server said, where it was the server that failed the statement. */
const serverError = (error: SqlError): ServerError | undefined => {
  const cause = error.reason.cause
  if (!Predicate.hasProperty(cause, "severity") || !Predicate.hasProperty(cause, "code")) return undefined
  if (!Predicate.isString(cause.code) || !(cause instanceof Error)) return undefined
  const severity = Predicate.hasProperty(cause, "severityUnlocalized") ? cause.severityUnlocalized : cause.severity
  return { code: cause.code, message: cause.message, fatal: severity === "FATAL" || severity === "PANIC" }
}

// Connection exceptions, operator intervention that ends a session, and "statement completion unknown".
const endsSession = /^(?:08...|57P0[1-5]|40003)$/
const timedOut = new Set(["57014", "55P03"])
const maxDetailLength = 300

/** The SQLSTATE, where it was the server that failed the statement. */
export const sqlState = (error: SqlError): string | undefined => serverError(error)?.code

/** Whether a connection that had been open was lost, so that what only reads may be sent on another one. */
export const isLost = (error: SqlError): boolean =>
  error.reason.operation !== "connect" && classify(error).reason === "Unreachable"

/** Says what a failure means; `Unreachable` wherever no connection could be had or it was lost. */
export const classify = (error: SqlError): SqlFailure => {
  const answer = serverError(error)
  if (answer === undefined) {
    const reason = error.reason._tag === "UnknownError" ? "DatabaseError" : "Unreachable"
    return { reason, refused: false, detail: clientDetail(error) }
  }
  const detail = `${answer.code} ${primaryMessage(answer)}`.slice(0, maxDetailLength)
  if (answer.fatal || endsSession.test(answer.code) || error.reason.operation === "connect") {
    return { reason: "Unreachable", refused: false, detail: detail + poolerAdvice(answer) }
  }
  return { reason: timedOut.has(answer.code) ? "Timeout" : "DatabaseError", refused: true, detail }
}

// The primary messages of data exceptions quote the value: invalid input syntax for type bigint: "...".
const primaryMessage = (answer: ServerError): string =>
  answer.code.startsWith("22") ? "data exception (its message could quote a value and is withheld)" : answer.message

const poolerAdvice = (answer: ServerError): string =>
  answer.message.startsWith("unsupported startup parameter")
    ? " (behind a pooler, set prepare to false, and listenUrl to the server's own URL)"
    : ""

// Messages of sql-pg are constant texts, but their causes are not: a cause may be a TypeError that holds the URL.
const clientDetail = (error: SqlError): string => {
  const message = (error.reason.message ?? "failed").replace(/^Pg\w+: /, "")
  const cause = error.reason.cause
  const code = Predicate.hasProperty(cause, "code") ? cause.code : undefined
  const suffix = Predicate.isString(code) && /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? ` (${code})` : ""
  return message.slice(0, maxDetailLength) + suffix
}

/**
 * The failure of an attempt as callers get it. `sent`: the statement may have reached the server. A defect while a
 * statement ran stays one; before, only the application's own code runs, such as an effect that provides the password.
 */
export const unavailable = (
  operation: string,
  cause: Cause.Cause<SqlError>,
  sent: boolean,
  isWrite: boolean
): Cause.Cause<SessionStoreUnavailable> => {
  const fail = ({ detail, reason, refused }: SqlFailure) =>
    Cause.fail(
      new SessionStoreUnavailable({
        operation,
        reason,
        outcome: isWrite && sent && !refused ? "Unknown" : "NotApplied",
        detail
      })
    )
  const found = Cause.findError(cause)
  if (Result.isSuccess(found)) return fail(classify(found.success))
  // A pool that is shut down interrupts those who ask for a connection.
  if (Cause.hasInterruptsOnly(found.failure)) {
    return fail({ reason: "Closed", refused: false, detail: "the connections were closed" })
  }
  return sent
    ? found.failure
    : fail({
        reason: "Unreachable",
        refused: false,
        detail: "opening a connection failed with a defect, such as a failing password provider"
      })
}
