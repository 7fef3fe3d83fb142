/** G7, limits hold under concurrency: by the table whenever somebody looked into it, and by every list of devices. */
import type { History, Violation } from "../History.ts"

export const check = ({ operations, overLimit, settings }: History): ReadonlyArray<Violation> => {
  const limit = settings.maxSessionsPerUser
  const seen = overLimit.map(
    ({ sessions, user }) => `${user} had ${sessions} sessions in the table, of ${limit} allowed`
  )
  const listed = operations.flatMap(({ id, outcome, request }) =>
    outcome._tag === "Listed" && request._tag === "List" && outcome.sessions.length > limit
      ? [`list ${id} has ${outcome.sessions.length} sessions of ${request.user}, of ${limit} allowed`]
      : []
  )
  return [...new Set([...seen, ...listed])].map((message) => ({ guarantee: "G7", message }))
}
