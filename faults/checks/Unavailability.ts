/** How long operations were refused because PostgreSQL could not be asked. */
import type { History } from "../History.ts"

/** The length of the union of all times in which somebody waited for such an answer, in milliseconds. */
export const unavailableMillis = ({ operations }: History): number => {
  const refused = operations.filter(({ outcome }) => outcome._tag === "Unavailable").sort((a, b) => a.start - b.start)
  let total = 0
  let until = -Infinity
  for (const { end, start } of refused) {
    total += Math.max(0, end - Math.max(start, until))
    until = Math.max(until, end)
  }
  return total
}
