/** How the ports read what a statement has answered. */
import { SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import type { Row } from "./Database.ts"
import { UnexpectedAnswer } from "./sql/Text.ts"

/** Decodes an answer; one that cannot be read fails the operation in words, without its content. */
export const decodeWith =
  <A>(operation: string, outcome: "NotApplied" | "Unknown", decode: (rows: ReadonlyArray<Row>) => A) =>
  (self: Effect.Effect<ReadonlyArray<Row>, SessionStoreUnavailable>): Effect.Effect<A, SessionStoreUnavailable> =>
    Effect.flatMap(self, (rows): Effect.Effect<A, SessionStoreUnavailable> => {
      try {
        return Effect.succeed(decode(rows))
      } catch (cause) {
        return Effect.fail(
          new SessionStoreUnavailable({
            operation,
            reason: "DatabaseError",
            outcome,
            detail: cause instanceof UnexpectedAnswer ? cause.message : "the answer cannot be read"
          })
        )
      }
    })
