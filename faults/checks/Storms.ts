/** G12, no storms: what a reconnect, a miss that many ask for, and activity cost in statements. */
import type { History, Violation } from "../History.ts"

export const check = ({ statements }: History): ReadonlyArray<Violation> =>
  statements
    .filter(({ bound, value }) => value > bound)
    .map(({ bound, node, value, what }) => ({
      guarantee: "G12",
      message: `node ${node}: ${what} took ${value} statements, more than ${bound}`
    }))
