/**
 * G2, read your writes: a node serves what it has acknowledged, a caller that
 * carries a version gets nothing older, and an authoritative read knows everything
 * that anybody was told before it began.
 */
import type { Operation, Violation } from "../History.ts"
import { Evidence } from "./Evidence.ts"
import type { Facts } from "./Facts.ts"

const changes = new Set<Operation["request"]["_tag"]>(["Create", "Update", "Increment", "Elevate", "Rotate"])

export const check = (facts: Facts): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  for (const session of facts.sessions.values()) {
    const evidence = new Evidence(facts, session)
    const written = session.operations.filter(
      ({ outcome, request }) => changes.has(request._tag) && outcome._tag === "Session"
    )
    for (const read of session.operations) {
      const { id, node, outcome, request, start } = read
      if (request._tag !== "Read" || outcome._tag !== "Session") continue
      const { version } = outcome.session
      const complain = (expected: number, why: string) => {
        if (version >= expected) return
        const message = `read ${id} on node ${node} was answered version ${version} of session ${session.key}, although ${why} version ${expected}`
        violations.push({ guarantee: "G2", message })
      }
      const own = written.filter((write) => write.node === node && write.end < start).map(versionOf)
      complain(Math.max(0, ...own), "the node itself had written")
      complain(request.minVersion ?? 0, "it asked for at least")
      if (request.refresh) complain(evidence.knownBefore(start), "it asked the database, and somebody had seen")
    }
  }
  return violations
}

const versionOf = ({ outcome }: Operation): number => (outcome._tag === "Session" ? outcome.session.version : 0)
