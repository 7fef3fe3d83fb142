/**
 * The statement behind `sweep`: one range of the primary key, on one node at a
 * time. Where the range ends is decided before any row is locked. Rows that
 * somebody holds are skipped and found by the next sweep; the others are judged
 * again under their lock, by a clock that was read before: a session that was
 * touched meanwhile is not due any more. The first batch also drops the beats of
 * nodes that have been silent for a day.
 */
import type { Answer, KeyVersion, SessionKey, SweepOutcome, SweepRequest, UserId } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Columns from "./Columns.ts"
import {
  earliestExpiry,
  earlyClock,
  isLive,
  lastingAttributes,
  literal,
  milliseconds,
  notifyChanges,
  sizeOf,
  unexpected
} from "./Text.ts"

/** Takes `$1`, the key after which the range starts ('' at the beginning), and `$2`, how many rows it has. */
export const sql = (names: Names): string =>
  `with mutex as materialized (
  select pg_try_advisory_xact_lock(hashtextextended(${literal(`sweep ${names.sessions}`)}, 0)) as got
), clock as materialized (
  select ${earlyClock} as at, ${milliseconds(earlyClock)} as ms
), range as materialized (
  select s.key from ${names.sessions} s
  where (select m.got from mutex m) and s.key > $1::text collate "C" order by s.key limit $2::int
), bounds as materialized (
  select max(r.key) as last, count(*) as n from range r
), due as materialized (
  select s.* from ${names.sessions} s
  where s.key > $1::text collate "C" and s.key <= (select b.last from bounds b)
    and (not ${isLive("s", "(select c.at from clock c)")} or s.attributes_expire_at <= (select c.at from clock c))
  order by s.key for update skip locked
), judged as materialized (
  select d.key, d.attributes, d.version, ${isLive("d", "c.at")} as live, c.ms from due d cross join clock c
), expired as (
  delete from ${names.sessions} s using judged j where s.key = j.key and not j.live
  returning s.key, s.user_id
), lasting as materialized (
  select j.key, j.version + 1 as version, ${lastingAttributes("j.attributes", "j.ms")} as attributes
  from judged j where j.live
), purged as (
  update ${names.sessions} s set
    version = l.version,
    attributes = l.attributes,
    attribute_bytes = ${sizeOf("l.attributes")},
    attributes_expire_at = ${earliestExpiry("l.attributes")}
  from lasting l where s.key = l.key
  returning s.key, s.version
), silent as materialized (
  select b.node from ${names.beats} b
  where $1::text = '' and (select m.got from mutex m) and b.beat_at < now() - interval '1 day'
  for update skip locked
), forgotten as (
  delete from ${names.beats} b using silent s where b.node = s.node
), notified as materialized (
  ${notifyChanges(
    names.channel,
    `select 'X' || e.key || '-' as item from expired e
      union all select 'U' || u.key || u.version from purged u`
  )}
)
select case when m.got then 'S' else 'B' end, c.ms, case when b.n = $2::int then b.last end, null
from mutex m cross join clock c cross join bounds b
cross join (select count(*) as payloads from notified) t
where t.payloads >= 0
union all select 'X', null, e.key, e.user_id from expired e
union all select 'P', null, u.key, u.version::text from purged u`

export const parameters = (request: SweepRequest): ReadonlyArray<Parameter> => [
  request.after ?? "",
  String(Math.min(Math.max(Math.trunc(request.limit), 1), 1_000_000))
]

export const decode = (rows: ReadonlyArray<Row>): Answer & SweepOutcome => {
  const expired: Array<{ readonly key: SessionKey; readonly userId: UserId | undefined }> = []
  const purged: Array<KeyVersion> = []
  for (const row of rows) {
    if (row[0] === "X") expired.push({ key: Columns.key(row[2]), userId: Columns.optional(row[3], Columns.userId) })
    if (row[0] === "P") purged.push({ key: Columns.key(row[2]), version: Columns.version(row[3]) })
  }
  const head = rows.find((row) => row[0] === "S" || row[0] === "B") ?? unexpected("number of rows")
  const now = Columns.number(head[1])
  return head[0] === "B"
    ? { _tag: "Busy", now }
    : { _tag: "Swept", now, expired, purged, next: Columns.optional(head[2], Columns.key) }
}
