/**
 * G12, no storms: what a reconnect, a miss that many ask for, and activity cost in statements. None at all
 * would mean that it did not happen.
 */
import type { History, Violation } from "../History.ts"

export const check = ({ statements }: History): ReadonlyArray<Violation> =>
  statements
    .filter(({ bound, value }) => value > bound || value === 0)
    .map(({ bound, node, value, what }) => ({
      guarantee: "G12",
      message: `node ${node}: ${what} took ${value} statements, of 1 to ${bound}`
    }))
