/** G9, secrets stay secret: nothing was found where it must not be, and no id was accepted that nobody was given. */
import type { History, Violation } from "../History.ts"

export const check = ({ leaks, operations }: History): ReadonlyArray<Violation> => [
  ...leaks.map(({ what, where }) => ({ guarantee: "G9", message: `${where} holds ${what}` })),
  ...operations
    .filter(({ outcome, request }) => request._tag === "Forge" && outcome._tag === "Session")
    .map(({ id, node }) => ({ guarantee: "G9", message: `read ${id} on node ${node} accepted an id that was made up` }))
]
