/**
 * `SessionStorage.tryCreate`: one call of a function for all that can be done along
 * with the others. Where the statement is refused, nothing of it was applied, and
 * nobody knows because of which session: each is then left to be created by itself.
 */
import type { CreateRequest, SessionStoreUnavailable, Storage, UserId } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import type { Statements } from "./Database.ts"
import { decodeWith } from "./Decoding.ts"
import * as CreateMany from "./sql/CreateMany.ts"

const operation = "create the session"

const undone = { _tag: "Undone" } as const

const isRefused = ({ outcome, reason }: SessionStoreUnavailable): boolean =>
  outcome === "NotApplied" && reason === "DatabaseError"

export const make = ({ names, write }: Statements): Storage["tryCreate"] => {
  const sql = CreateMany.sql(names)
  return (requests) =>
    Effect.suspend(() => {
      const first = firstOfEach(requests)
      return write(operation, sql, CreateMany.parameters(first)).pipe(
        decodeWith(operation, "Unknown", (rows) => CreateMany.decode(rows, first)),
        Effect.map((answer) => {
          if (first.length === requests.length) return answer
          const byRequest = new Map(first.map((request, index) => [request, answer.outcomes[index]]))
          return { now: answer.now, outcomes: requests.map((request) => byRequest.get(request) ?? undone) }
        }),
        Effect.catchIf(isRefused, () => Effect.succeed({ now: -Infinity, outcomes: requests.map(() => undone) }))
      )
    })
}

/** One login of each user: the next one would have to know what became of it. */
const firstOfEach = (requests: ReadonlyArray<CreateRequest>): ReadonlyArray<CreateRequest> => {
  const seen = new Set<UserId>()
  return requests.filter(({ userId }) => userId === undefined || (!seen.has(userId) && seen.add(userId)))
}
