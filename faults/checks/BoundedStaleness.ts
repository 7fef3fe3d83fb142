/**
 * G1, bounded staleness: every read against the real time at which somebody first
 * knew of a newer state, or of the session's end.
 */
import type { Operation, Violation } from "../History.ts"
import { Evidence } from "./Evidence.ts"
import type { Facts } from "./Facts.ts"

/** What the clocks of the node and of the harness may differ by, and what an answer takes. */
const measurementError = 20

export interface Staleness {
  readonly violations: ReadonlyArray<Violation>
  /** The oldest state that was served, in milliseconds since it was known to be superseded. */
  readonly maxStalenessMs: number
}

/**
 * How old the state was for certain: when the read began, and also when it was answered, less what its process was
 * stopped for meanwhile, between the decision and the answer.
 */
const ageOf = ({ end, pause, start }: Operation, supersededAt: number): number =>
  Math.max(0, start - supersededAt, end - pause - supersededAt)

export const check = (facts: Facts): Staleness => {
  const { maxStaleness } = facts.history.settings
  const violations: Array<Violation> = []
  let maxStalenessMs = 0
  for (const session of facts.sessions.values()) {
    const evidence = new Evidence(facts, session)
    for (const read of session.operations) {
      if (read.request._tag !== "Read" || read.outcome._tag !== "Session") continue
      const { version } = read.outcome.session
      const age = ageOf(read, Math.min(evidence.supersededAt(version), evidence.goneAt))
      maxStalenessMs = Math.max(maxStalenessMs, age)
      if (age > maxStaleness + measurementError) {
        const newer = evidence.goneAt < Infinity ? "ended" : "changed"
        violations.push({
          guarantee: "G1",
          message: `read ${read.id} on node ${read.node} was answered version ${version} of session ${session.key}, which had ${newer} ${Math.round(age)} ms before`
        })
      }
    }
  }
  return { violations, maxStalenessMs }
}
