/**
 * The id of a session that begins or is renewed: a new one, or the one that a bridge to another framework gives.
 */
import * as Redacted from "effect/Redacted"
import { givenId, isToken, type SessionId, type WithGivenId } from "../../SessionId.ts"
import { type Presented, presentedOf } from "../Proof.ts"

/** A given id must have the shape of one: it is not looked at again. */
export const givenOr = (options: WithGivenId | undefined, make: () => SessionId): Presented => {
  const given = options?.[givenId]
  if (given !== undefined && !isToken(Redacted.value(given))) {
    throw new TypeError("A given id is no session id: make it with SessionId.fromString")
  }
  return presentedOf(Redacted.value(given ?? make()))
}
