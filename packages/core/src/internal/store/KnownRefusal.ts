/**
 * Changes that need no statement to be refused, because what is in memory is proof enough.
 */
import * as Exit from "effect/Exit"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import { AttributeVersionMismatch, type Fenced, VersionMismatch, type WriteError } from "../../SessionError.ts"
import type { WriteRequest } from "../../SessionStorage.ts"
import type { SessionImpl } from "../SessionImpl.ts"

/** What an update can fail with; which of them is decided by its options. */
export type UpdateFailure = WriteError | VersionMismatch | AttributeVersionMismatch | Fenced

/** A change that waits for a statement. */
export interface Change {
  readonly session: SessionImpl
  readonly request: WriteRequest
}

/**
 * A change that waited while another one of this node won the race for its session needs no statement to be refused:
 * versions never come back, so what is in memory is proof enough.
 */
export const refuseKnown = (
  cache: Cache,
  { request, session }: Change
): Exit.Exit<Session, UpdateFailure> | undefined => {
  const entry = cache.live(request.key, cache.clock.now())
  if (entry === undefined || entry.version <= request.baseVersion) return undefined
  const proof = cache.verify(entry, session.token, session)
  if (proof._tag !== "Accepted") return undefined
  const current = proof.handle
  if (request.expectedVersion !== undefined) {
    return Exit.fail(
      new VersionMismatch({
        key: request.key,
        expected: request.expectedVersion,
        actual: entry.version,
        current
      })
    )
  }
  for (const [attribute, expected] of request.expectedAttributes) {
    const actual = entry.stored(attribute)?.version ?? 0n
    if (actual > expected) {
      return Exit.fail(new AttributeVersionMismatch({ key: request.key, attribute, expected, actual, current }))
    }
  }
  return undefined
}
