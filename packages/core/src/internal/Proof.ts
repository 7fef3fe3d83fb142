/**
 * Whether a presented id belongs to a session: compares the hash of its secret,
 * in constant time, with the session's current and former one.
 */
import * as Option from "effect/Option"
import { hashesEqual, hashOfToken, type SecretHash, SessionId } from "../SessionId.ts"
import type { Entry, Handle } from "./CacheEntries.ts"

/** What a presented id is to a session. */
export type Proof =
  | { readonly _tag: "Accepted"; readonly handle: Handle }
  /** A former secret after its grace: somebody has kept it. */
  | { readonly _tag: "Reused" }
  | { readonly _tag: "Refused" }

/** An id whose secret has been hashed already. */
export interface Presented {
  readonly id: SessionId
  readonly proof: SecretHash
}

const refused: Proof = { _tag: "Refused" }
const reused: Proof = { _tag: "Reused" }

/** Hashes the id, unless it was verified before; an accepted one is remembered by the entry. */
export const prove = (entry: Entry, token: string, now: number, presented?: Presented): Proof => {
  for (const known of [entry.current, entry.former]) {
    if (known !== undefined && known.token === token && now < known.acceptedUntil) {
      return { _tag: "Accepted", handle: known }
    }
  }
  const { row } = entry.view
  const hash = presented?.proof ?? hashOfToken(token)
  if (hashesEqual(hash, row.secretHash)) return accept(entry, token, Infinity, hash, presented)
  if (row.formerHash === undefined || !hashesEqual(hash, row.formerHash)) return refused
  const until = row.formerUntil === undefined ? -Infinity : entry.view.localTime(row.formerUntil)
  return now < until ? accept(entry, token, until, hash, presented) : reused
}

const accept = (
  entry: Entry,
  token: string,
  until: number,
  proof: SecretHash,
  presented: Presented | undefined
): Proof => {
  const id = presented?.id ?? Option.getOrUndefined(SessionId.fromString(token))
  return id === undefined ? refused : { _tag: "Accepted", handle: entry.accept(token, id, until, proof) }
}
