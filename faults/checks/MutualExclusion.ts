/**
 * G8, mutual exclusion with fencing: tokens only grow, nobody works under a lock
 * that somebody else was granted meanwhile (unless the process was stopped and
 * could not know), and then whoever checks tokens refuses; so counters end exact.
 */
import type { History, Operation, Section, Violation } from "../History.ts"
import { keyOf } from "./Facts.ts"

interface Held {
  readonly operation: Operation
  readonly lock: string
  /** The session whose attribute is incremented; `undefined`: a row of the harness. */
  readonly session: string | undefined
  readonly section: Section
  readonly ended: string
  /** It could not be interrupted. */
  readonly stubborn: boolean
}

/** What a timer may be late by without the process having been stopped. */
const tolerance = 10

export const check = (history: History): ReadonlyArray<Violation> => {
  const held = history.operations.flatMap(heldBy)
  const byLock = Map.groupBy(held, ({ lock }) => lock)
  return [
    ...doubleTokens(held),
    ...[...byLock.values()].flatMap((sections) => [...disordered(sections), ...overlapping(sections)]),
    ...held.flatMap(refusedHolder),
    ...counters(history, byLock)
  ].map((message) => ({ guarantee: "G8", message }))
}

const heldBy = (operation: Operation): ReadonlyArray<Held> => {
  const { outcome, request } = operation
  if (request._tag !== "Lock" || outcome._tag !== "Locked") return []
  const session = request.token === undefined ? undefined : keyOf(request.token)
  return [
    {
      operation,
      lock: request.lock,
      session,
      section: outcome.section,
      ended: outcome.ended,
      stubborn: request.stubborn
    }
  ]
}

const doubleTokens = (held: ReadonlyArray<Held>): ReadonlyArray<string> =>
  [...Map.groupBy(held, ({ section }) => section.token)]
    .filter(([, same]) => same.length > 1)
    .map(([token, same]) => `token ${token} was granted to ${same.map(({ operation }) => operation.id).join(" and ")}`)

/** Grants of which one was asked for after the other one was known. */
const disordered = (sections: ReadonlyArray<Held>): ReadonlyArray<string> => {
  const byStart = [...sections].sort((a, b) => a.operation.start - b.operation.start)
  const byGrant = [...sections].sort((a, b) => a.section.grantedAt - b.section.grantedAt)
  const complaints: Array<string> = []
  let highest = 0
  let next = 0
  for (const { lock, operation, section } of byStart) {
    for (
      let earlier = byGrant[next];
      earlier !== undefined && earlier.section.grantedAt < operation.start;
      earlier = byGrant[++next]
    ) {
      highest = Math.max(highest, earlier.section.token)
    }
    if (section.token <= highest) {
      complaints.push(`lock "${lock}" was granted to ${operation.id} with token ${section.token}, after ${highest}`)
    }
  }
  return complaints
}

const overlapping = (sections: ReadonlyArray<Held>): ReadonlyArray<string> => {
  const byToken = [...sections].sort((a, b) => a.section.token - b.section.token)
  return byToken.flatMap((holder, index) =>
    byToken.slice(index + 1, index + 20).flatMap((later) => {
      const who = `${holder.operation.id} (token ${holder.section.token}) of lock "${holder.lock}"`
      const since = `after ${later.operation.id} had been granted it with token ${later.section.token}`
      const worked =
        !holder.stubborn &&
        holder.section.steps.some(({ at, pause }) => at - pause - tolerance > later.section.grantedAt)
      const last = holder.section.steps.at(-1)?.at ?? -Infinity
      const accepted = holder.section.written !== undefined && last > later.section.knownAt
      return [...(worked ? [`${who} went on working ${since}`] : []), ...(accepted ? [`${who} wrote ${since}`] : [])]
    })
  )
}

const refusedHolder = ({ ended, lock, operation, section }: Held): ReadonlyArray<string> =>
  section.fenced && ended === "Finished"
    ? [`${operation.id} was refused with token ${section.token} of lock "${lock}", which it had not lost`]
    : []

const counters = (history: History, byLock: Map<string, ReadonlyArray<Held>>): ReadonlyArray<string> =>
  [...byLock].flatMap(([lock, sections]) => {
    const complaints: Array<string> = []
    const written = sections.flatMap(({ section }) => section.written ?? [])
    if (new Set(written).size < written.length) complaints.push(`under lock "${lock}" two wrote the same count`)
    const session = sections[0]?.session
    const value =
      session === undefined ? history.counters.get(lock) : history.rows?.find(({ key }) => key === session)?.guarded
    const unknown = history.operations.filter((operation) => mayHaveWritten(operation, lock)).length
    if (value !== undefined && (value < written.length || value > written.length + unknown)) {
      complaints.push(
        `the counter of lock "${lock}" is ${value} after ${written.length} to ${written.length + unknown} increments`
      )
    }
    return complaints
  })

const mayHaveWritten = ({ outcome, request }: Operation, lock: string): boolean => {
  if (request._tag !== "Lock" || request.lock !== lock) return false
  if (outcome._tag === "Unanswered" || outcome._tag === "Defect") return true
  return (
    outcome._tag === "Locked" &&
    outcome.section.writing &&
    outcome.section.written === undefined &&
    !outcome.section.fenced
  )
}
