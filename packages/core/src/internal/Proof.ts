/**
 * Whether a presented id belongs to a session: compares the hash of its secret,
 * in constant time, with the session's current and former one.
 */
import * as Option from "effect/Option"
import { hashesEqual, hashOfToken, SessionId } from "../SessionId.ts"
import type { Entry, Handle } from "./CacheEntries.ts"

/** What a presented id is to a session. */
export type Proof =
  | { readonly _tag: "Accepted"; readonly handle: Handle }
  /** A former secret after its grace: somebody has kept it. */
  | { readonly _tag: "Reused" }
  | { readonly _tag: "Refused" }

const refused: Proof = { _tag: "Refused" }
const reused: Proof = { _tag: "Reused" }

/** Hashes the id, unless it was verified before; an accepted one is remembered by the entry. */
export const prove = (entry: Entry, token: string, now: number): Proof => {
  for (const known of [entry.current, entry.former]) {
    if (known !== undefined && known.token === token && now < known.acceptedUntil) {
      return { _tag: "Accepted", handle: known }
    }
  }
  const { row } = entry.view
  const hash = hashOfToken(token)
  if (hashesEqual(hash, row.secretHash)) return accept(entry, token, Infinity)
  if (row.formerHash === undefined || !hashesEqual(hash, row.formerHash)) return refused
  const until = row.formerUntil === undefined ? -Infinity : entry.view.localTime(row.formerUntil)
  return now < until ? accept(entry, token, until) : reused
}

const accept = (entry: Entry, token: string, until: number): Proof => {
  const id = SessionId.fromString(token)
  return Option.isNone(id) ? refused : { _tag: "Accepted", handle: entry.accept(token, id.value, until) }
}
