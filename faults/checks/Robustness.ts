/**
 * G10, hostile input is cheap: no node ends by itself, nothing fails other than
 * it says it can, everything that is kept has a bound, and when what was wrong is
 * healed, nodes serve from memory again by themselves.
 */
import type { History, Violation } from "../History.ts"

/** Longer than any operation of the workload may take, whatever is wrong meanwhile, in milliseconds. */
const patience = 20_000

/** Typed errors that the requests of the workload can lead to. */
const expected = new Set(["LockTimeout", "LockLost"])

export const check = ({ ends, health, operations, unrecovered }: History): ReadonlyArray<Violation> => {
  const endOf = new Map(ends.map(({ at, node }) => [node, at]))
  return [
    ...ends
      .filter(({ how }) => how === "ByItself")
      .map(({ node, status }) => `node ${node} ended by itself (${status})`),
    ...operations.flatMap(({ id, node, outcome, request, start }) => {
      const what = `${request._tag} ${id} on node ${node}`
      const waited = (endOf.get(node) ?? start) - start
      if (outcome._tag === "Unanswered" && waited > patience) {
        return [`${what} was not answered within ${Math.round(waited)} ms`]
      }
      if (outcome._tag === "Defect") return [`${what} died: ${outcome.message}`]
      return outcome._tag === "Refused" && !expected.has(outcome.error) ? [`${what} failed with ${outcome.error}`] : []
    }),
    ...health
      .filter(({ bound, value }) => value > bound)
      .map(({ bound, node, value, what }) => `node ${node} has ${value} ${what}, more than ${bound}`),
    ...unrecovered.map((node) => `node ${node} does not serve from memory again, although nothing is wrong any more`)
  ].map((message) => ({ guarantee: "G10", message }))
}
