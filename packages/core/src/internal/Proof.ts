/**
 * Whether a presented id belongs to a session: compares the hash of its secret,
 * in constant time, with the session's current and former one.
 */
import { hashesEqual, hashOfToken, isToken, type SecretHash } from "../SessionId.ts"
import type { Entry, Handle } from "./CacheEntries.ts"

/** What a presented id is to a session. */
export type Proof =
  | { readonly _tag: "Accepted"; readonly handle: Handle }
  /** A former secret after its grace: somebody has kept it. */
  | { readonly _tag: "Reused" }
  | { readonly _tag: "Refused" }

const refused: Proof = { _tag: "Refused" }
const reused: Proof = { _tag: "Reused" }

/** An id, of the shape that ids have, whose secret has been hashed already, in a text of its own. */
export interface Presented {
  readonly token: string
  readonly proof: SecretHash
}

/** Makes of an id what {@link prove} would have to make. */
export const presentedOf = (token: string): Presented => ({ token: copyOf(token), proof: hashOfToken(token) })

// A part of a text keeps the whole text in memory, which for a token may be a request's headers.
const copyOf = (token: string): string => Buffer.from(token, "latin1").toString("latin1")

/** Hashes the id, unless it was verified before or is `presented`, too; an accepted one is remembered by the entry. */
export const prove = (entry: Entry, token: string, now: number, presented?: Presented): Proof => {
  const { current, former } = entry
  if (current?.token === token) return { _tag: "Accepted", handle: current }
  if (former?.token === token && now < entry.formerDeadline) return { _tag: "Accepted", handle: former }
  if (presented === undefined && !isToken(token)) return refused
  const { formerHash, secretHash } = entry
  const { proof, token: own } = presented ?? presentedOf(token)
  if (hashesEqual(proof, secretHash)) return { _tag: "Accepted", handle: entry.accept(own, "current") }
  if (formerHash === undefined || !hashesEqual(proof, formerHash)) return refused
  return now < entry.formerDeadline ? { _tag: "Accepted", handle: entry.accept(own, "former") } : reused
}
