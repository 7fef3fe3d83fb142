/**
 * G5, nothing acknowledged is lost: no session is missed that nobody can have
 * ended, and the table ends with the last acknowledged state, or with one of
 * unknown outcome.
 */
import type { History, Row, Violation } from "../History.ts"
import { Evidence } from "./Evidence.ts"
import { effectOf, type Facts, keyOf, type SessionFacts } from "./Facts.ts"

export const check = (facts: Facts): ReadonlyArray<Violation> => {
  const rows = new Map(facts.history.rows?.map((row) => [row.key, row]))
  return [...facts.sessions.values()].flatMap((session) =>
    [...missed(facts, session), ...atTheEnd(facts, session, rows.get(session.key))].map((message) => ({
      guarantee: "G5",
      message
    }))
  )
}

const missed = (facts: Facts, session: SessionFacts): ReadonlyArray<string> =>
  session.operations.flatMap(({ end, id, node, outcome, request }) => {
    if (outcome._tag !== "Gone" || request._tag === "Forge" || !("token" in request)) return []
    const { token } = request
    if (token === undefined || keyOf(token) !== session.key || !facts.isCurrent(token, end)) return []
    return facts.mayHaveEnded(session.key, end)
      ? []
      : [`${request._tag} ${id} on node ${node} did not find session ${session.key}, which nobody can have ended`]
  })

const atTheEnd = (facts: Facts, session: SessionFacts, row: Row | undefined): ReadonlyArray<string> => {
  if (facts.history.rows === undefined || session.created === undefined) return []
  if (row === undefined) {
    return facts.mayHaveEnded(session.key, Infinity)
      ? []
      : [`session ${session.key} is not in the table at the end, and nobody can have ended it`]
  }
  const known = new Evidence(facts, session).knownBefore(Infinity)
  if (row.version < known) {
    return [`session ${session.key} ends at version ${row.version}, although version ${known} was acknowledged`]
  }
  // Another user's attributes are dropped.
  return session.users.size > 1 ? [] : lastNote(facts.history, session, row)
}

const lastNote = (_: History, session: SessionFacts, row: Row): ReadonlyArray<string> => {
  let last = ""
  let lastVersion = 0
  const possible = new Set<string>()
  for (const operation of session.operations) {
    const { outcome, request } = operation
    if (request._tag !== "Update" || request.write._tag !== "Note") continue
    if (effectOf(operation) === "Maybe") possible.add(request.write.note)
    if (outcome._tag === "Session" && outcome.session.version > lastVersion) {
      lastVersion = outcome.session.version
      last = request.write.note
    }
  }
  return row.note === last || possible.has(row.note)
    ? []
    : [`session ${session.key} ends with "${row.note}", although "${last}" was written last`]
}
