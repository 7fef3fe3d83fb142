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

/** Hashes the id, unless it was verified before or `proof` is its hash; an accepted one is remembered by the entry. */
export const prove = (entry: Entry, token: string, now: number, proof?: SecretHash): Proof => {
  const { current, former } = entry
  if (current?.token === token) return { _tag: "Accepted", handle: current }
  if (former?.token === token && now < entry.formerDeadline) return { _tag: "Accepted", handle: former }
  if (!isToken(token)) return refused
  const { formerHash, secretHash } = entry
  const hash = proof ?? hashOfToken(token)
  if (hashesEqual(hash, secretHash)) return { _tag: "Accepted", handle: entry.accept(token, "current") }
  if (formerHash === undefined || !hashesEqual(hash, formerHash)) return refused
  return now < entry.formerDeadline ? { _tag: "Accepted", handle: entry.accept(token, "former") } : reused
}
