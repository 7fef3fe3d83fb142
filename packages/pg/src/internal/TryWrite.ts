/**
 * `SessionStorage.tryWrite`: most changes were made on the version that still
 * stands, which takes a statement that costs half as much. What that one leaves
 * alone, and what it is not for, is the general statement's.
 *
 * No change is ever sent again that may have been applied: the first statement says
 * which rows it has changed, and has not touched the others.
 */
import type { SessionStoreUnavailable, Storage, TryOutcome, WriteRequest } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import type { Statements } from "./Database.ts"
import { decodeWith } from "./Decoding.ts"
import * as Write from "./sql/Write.ts"
import * as WriteCurrent from "./sql/WriteCurrent.ts"

const operation = "update the session"

type Outcomes = Array<TryOutcome | undefined>
/** Requests by their positions. */
type Part = ReadonlyArray<readonly [index: number, request: WriteRequest]>

export const make = (database: Statements): Storage["tryWrite"] => {
  const current = WriteCurrent.plan(database.names)
  const general = Write.plan(database.names, "skip")

  const send = <A extends { readonly now: number }>(
    [sql, parameters]: ReturnType<Write.Plan>,
    decode: Parameters<typeof decodeWith<A>>[2]
  ) => database.write(operation, sql, parameters).pipe(decodeWith(operation, "Unknown", decode))

  /** Answers each of the part by itself, so that nothing of it is the others'. */
  const sendGeneral = (part: Part, outcomes: Outcomes): Effect.Effect<number> =>
    send(general(part.map(([, request]) => request)), (rows) => Write.decodeTry(rows, part.length)).pipe(
      Effect.map((answer) => {
        part.forEach(([index], position) => (outcomes[index] = answer.outcomes[position]))
        return answer.now
      }),
      Effect.catch((error) => Effect.sync(() => failAll(part, outcomes, error)))
    )

  const sendCurrent = (part: Part, patches: ReadonlyArray<WriteCurrent.Patch>, outcomes: Outcomes) => {
    const requests = part.map(([, request]) => request)
    return send(current(requests, patches), (rows) => WriteCurrent.decode(rows, requests)).pipe(
      Effect.flatMap((answer) => {
        part.forEach(([index], position) => (outcomes[index] = answer.outcomes[position]))
        const rest = part.filter(([index]) => outcomes[index] === undefined)
        return rest.length === 0
          ? Effect.succeed(answer.now)
          : Effect.map(sendGeneral(rest, outcomes), (now) => Math.max(now, answer.now))
      }),
      Effect.catch((error) => Effect.sync(() => failAll(part, outcomes, error)))
    )
  }

  /** What most calls are: one change, made on the version that still stands. */
  const sendOne = (request: WriteRequest, patch: WriteCurrent.Patch): ReturnType<Storage["tryWrite"]> => {
    const requests = [request]
    return Effect.flatMap(
      send(current(requests, [patch]), (rows) => WriteCurrent.decode(rows, requests)),
      ({ now, outcomes }): ReturnType<Storage["tryWrite"]> => {
        const [outcome] = outcomes
        return outcome === undefined
          ? send(general(requests), (rows) => Write.decodeTry(rows, 1))
          : Effect.succeed({ now, outcomes: [outcome] })
      }
    )
  }

  return (requests) =>
    Effect.suspend(() => {
      const [lone] = requests
      if (lone !== undefined && requests.length === 1) {
        const patch = WriteCurrent.patchOf(lone)
        return patch === undefined ? send(general(requests), (rows) => Write.decodeTry(rows, 1)) : sendOne(lone, patch)
      }
      const outcomes: Outcomes = requests.map(() => undefined)
      const patched: Array<readonly [index: number, request: WriteRequest]> = []
      const patches: Array<WriteCurrent.Patch> = []
      const others: Array<readonly [index: number, request: WriteRequest]> = []
      requests.forEach((request, index) => {
        const patch = WriteCurrent.patchOf(request)
        if (patch === undefined) others.push([index, request])
        else {
          patched.push([index, request])
          patches.push(patch)
        }
      })
      const parts: Array<Effect.Effect<number>> = []
      if (patched.length > 0) parts.push(sendCurrent(patched, patches, outcomes))
      if (others.length > 0) parts.push(sendGeneral(others, outcomes))
      // The latest: what is counted from an earlier one would seem to live longer.
      const [first, second] = parts
      const sent =
        first === undefined || second === undefined
          ? (first ?? Effect.succeed(-Infinity))
          : Effect.zipWith(first, second, Math.max, { concurrent: true })
      return Effect.flatMap(sent, (now) => {
        const answered = outcomes.map((outcome) => outcome ?? { _tag: "Gone" as const })
        const errors = new Set(answered.map((outcome) => (outcome._tag === "Unavailable" ? outcome.error : undefined)))
        const [error] = errors
        // Where statements have failed in different ways, only some of them may have been applied.
        return error !== undefined && errors.size === 1
          ? Effect.fail(error)
          : Effect.succeed({ now, outcomes: answered })
      })
    })
}

const failAll = (part: Part, outcomes: Outcomes, error: SessionStoreUnavailable): number => {
  for (const [index] of part) outcomes[index] = { _tag: "Unavailable", error }
  return -Infinity
}
