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
    bytes += sizeOf(name, value)
    expiring ||= timeToLive !== undefined
    const life = timeToLive === undefined ? "" : `,"t":${duration(timeToLive)}`
    members.push(`${JSON.stringify(name)}:{"v":${JSON.stringify(text)}${life}}`)
  }
  return { set: `{${members.join(",")}}`, names: [...new Set([...byName.keys(), ...removed])], bytes, expiring }
}

/** How many bytes an attribute takes of the session's. */
export const sizeOf = (name: string, value: string): number =>
  Buffer.byteLength(name) + Buffer.byteLength(wellFormed(value))

/**
 * The same as one JSON object that is merged into the column of a row that becomes of this version: attributes as they are stored, and
 * `null` for those to be removed. `bytes` counts what is set. Lifetimes are left out, because only the statement knows the clock.
 */
export const patch = (
  writes: ReadonlyArray<AttributeWrite>,
  removed: ReadonlyArray<string>,
  version: bigint
): Omit<AttributeChanges, "set"> & { readonly text: string } => {
  const [write] = writes
  if (write !== undefined && writes.length === 1 && removed.length === 0) {
    const { name, timeToLive, value } = write
    const text = `{${JSON.stringify(name)}:${member(value, version)}}`
    return { text, names: [name], bytes: sizeOf(name, value), expiring: timeToLive !== undefined }
  }
  const members = new Map<string, string>(removed.map((name) => [name, "null"]))
  let bytes = 0
  let expiring = false
  const sizes = new Map<string, number>()
  for (const { name, timeToLive, value } of writes) {
    expiring ||= timeToLive !== undefined
    sizes.set(name, sizeOf(name, value))
    members.set(name, member(value, version))
  }
  for (const size of sizes.values()) bytes += size
  const text = `{${Array.from(members, ([name, member]) => `${JSON.stringify(name)}:${member}`).join(",")}}`
  return { text, names: [...members.keys()], bytes, expiring }
}

const member = (value: string, version: bigint): string => `{"v":${JSON.stringify(wellFormed(value))},"n":"${version}"}`

/** What becomes of a new session's attributes that are stored at the given time, in milliseconds. */
export const ofNew = (writes: ReadonlyArray<AttributeWrite>, now: number): ReadonlyMap<string, StoredAttribute> =>
  new Map(
    writes.map(({ name, timeToLive, value }) => [
      name,
      {
        value: wellFormed(value),
        version: 1n,
        expiresAt: timeToLive === undefined ? undefined : now + duration(timeToLive)
      }
    ])
  )

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
