/**
 * G3, no lost update: counters end exact, no two accepted writes have the same
 * result, and a version is one state only, whoever reads it where.
 */
import type { Operation, Row, Violation } from "../History.ts"
import { effectOf, type Facts, type SessionFacts, snapshotsOf } from "./Facts.ts"

const counts = ({ request }: Operation): boolean =>
  request._tag === "Increment" || (request._tag === "Update" && request.write._tag === "Count")

const changes = (operation: Operation): boolean =>
  counts(operation) || ["Update", "Elevate", "Rotate", "Create"].includes(operation.request._tag)

export const check = (facts: Facts): ReadonlyArray<Violation> => {
  const rows = new Map(facts.history.rows?.map((row) => [row.key, row]))
  return [...facts.sessions.values()].flatMap((session) =>
    [
      ...doubleVersions(session),
      ...doubleStates(session),
      ...mismatches(session),
      // Another user's attributes are dropped.
      ...(session.users.size > 1 ? [] : counter(rows.get(session.key), session))
    ].map((message) => ({ guarantee: "G3", message: `session ${session.key}: ${message}` }))
  )
}

const doubleVersions = (session: SessionFacts): ReadonlyArray<string> => {
  const by = new Map<number, number>()
  return session.operations.flatMap((operation) => {
    if (!changes(operation) || operation.outcome._tag !== "Session") return []
    const { version } = operation.outcome.session
    const other = by.get(version)
    by.set(version, operation.id)
    return other === undefined ? [] : [`writes ${other} and ${operation.id} both made version ${version}`]
  })
}

const doubleStates = (session: SessionFacts): ReadonlyArray<string> => {
  const by = new Map<number, { readonly id: number; readonly state: string }>()
  return session.operations.flatMap((operation) =>
    snapshotsOf(operation).flatMap(({ count, group, guarded, note, user, version }) => {
      const state = JSON.stringify({ count, guarded, note, user, group })
      const other = by.get(version)
      if (other === undefined) by.set(version, { id: operation.id, state })
      return other === undefined || other.state === state
        ? []
        : [`version ${version} was ${other.state} for ${other.id} and ${state} for ${operation.id}`]
    })
  )
}

const mismatches = (session: SessionFacts): ReadonlyArray<string> =>
  session.operations.flatMap(({ id, outcome }) =>
    outcome._tag === "Mismatch" && (outcome.actual <= outcome.expected || outcome.current.version < outcome.actual)
      ? [
          `update ${id} was refused because version ${outcome.expected} were now ${outcome.actual}, of ${outcome.current.version}`
        ]
      : []
  )

const counter = (row: Row | undefined, session: SessionFacts): ReadonlyArray<string> => {
  const complaints: Array<string> = []
  const increments = session.operations.filter(counts)
  const by = new Map<number, number>()
  for (const { id, outcome } of increments) {
    if (outcome._tag !== "Session") continue
    const { count } = outcome.session
    const other = by.get(count)
    if (other !== undefined) complaints.push(`increments ${other} and ${id} both counted to ${count}`)
    by.set(count, id)
  }
  if (row === undefined) return complaints
  const certain = increments.filter((operation) => effectOf(operation) === "Yes").length
  const possible = certain + increments.filter((operation) => effectOf(operation) === "Maybe").length
  if (row.count < certain || row.count > possible) {
    complaints.push(`the count is ${row.count} after ${certain} to ${possible} increments`)
  }
  return complaints
}
