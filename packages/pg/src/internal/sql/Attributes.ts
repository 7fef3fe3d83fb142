/**
 * Attributes on their way to and from the `attributes` column:
 *
 *     {"<name>": {"v": "<the value's JSON text>", "n": "<version>", "e": <expiry in epoch milliseconds>}}
 *
 * The value is a string to PostgreSQL, which neither parses nor changes it, so
 * escapes that `jsonb` refuses (`\u0000`, unpaired surrogates) survive in it.
 * On the way in an attribute has `t`, its time to live, instead of `n` and `e`:
 * only the statement knows the version and the clock.
 */
import type { AttributeWrite, StoredAttribute } from "@effect-pg-session/core"
import { duration } from "./Text.ts"

/** Attributes to be set and removed, as a statement takes them. */
export interface AttributeChanges {
  /** A JSON object of those to be set. */
  readonly set: string
  /** The names of all that are set or removed. */
  readonly names: ReadonlyArray<string>
  /** The size of the new values and their names, in bytes. */
  readonly bytes: number
  /** Whether one of the new values has a time to live. */
  readonly expiring: boolean
}

/** Where a name is both set and removed, it is set; where it is set twice, the last value stands. */
export const changes = (writes: ReadonlyArray<AttributeWrite>, removed: ReadonlyArray<string>): AttributeChanges => {
  const byName = new Map(writes.map((write) => [write.name, write] as const))
  const members: Array<string> = []
  let bytes = 0
  let expiring = false
  for (const { name, timeToLive, value } of byName.values()) {
    const text = wellFormed(value)
    bytes += Buffer.byteLength(name) + Buffer.byteLength(text)
    expiring ||= timeToLive !== undefined
    const life = timeToLive === undefined ? "" : `,"t":${duration(timeToLive)}`
    members.push(`${JSON.stringify(name)}:{"v":${JSON.stringify(text)}${life}}`)
  }
  return { set: `{${members.join(",")}}`, names: [...new Set([...byName.keys(), ...removed])], bytes, expiring }
}

// In JSON text an unpaired surrogate can only stand in a string literal, where
// its escape means the same.
const wellFormed = (json: string): string =>
  json.isWellFormed() ? json : json.replace(/\p{Surrogate}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`)

/** Reads the column. What is not an attribute (somebody else wrote it) is left out. */
export const parse = (column: string): ReadonlyMap<string, StoredAttribute> => {
  const attributes = new Map<string, StoredAttribute>()
  const value: unknown = column === "{}" ? undefined : JSON.parse(column)
  if (!isObject(value)) return attributes
  for (const [name, entry] of Object.entries(value)) {
    if (!isObject(entry)) continue
    const { e: expiresAt, n: version, v: text } = entry
    if (typeof text !== "string" || typeof version !== "string" || !/^\d{1,19}$/.test(version)) continue
    if (expiresAt !== undefined && typeof expiresAt !== "number") continue
    attributes.set(name, { value: text, version: BigInt(version), expiresAt })
  }
  return attributes
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
