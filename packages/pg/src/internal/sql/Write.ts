/**
 * The statements behind `write` and `tryWrite`: changes of many sessions, each
 * checked and answered by itself, in one round trip; a single one is `WriteOne.ts`'s. They differ in what becomes of rows that somebody else has locked.
 *
 * All rows are locked first, in the order of their keys, and the clock is read
 * once all locks are held. A locked row is the latest version of the row, while
 * the statement's snapshot may hold an older one: every check and every new value
 * is therefore computed from `locked`, and the update finds its row by the key
 * alone. Notifications come last, and only for what was updated.
 *
 * Where a request has a fence, the rows of the locks are locked after those of the sessions, in the order of their
 * names, by `for share`: a grant needs the row for itself, so that it has either been committed, and its token is seen
 * whatever the snapshot holds, or waits until the write is committed. The sessions that these locks are tied to are
 * locked along with the others, or their end, which locks the same rows in another order, could wait for this statement
 * while this one waits for it.
 */
import type { Answer, WriteOutcome, WriteRequest } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Attributes from "./Attributes.ts"
import * as Columns from "./Columns.ts"
import type { Locked } from "./WriteOne.ts"
import * as WriteOne from "./WriteOne.ts"
import {
  among,
  duration,
  earliestExpiry,
  firstRow,
  interval,
  isLasting,
  isLive,
  isProven,
  lastingAttributes,
  lateClock,
  milliseconds,
  notifyChanges,
  sizeOf,
  sizeOfNamed,
  stamped,
  textArray,
  unexpected
} from "./Text.ts"

/** What to send for some requests. */
export type Plan = (requests: ReadonlyArray<WriteRequest>) => readonly [sql: string, ReadonlyArray<Parameter>]

/** One change without a fence is a function's, which is cheaper; everything else is a statement's. */
export const plan = (names: Names, locked: Locked): Plan => {
  const one = WriteOne.sql(names)
  const plain = sql(names, locked, false)
  const fenced = sql(names, locked, true)
  return (requests) => {
    const [first, ...others] = requests
    if (first !== undefined && others.length === 0 && first.fence === undefined) {
      return [one, WriteOne.parameters(first, locked)]
    }
    return [isFenced(requests) ? fenced : plain, parameters(requests)]
  }
}

const isFenced = (requests: ReadonlyArray<WriteRequest>): boolean => requests.some(({ fence }) => fence !== undefined)

/**
 * Takes `$1`, the requests as a JSON array (see {@link parameters}), `$2`, their keys as a `text[]`, and, fenced, `$3`,
 * their locks as a `text[]`.
 */
const sql = (names: Names, locked: Locked, fenced: boolean): string =>
  `with input as materialized (
  select i.* from jsonb_to_recordset($1::text::jsonb) as i(
    ord int, key text, proof text, base bigint, version bigint, expected jsonb,
    names text[], set jsonb, bytes int, expiring bool, regroup bool, "group" text,
    lifetime float8, reidle bool, idle float8, notify bool, max_bytes float8${fenced ? ", fence text, token text" : ""})
), locked as materialized (
  select s.* from ${names.sessions} s where s.key = ${fenced && locked === "wait" ? `any(${keysWithTied(names)})` : among("$2")} order by s.key for no key update${locked === "skip" ? " skip locked" : ""}
), ${fenced ? fences(names, locked) : ""}clock as materialized (
  select t.at, ${milliseconds("t.at")} as ms
  from (select ${lateClock} as at from (select ${fenced ? "(select count(*) from fences) + " : ""}count(*) as held from locked) l where l.held >= 0) t
), based as materialized (
  select l.*, c.at, c.ms,
    case when l.attributes_expire_at <= c.at then ${lastingAttributes("l.attributes", "c.ms")} else l.attributes end as base,
    case when l.attributes_expire_at <= c.at then ${sizeOf(lastingAttributes("l.attributes", "c.ms"))} else l.attribute_bytes end as base_bytes
  from locked l cross join clock c
), changed as materialized (
  select i.ord, i.key as wanted, i.proof, i.base as caller_version, i.version as expected_version, i.expected, i.max_bytes,
    i.notify, i.expiring, i.lifetime is not null or i.reidle or i.regroup as beyond_attributes, l.*,${fenced ? " i.fence, i.token," : ""}
    case when i.regroup then i."group" else l.group_id end as new_group_id,
    case when i.lifetime is null then l.expires_at else l.at + ${interval("i.lifetime")} end as new_expires_at,
    case when i.reidle then ${interval("i.idle")} else l.idle_timeout end as new_idle_timeout,
    case when i.names is null then l.base
      else (l.base - i.names) || ${stamped("i.set", "l.version + 1", "l.ms")} end as new_attributes,
    case when i.names is null then l.base_bytes
      else l.base_bytes - ${sizeOfNamed("l.base", "i.names")} + i.bytes end as new_bytes
  from input i left join based l on l.key = i.key
), checked as materialized (
  select n.*, m.name as mismatched, m.actual,
    case
      ${
        // In the statement's snapshot, but not locked: somebody holds it, or has just deleted it.
        locked === "skip"
          ? `when n.key is null and exists (select 1 from ${names.sessions} s where s.key = n.wanted) then 'L'`
          : ""
      }
      when n.key is null or not ${isLive("n", "n.at")} or ${isProven("n", "n.proof", "n.at")} is not true then 'G'
      ${fenced ? fenceVerdicts(names, locked) : ""}when n.expected_version <> n.version then 'V'
      when m.name is not null then 'A'
      when n.new_bytes > n.max_bytes then 'B'
      else 'K'
    end as outcome,
    n.caller_version = n.version and not n.beyond_attributes as known,
    case when n.expiring or n.attributes_expire_at is not null then ${earliestExpiry("n.new_attributes")} end as new_attributes_expire_at
  from changed n
  left join lateral (
    select e.name, e.actual from (
      select x.value ->> 0 as name, (x.value ->> 1)::bigint as expected, x.ordinality,
        case when ${isLasting("n.attributes -> (x.value ->> 0)", "n.ms")}
          then coalesce((n.attributes -> (x.value ->> 0) ->> 'n')::bigint, 0) else 0 end as actual
      from jsonb_array_elements(n.expected) with ordinality x
    ) e where e.expected <> e.actual order by e.ordinality limit 1
  ) m on n.expected is not null
), updated as (
  update ${names.sessions} s set
    version = k.version + 1,
    last_accessed_at = greatest(k.last_accessed_at, k.at),
    group_id = k.new_group_id,
    expires_at = k.new_expires_at,
    idle_timeout = k.new_idle_timeout,
    attributes = k.new_attributes,
    attribute_bytes = k.new_bytes,
    attributes_expire_at = k.new_attributes_expire_at
  from checked k where s.key = k.key and k.outcome = 'K'
  returning s.key
), notified as materialized (
  ${notifyChanges(
    names.channel,
    `select 'U' || k.key || (k.version + 1) as item from checked k join updated u on u.key = k.key
      where k.notify or k.new_expires_at < k.expires_at or k.new_idle_timeout < k.idle_timeout
        or k.new_group_id is distinct from k.group_id
        or (k.idle_timeout is null and k.new_idle_timeout is not null)`
  )}
), told as materialized (
  select count(*) as payloads from notified
)
select c.ms, k.ord, k.outcome, (k.version + 1)::text, k.mismatched, k.actual::text, k.new_bytes, r.*
from clock c
left join (
  select k.*, u.key is not null as applied from checked k left join updated u on u.key = k.key
) k on k.outcome <> 'K' or k.applied
left join lateral (
  select ${Columns.sessionColumns(currentColumn)}
) r on k.outcome in ('V', 'A') or (k.applied and not k.known)
cross join told t where t.payloads >= 0`

const anyLock = among("$3")

/** The keys, and those of the sessions that the locks are tied to, which never changes. */
const keysWithTied = (names: Names): string =>
  `$2::text[] || array(select l.session_key from ${names.locks} l where l.name = ${anyLock} and l.session_key is not null)`

/** The locks, once the sessions are locked. */
const fences = (names: Names, locked: Locked): string => `fences as materialized (
  select l.name, l.tokens from ${names.locks} l
  where l.name = ${anyLock} and (select count(*) from locked) >= 0
  order by l.name for share${locked === "skip" ? " skip locked" : ""}
), `

/** Refused, unless the token is the lock's or one of its permits'; as text, so that no token can spoil the statement. */
const fenceVerdicts = (names: Names, locked: Locked): string =>
  `${
    locked === "skip"
      ? `when n.fence is not null and not exists (select 1 from fences f where f.name = n.fence)
        and exists (select 1 from ${names.locks} l where l.name = n.fence) then 'L'
      `
      : ""
  }when n.fence is not null
        and not exists (select 1 from fences f where f.name = n.fence and n.token = any(f.tokens::text[])) then 'F'
      `

/** A column of the row as it now stands: the new value where the change was applied. */
function currentColumn(column: string): string {
  switch (column) {
    case "version":
      return "(k.version + k.applied::int)"
    case "last_accessed_at":
      return "(case when k.applied then greatest(k.last_accessed_at, k.at) else k.last_accessed_at end)"
    case "group_id":
    case "expires_at":
    case "idle_timeout":
    case "attributes":
      return `(case when k.applied then k.new_${column} else k.${column} end)`
    default:
      return `k.${column}`
  }
}

const parameters = (requests: ReadonlyArray<WriteRequest>): ReadonlyArray<Parameter> => [
  `[${requests.map(encode).join(",")}]`,
  textArray(requests.map((request) => request.key)),
  ...(isFenced(requests) ? [textArray(requests.flatMap(({ fence }) => (fence === undefined ? [] : [fence.lock])))] : [])
]

const encode = (request: WriteRequest, ord: number): string => {
  const { bytes, expiring, names, set } = Attributes.changes(request.set, request.remove)
  const fields = JSON.stringify({
    ord,
    key: request.key,
    proof: request.proof,
    base: String(request.baseVersion),
    version: request.expectedVersion === undefined ? undefined : String(request.expectedVersion),
    expected:
      request.expectedAttributes.length === 0
        ? undefined
        : request.expectedAttributes.map(([name, version]) => [name, String(version)]),
    names: names.length === 0 ? undefined : names,
    bytes,
    expiring,
    regroup: request.groupId !== undefined,
    group: request.groupId,
    lifetime: request.lifetime === undefined ? undefined : duration(request.lifetime),
    reidle: request.idleTimeout !== undefined,
    idle: request.idleTimeout === undefined || request.idleTimeout === null ? undefined : duration(request.idleTimeout),
    notify: request.notify,
    max_bytes: Number.isFinite(request.maxBytes) ? request.maxBytes : undefined,
    fence: request.fence?.lock,
    token: request.fence === undefined ? undefined : String(request.fence.token)
  })
  return names.length === 0 ? fields : `${fields.slice(0, -1)},"set":${set}}`
}

/** Reads the answer of the statement that waits. */
export const decode = (rows: ReadonlyArray<Row>, count: number) => decodeWith(rows, count, outcome)

/** Reads the answer of the statement that skips. */
export const decodeTry = (rows: ReadonlyArray<Row>, count: number) =>
  decodeWith(rows, count, (row, now) => (row[2] === "L" ? ({ _tag: "Busy" } as const) : outcome(row, now)))

const decodeWith = <A>(
  rows: ReadonlyArray<Row>,
  count: number,
  read: (row: Row, now: number) => A
): Answer & { readonly outcomes: ReadonlyArray<A | { readonly _tag: "Gone" }> } => {
  const now = Columns.number(firstRow(rows)[0])
  const byRequest = new Map(rows.map((row) => [row[1], row] as const))
  return {
    now,
    // A row that is missing was locked and checked, but something in the database
    // (a trigger, a policy) kept it from being changed.
    outcomes: Array.from({ length: count }, (_, ord) => {
      const row = byRequest.get(ord)
      return row === undefined ? { _tag: "Gone" } : read(row, now)
    })
  }
}

const outcome = (row: Row, now: number): WriteOutcome => {
  switch (row[2]) {
    case "K":
      return {
        _tag: "Accepted",
        version: Columns.version(row[3]),
        now,
        row: row[7] === null ? undefined : Columns.session(row, 7)
      }
    case "G":
      return { _tag: "Gone" }
    case "F":
      return { _tag: "Fenced" }
    case "V":
      return { _tag: "VersionMismatch", row: Columns.session(row, 7) }
    case "A":
      return {
        _tag: "AttributeVersionMismatch",
        attribute: Columns.text(row[4]),
        actual: Columns.version(row[5]),
        row: Columns.session(row, 7)
      }
    case "B":
      return { _tag: "TooLarge", bytes: Columns.number(row[6]) }
    default:
      return unexpected("outcome")
  }
}
