/**
 * Takes in what a write of this node has answered: the row as it now stands, and what ended for it.
 */
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { EvictedSession, SessionRow } from "../../SessionStorage.ts"
import type { Fill } from "../FillRegistry.ts"
import type { Presented } from "../Proof.ts"
import { SessionImpl } from "../SessionImpl.ts"
import type { AnswerTime, SessionView } from "../SessionView.ts"
import type { Operations } from "./Operations.ts"

/**
 * The session with this id as the row says, cached where that is allowed. Attributes that did not change keep what
 * `known` has decoded, because the own notice may have come first and have dropped the entry.
 */
export const takeIn = (
  cache: Cache,
  fill: Fill,
  row: SessionRow,
  time: AnswerTime,
  presented: Presented,
  known?: SessionView
): Session => {
  const entry = cache.admit(fill, row, time, known)
  cache.acknowledge(row.key, row.version)
  const proof = cache.verify(entry, presented.token, presented)
  return proof._tag === "Accepted" ? proof.handle : new SessionImpl(entry, presented.token, presented.proof)
}

/** Sessions that had to end to make room. */
export const letGo = (cache: Cache, operations: Operations, evicted: ReadonlyArray<EvictedSession>): void => {
  for (const { key, userId } of evicted) {
    cache.acknowledge(key, undefined)
    operations.publish({ _tag: "Evicted", key, userId })
  }
}
