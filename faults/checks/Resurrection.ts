/**
 * G4, no resurrection: once somebody knew that a session is over, no authoritative
 * read finds it, no node finds it that has said so itself, and it is not in the
 * table at the end.
 */
import type { Violation } from "../History.ts"
import { Evidence } from "./Evidence.ts"
import type { Facts } from "./Facts.ts"

export const check = (facts: Facts): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const stored = new Set(facts.history.rows?.filter(({ live }) => live).map(({ key }) => key))
  for (const session of facts.sessions.values()) {
    const { gone, goneAt, goneOn } = endings(facts, session.key)
    if (gone === undefined) continue
    const since = `although operation ${gone.id} on node ${gone.node} had been told that it is over`
    for (const operation of session.operations) {
      if (operation.outcome._tag !== "Session") continue
      const { id, node, request, start } = operation
      const isAuthoritative = request._tag !== "Read" || request.refresh
      if (start > goneAt && isAuthoritative) {
        violations.push({
          guarantee: "G4",
          message: `${request._tag} ${id} on node ${node} found session ${session.key} in the database, ${since}`
        })
      } else if (start > (goneOn.get(node) ?? Infinity)) {
        violations.push({
          guarantee: "G4",
          message: `${request._tag} ${id} on node ${node} found session ${session.key}, ${since}, on the same node`
        })
      }
    }
    if (stored.has(session.key)) {
      violations.push({ guarantee: "G4", message: `session ${session.key} is in the table at the end, ${since}` })
    }
  }
  return violations
}

const endings = (facts: Facts, key: string) => {
  const session = facts.sessions.get(key)
  const goneOn = new Map<string, number>()
  if (session === undefined) return { gone: undefined, goneAt: Infinity, goneOn }
  const evidence = new Evidence(facts, session)
  for (const operation of evidence.endings) {
    goneOn.set(operation.node, Math.min(goneOn.get(operation.node) ?? Infinity, operation.end))
  }
  return { gone: evidence.gone, goneAt: evidence.goneAt, goneOn }
}
