/**
 * The id of a session that begins or is renewed: a new one, or the one that a bridge to another framework gives.
 */
import * as Redacted from "effect/Redacted"
import { generate, givenId, isToken, keyOfToken, type SessionKey, type WithGivenId } from "../../SessionId.ts"
import { type Presented, presentedOf } from "../Proof.ts"

/** A given id must have the shape of one, and the key where there is one already: it is not looked at again. */
export const givenOr = (options: WithGivenId | undefined, key?: SessionKey): Presented => {
  const token = Redacted.value(options?.[givenId] ?? generate(key))
  if (!isToken(token) || (key !== undefined && keyOfToken(token) !== key)) {
    throw new TypeError("A given id is no session id, or has another key: make it with SessionId.fromString")
  }
  return presentedOf(token)
}
