/**
 * Writes in flight: registered before their statement is sent, so that an answer which was overtaken does not enter the cache, and
 * forgotten by the cache where nobody knows what became of them.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Cache } from "../../SessionCache.ts"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { Fill } from "../FillRegistry.ts"
import type { AnswerTime } from "../SessionView.ts"

/** Runs a write of one session. */
export const write = <A, E>(
  cache: Cache,
  key: SessionKey,
  statement: (fill: Fill) => Effect.Effect<A, E>
): Effect.Effect<A, E> => cache.fills.during([key], ([fill]) => forgetUnlessRefused(cache, [key], statement(fill)))

/** Sends one statement for several sessions' writes, and answers each by itself. */
export const writeEach = <Item extends { readonly request: { readonly key: SessionKey } }, Outcome, A, E>(
  cache: Cache,
  items: ReadonlyArray<Item>,
  statement: (
    requests: ReadonlyArray<Item["request"]>
  ) => Effect.Effect<{ readonly now: number; readonly outcomes: ReadonlyArray<Outcome> }, SessionStoreUnavailable>,
  settle: (item: Item, outcome: Outcome, fill: Fill, time: AnswerTime) => Exit.Exit<A, E>
): Effect.Effect<ReadonlyArray<Exit.Exit<A, E | SessionStoreUnavailable>>> => {
  const requests = items.map(({ request }) => request)
  const keys = requests.map(({ key }) => key)
  const answered = cache.fills.during(keys, (fills) => {
    const sentAt = cache.clock.now()
    return forgetUnlessRefused(
      cache,
      keys,
      Effect.map(statement(requests), ({ now, outcomes }) =>
        items.map((item, index): Exit.Exit<A, E | SessionStoreUnavailable> => {
          const outcome = outcomes[index]
          const fill = fills[index]
          return outcome === undefined || fill === undefined
            ? missingAnswer
            : settle(item, outcome, fill, { sentAt, now })
        })
      )
    )
  })
  return Effect.catch(answered, (error) => Effect.succeed(items.map(() => Exit.fail(error))))
}

/** A write that failed may have been applied, or have found another state than the one in memory; unless it never got there. */
const forgetUnlessRefused = <A, E>(
  cache: Cache,
  keys: ReadonlyArray<SessionKey>,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.onExitPrimitive(effect, (exit) => {
    if (Exit.isFailure(exit) && !exit.cause.reasons.every(isRefusal)) {
      for (const key of keys) cache.forget(key)
    }
    return undefined
  })

const isRefusal = (reason: Cause.Reason<unknown>): boolean =>
  reason._tag === "Fail" && reason.error instanceof SessionStoreUnavailable && reason.error.outcome === "NotApplied"

const missingAnswer = Exit.die(new Error("the storage answered fewer writes than it was given"))
