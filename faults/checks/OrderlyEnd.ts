/**
 * G11, orderly end: whoever is asked to end does so in time, whatever is wrong;
 * and where nothing is wrong, what was used is written and what was locked is
 * free.
 */
import type { History, Violation } from "../History.ts"

/** What closing connections that do not answer may take, and what a process takes to end, in milliseconds. */
const closing = 2_000
const ending = 1_500
/** How exactly the time of a last access is known, in milliseconds. */
const accuracy = 50

export const check = ({ ends, farewell, settings }: History): ReadonlyArray<Violation> => {
  // Half for writes, half for activity, and half for locks.
  const limit = settings.shutdownTimeout * 1.5 + closing + ending
  return [
    ...ends
      .filter(({ how, tookMillis }) => how === "Asked" && tookMillis > limit)
      .map(({ node, tookMillis }) => `node ${node} took ${Math.round(tookMillis)} ms to end, of ${limit}`),
    ...(farewell?.used ?? []).flatMap(({ at, key }) => {
      const stored = farewell?.stored.get(key) ?? -Infinity
      return stored < at - accuracy ? [`the last use of session ${key} is missing: ${Math.round(at - stored)} ms`] : []
    }),
    ...(farewell !== undefined && farewell.locksBefore.length !== farewell.nodes
      ? [`${farewell.locksBefore.length} locks were held just before the end, by ${farewell.nodes} nodes`]
      : []),
    ...(farewell?.locksAfter ?? []).map((lock) => `the lock ${lock} is held by a node that has ended`)
  ].map((message) => ({ guarantee: "G11", message }))
}
