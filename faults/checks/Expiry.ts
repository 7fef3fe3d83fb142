/**
 * G6, expiry holds at read time: nothing is served after its absolute limit, its
 * idle limit or its attribute's; and what is used is never taken for idle.
 */
import type { Operation, Violation } from "../History.ts"
import { clockError, effectOf, type Facts, type SessionFacts } from "./Facts.ts"

export const check = (facts: Facts): ReadonlyArray<Violation> =>
  [...facts.sessions.values()].flatMap((session) =>
    [
      ...servedTooLate(session),
      ...servedIdle(facts, session),
      ...takenForIdle(facts, session),
      ...elevatedTooLong(facts, session)
    ].map((message) => ({ guarantee: "G6", message: `session ${session.key}: ${message}` }))
  )

/** A login begins the limits anew. */
const limitsOf = ({ created, rotations }: SessionFacts) =>
  created?.request._tag === "Create" &&
  rotations.every(({ request }) => request._tag === "Rotate" && request.user === undefined)
    ? { created, ...created.request }
    : undefined

const found = ({ outcome, request }: Operation): boolean => outcome._tag === "Session" && request._tag !== "Create"

const servedTooLate = (session: SessionFacts): ReadonlyArray<string> => {
  const limits = limitsOf(session)
  if (limits?.expiresIn === undefined) return []
  const end = limits.created.end + limits.expiresIn
  return session.operations
    .filter((operation) => found(operation) && operation.start > end + clockError)
    .map(({ id, node, request, start }) => {
      const late = Math.round(start - end)
      return `${request._tag} ${id} on node ${node} found it ${late} ms after its absolute limit`
    })
}

const mayTouch = ({ request }: Operation): boolean => request._tag !== "Read" || request.touch

/** Until when an operation may have counted as activity, at the latest. */
const activeUntil = (operation: Operation, statementTimeout: number): number => {
  if (operation.outcome._tag === "Unavailable") return operation.end + 2 * statementTimeout
  return effectOf(operation) === "Maybe" ? Infinity : operation.end
}

const servedIdle = (facts: Facts, session: SessionFacts): ReadonlyArray<string> => {
  const limits = limitsOf(session)
  if (limits?.idleTimeout === undefined) return []
  const { idleTimeout } = limits
  const { statementTimeout } = facts.history.settings
  return session.operations.filter(found).flatMap((operation) => {
    const { id, node, request, start } = operation
    const before = session.operations.filter((other) => other !== operation && other.start < start && mayTouch(other))
    const last = Math.max(...before.map((other) => activeUntil(other, statementTimeout)))
    return start > last + idleTimeout + clockError
      ? [`${request._tag} ${id} on node ${node} found it, idle for ${Math.round(start - last)} ms of ${idleTimeout}`]
      : []
  })
}

const takenForIdle = (facts: Facts, session: SessionFacts): ReadonlyArray<string> => {
  const limits = limitsOf(session)
  // Within twice the statement timeout a use is written before it is answered.
  if (limits?.idleTimeout === undefined || limits.idleTimeout > 2 * facts.history.settings.statementTimeout) return []
  const { idleTimeout } = limits
  return session.operations.flatMap(({ end, id, node, outcome, request, start }) => {
    if (outcome._tag !== "Gone" || request._tag === "Forge" || !("token" in request)) return []
    if (request.token === undefined || !facts.isCurrent(request.token, end)) return []
    if (facts.mayHaveEndedBusy(session.key, end)) return []
    const used = session.operations.filter(
      (other) => (other.request._tag === "Create" || other.request._tag === "Read") && mayTouch(other)
    )
    const confirmed = used.filter((other) => other.outcome._tag === "Session" && other.end < start)
    const last = Math.max(...confirmed.map((other) => other.start))
    return end < last + idleTimeout - clockError
      ? [`${request._tag} ${id} on node ${node} took it for idle ${Math.round(end - last)} ms after it was used`]
      : []
  })
}

const elevatedTooLong = (facts: Facts, session: SessionFacts): ReadonlyArray<string> => {
  const { elevatedFor } = facts.history.settings
  const elevations = session.operations.filter(({ request }) => request._tag === "Elevate")
  return session.operations.flatMap((operation) => {
    const { id, node, outcome, request, start } = operation
    if (request._tag !== "Read" || outcome._tag !== "Session" || !outcome.session.elevated) return []
    const until = elevations
      .filter((other) => other.start < operation.end)
      .map((other) => (effectOf(other) === "Maybe" ? Infinity : other.end) + elevatedFor)
    return start > Math.max(...until) + clockError
      ? [
          `read ${id} on node ${node} found an attribute that had expired ${Math.round(start - Math.max(...until))} ms before`
        ]
      : []
  })
}
