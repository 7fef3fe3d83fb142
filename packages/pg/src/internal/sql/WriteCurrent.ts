/**
 * The statement behind most updates: changes of attributes that were made on the
 * version that still stands. What the attributes then become the caller knows as
 * well as the database, so that it sends what is to be merged into the column,
 * stamped with the next version, and nothing is taken apart.
 *
 * The statement changes a row only if that is the whole truth: the row is not
 * locked by anybody, has the version, is alive and proved, and no attribute of it
 * has expired meanwhile. It answers which rows it has changed, and has not touched
 * the others; they are the general statement's (`Write.ts`).
 *
 * It waits for no row, so that the order in which it locks them does not matter.
 */
import type { WriteOutcome, WriteRequest } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Attributes from "./Attributes.ts"
import * as Columns from "./Columns.ts"
import { changesHead, letterOf } from "../NotificationPayload.ts"
import { among, isLive, isProven, lateClock, literal, notifyChanges, seconds } from "./Text.ts"

/** What of a request the statement takes. */
export interface Patch {
  /** JSON to be merged into the column; `null` in the place of an attribute that is removed. */
  readonly text: string
  /** By how much the attributes grow, in bytes. */
  readonly growth: number
  readonly removes: boolean
}

/** `flags`: whether other nodes are told, and whether attributes are removed. */
const notifies = 1
const removes = 2

/** The columns that are looked at under the lock; `version` and `last_accessed_at` of the snapshot may be older. */
const lockedColumns =
  "s.key, s.version, s.secret_hash, s.former_hash, s.former_until, s.expires_at, s.idle_timeout, s.last_accessed_at, s.attributes, s.attribute_bytes, s.attributes_expire_at"

/** The new values, from the locked row `l` and the change's expressions. */
const assignments = (at: string, patch: string, growth: string, flags: string): string => `version = l.version + 1,
    last_accessed_at = greatest(l.last_accessed_at, ${at}),
    attributes = case when ${flags} & ${removes} = 0 then l.attributes || ${patch}
      else jsonb_strip_nulls(l.attributes || ${patch}) end,
    attribute_bytes = l.attribute_bytes + ${growth}`

/** Whether the row `l` is as the caller has it. */
const stands = (at: string, proof: string, version: string, growth: string, limit: string): string =>
  `l.version = ${version} and ${isLive("l", at)} and ${isProven("l", proof, at)}
    and (l.attributes_expire_at is null or l.attributes_expire_at > ${at})
    and (${limit} is null or l.attribute_bytes + ${growth} <= ${limit})`

/** What to send for some requests. */
export const plan = (names: Names) => {
  const one = oneSql(names)
  const many = manySql(names)
  return (requests: ReadonlyArray<WriteRequest>, patches: ReadonlyArray<Patch>) =>
    [requests.length === 1 ? one : many, parameters(requests, patches)] as const
}

/**
 * For one change. Takes `$1`, the key, `$2`, the proof, `$3`, the version, `$4`, the patch, `$5`, the growth, `$6`, the flags, and `$7`,
 * how large the session may become. Answers the clock and 1, if the row was changed. (The clock is read before the row is locked, but nobody waits.)
 */
const oneSql = (names: Names): string => `update ${names.sessions} s set
    ${assignments("l.at", "$4::text::jsonb", "$5::int", "$6::int")}
  from (
    select ${lockedColumns}, ${lateClock} as at from ${names.sessions} s where s.key = $1 for no key update skip locked
  ) l
  where s.key = l.key and ${stands("l.at", "$2::text", "$3::bigint", "$5::int", "$7::float8")}
  returning ${seconds("l.at")}, '1', case when $6::int & ${notifies} <> 0
    then pg_notify(${literal(names.channel)}, ${literal(changesHead + letterOf.Updated)} || l.key || s.version)::text end`

/** For many: the same parameters as arrays, the patches as one JSON array. Answers the clock, and the positions of what was changed. */
const manySql = (names: Names): string =>
  `with input as materialized (
  select i.* from rows from (
    unnest($1::text[]), unnest($2::text[]), unnest($3::bigint[]), jsonb_array_elements($4::text::jsonb), unnest($5::int[]), unnest($6::int[])
  ) with ordinality as i(key, proof, version, patch, growth, flags, ord)
), locked as materialized (
  select ${lockedColumns} from ${names.sessions} s where s.key = ${among("$1")} for no key update skip locked
), clock as materialized (
  select ${lateClock} as at from (select count(*) as held from locked) l where l.held >= 0
), updated as (
  update ${names.sessions} s set
    ${assignments("c.at", "i.patch", "i.growth", "i.flags")}
  from input i join locked l on l.key = i.key cross join clock c
  where s.key = l.key and ${stands("c.at", "i.proof", "i.version", "i.growth", "$7::float8")}
  returning i.ord, i.key, s.version, i.flags
), notified as materialized (
  ${notifyChanges(names.channel, `select ${literal(letterOf.Updated)} || u.key || u.version as item from updated u where u.flags & ${notifies} <> 0`)}
)
select ${seconds("c.at")}, (select string_agg(u.ord::text, ',') from updated u), n.payloads::int
from clock c cross join (select count(*) as payloads from notified) n`

/** What the statement would do for a request; `undefined`: it is not for this one. */
export const patchOf = (request: WriteRequest): Patch | undefined => {
  const { baseAttributes, baseVersion, expectedAttributes, expectedVersion, fence, remove, set } = request
  if (baseAttributes === undefined || fence !== undefined) return undefined
  if (request.groupId !== undefined || request.lifetime !== undefined || request.idleTimeout !== undefined) {
    return undefined
  }
  if (expectedVersion !== undefined && expectedVersion !== baseVersion) return undefined
  for (const [name, version] of expectedAttributes) {
    if ((baseAttributes.get(name)?.version ?? 0n) !== version) return undefined
  }
  const { bytes, expiring, names, text } = Attributes.patch(set, remove, baseVersion + 1n)
  if (expiring) return undefined
  let growth = bytes
  for (const name of names) {
    const stored = baseAttributes.get(name)
    if (stored === undefined) continue
    if (stored.expiresAt !== undefined) return undefined
    growth -= Attributes.sizeOf(name, stored.value)
  }
  return { text, growth, removes: remove.length > 0 }
}

const flagsOf = ({ notify }: WriteRequest, patch: Patch | undefined): number =>
  (notify ? notifies : 0) + (patch?.removes === true ? removes : 0)

const limitOf = (maxBytes: number): Parameter => (Number.isFinite(maxBytes) ? String(maxBytes) : null)

const parameters = (requests: ReadonlyArray<WriteRequest>, patches: ReadonlyArray<Patch>): ReadonlyArray<Parameter> => {
  const [request] = requests
  const [patch] = patches
  if (requests.length === 1 && request !== undefined && patch !== undefined) {
    const { baseVersion, key, maxBytes, proof } = request
    const flags = flagsOf(request, patch)
    return [key, proof, String(baseVersion), patch.text, String(patch.growth), String(flags), limitOf(maxBytes)]
  }
  return [
    plainArray(requests.map(({ key }) => key)),
    plainArray(requests.map(({ proof }) => proof)),
    plainArray(requests.map(({ baseVersion }) => String(baseVersion))),
    `[${patches.map(({ text }) => text).join(",")}]`,
    plainArray(patches.map(({ growth }) => growth)),
    plainArray(requests.map((each, index) => flagsOf(each, patches[index]))),
    limitOf(Math.min(...requests.map(({ maxBytes }) => maxBytes)))
  ]
}

/** An array of what needs no quotes: keys, hashes and numbers. */
const plainArray = (values: ReadonlyArray<string | number>): string => `{${values.join(",")}}`

/** The outcome of each request; `undefined` for those that are the general statement's. */
export const decode = (
  rows: ReadonlyArray<Row>,
  requests: ReadonlyArray<WriteRequest>
): { readonly now: number; readonly outcomes: ReadonlyArray<WriteOutcome | undefined> } => {
  const outcomes = requests.map((): WriteOutcome | undefined => undefined)
  const [row] = rows
  // The statement for one answers nothing where it has changed nothing.
  if (row === undefined) return { now: -Infinity, outcomes }
  const now = Columns.millis(row[0])
  for (const ord of (Columns.optional(row[1], Columns.text) ?? "").split(",")) {
    const index = Number(ord) - 1
    const request = requests[index]
    if (request !== undefined) {
      outcomes[index] = { _tag: "Accepted", version: request.baseVersion + 1n, now, row: undefined }
    }
  }
  return { now, outcomes }
}
