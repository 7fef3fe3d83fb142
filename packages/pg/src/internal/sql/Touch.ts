/**
 * The statement behind `touch`: many last accesses in one round trip, without a
 * new version and without a notification. Only `last_accessed_at` changes, which
 * no index and no predicate of an index mentions, so that each update stays in
 * its page (HOT). A passed deadline is final: those rows are left alone.
 *
 * Ages count from the statement's start: what it waits for rows would otherwise
 * make accesses later than they were. Deadlines are judged by the clock after the wait.
 */
import type { Answer, SessionKey, Touch, Touched } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Columns from "./Columns.ts"
import { duration, earlyClock, firstRow, interval, isLive, lateClock, milliseconds, textArray } from "./Text.ts"

/** Takes `$1`, a `text[]` of keys, and `$2`, a `float8[]` of their ages in milliseconds. */
export const sql = (names: Names): string =>
  `with locked as materialized (
  select s.key, s.last_accessed_at, s.expires_at, s.idle_timeout, i.age
  from unnest($1::text[], $2::float8[]) as i(key, age) join ${names.sessions} s on s.key = i.key
  order by s.key for no key update of s
), clock as materialized (
  select ${lateClock} as at from (select count(*) as held from locked) l where l.held >= 0
), live as materialized (
  select l.key, l.last_accessed_at as former, greatest(l.last_accessed_at, ${earlyClock} - ${interval("l.age")}) as latter
  from locked l cross join clock c
  where ${isLive("l", "c.at")}
), touched as (
  update ${names.sessions} s set last_accessed_at = v.latter
  from live v where s.key = v.key and v.latter > v.former
)
select ${milliseconds("c.at")}, v.key, ${milliseconds("v.latter")}
from clock c left join live v on true`

export const parameters = (touches: ReadonlyArray<Touch>): ReadonlyArray<Parameter> => {
  const ages = new Map<SessionKey, number>()
  for (const { age, key } of touches) {
    ages.set(key, Math.min(duration(age), ages.get(key) ?? Infinity))
  }
  return [textArray(ages.keys()), `{${[...ages.values()].join(",")}}`]
}

export const decode = (rows: ReadonlyArray<Row>): Answer & { readonly touched: ReadonlyArray<Touched> } => ({
  now: Columns.number(firstRow(rows)[0]),
  touched: rows.flatMap((row) =>
    row[1] === null ? [] : [{ key: Columns.key(row[1]), lastAccessedAt: Columns.number(row[2]) }]
  )
})
