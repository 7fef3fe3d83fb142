/**
 * Statements that end sessions on request, or take an attribute from a user's
 * sessions, or tell every node to forget what it has cached. Rows are locked in
 * the order of their keys before they are changed. A session whose deadline has
 * passed is left to the sweep, which reports it as expired: each session is
 * reported by the one statement that removed it.
 *
 * An ending of a user's, a group's or all sessions is done in parts, so that no statement
 * takes longer than statements may, however many sessions there are. A part
 * takes live sessions only, or many expired ones would leave nothing to be ended in it.
 */
import type { Answer, Deleted, DeleteTarget, KeyVersion, UserId } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import { allPayload, groupHead, userHead } from "../NotificationPayload.ts"
import * as Columns from "./Columns.ts"
import {
  earliestExpiry,
  earlyClock,
  firstRow,
  isLasting,
  isLive,
  isProven,
  lateClock,
  literal,
  milliseconds,
  notifyChanges
} from "./Text.ts"

/** How the other nodes are told. */
type Told =
  /** By key: for single sessions, and where some of the user or group stay. */
  | "each"
  /** By one payload, which an SQL expression gives. */
  | { readonly payload: string }

/** How many sessions a statement ends at most. */
export const partSize = 2_000

/**
 * Who was idle for too long in the statement's snapshot may have been active meanwhile, by a statement that is not yet
 * committed. Expired for longer than this, they were not.
 */
const undecided = "interval '1 minute'"

/** The rest of a statement that has `locked` rows and says in `more` whether there may be others. */
const ending = (names: Names, accepted: string, more: string, told: Told): string =>
  `clock as materialized (
  select ${lateClock} as at from (select count(*) as held from locked) l where l.held >= 0
), ended as (
  delete from ${names.sessions} s using locked l, clock c
  where s.key = l.key and ${isLive("l", "c.at")} and ${accepted}
  returning s.key
), notified as materialized (
  ${
    told === "each"
      ? notifyChanges(names.channel, "select 'D' || e.key || '-' as item from ended e")
      : `select pg_notify(${literal(names.channel)}, ${told.payload}) from (select count(*) as n from ended) e where e.n > 0`
  }
), told as materialized (
  select count(*) as payloads from notified
)
select ${milliseconds("c.at")}, e.key, ${more}
from clock c left join ended e on true cross join told t where t.payloads >= 0`

const endOne = (names: Names): string =>
  `with locked as materialized (
  select s.key, s.secret_hash, s.former_hash, s.former_until, s.expires_at, s.last_accessed_at, s.idle_timeout
  from ${names.sessions} s where s.key = $1::text for update
), ${ending(names, `($2::text is null or ${isProven("l", "$2::text", "c.at")})`, "false", "each")}`

const endPart = (names: Names, condition: string, limit: number, told: Told): string =>
  `with live as materialized (
  select s.key from ${names.sessions} s
  where ${condition} and ${isLive("s", earlyClock)} order by s.key limit ${limit}
), dubious as materialized (
  select s.key from ${names.sessions} s
  where (select count(*) from live) < ${limit} and ${condition}
    and not ${isLive("s", earlyClock)} and ${isLive("s", `(${earlyClock} - ${undecided})`)}
  order by s.key limit ${limit}
), locked as materialized (
  select s.key, s.expires_at, s.last_accessed_at, s.idle_timeout
  from ${names.sessions} s
  where ${condition} and s.key = any(array(select v.key from live v union all select d.key from dubious d))
  order by s.key for update
), ${ending(names, "true", `(select count(*) from live) = ${limit}`, told)}`

/** One statement per kind of target. */
export const sqls = (names: Names, limit: number = partSize) => ({
  session: endOne(names),
  user: endPart(names, "s.user_id = $1::text", limit, { payload: `${literal(userHead)} || $1::text` }),
  userExcept: endPart(names, "s.user_id = $1::text and s.key <> $2::text", limit, "each"),
  group: endPart(names, "s.group_id = $1::text", limit, { payload: `${literal(groupHead)} || $1::text` }),
  groupExcept: endPart(names, "s.group_id = $1::text and s.key <> $2::text", limit, "each"),
  all: endPart(names, "true", limit, { payload: literal(allPayload) })
})

/** Which statement to use for a target, and its parameters. */
export const choose = (target: DeleteTarget): readonly [keyof ReturnType<typeof sqls>, ReadonlyArray<Parameter>] => {
  switch (target._tag) {
    case "Session":
      return ["session", [target.key, target.proof ?? null]]
    case "User":
      return target.except === undefined ? ["user", [target.userId]] : ["userExcept", [target.userId, target.except]]
    case "Group":
      return target.except === undefined
        ? ["group", [target.groupId]]
        : ["groupExcept", [target.groupId, target.except]]
    case "All":
      return ["all", []]
  }
}

export const decode = (rows: ReadonlyArray<Row>): Deleted => ({
  now: Columns.number(firstRow(rows)[0]),
  keys: rows.flatMap((row) => (row[1] === null ? [] : [Columns.key(row[1])])),
  more: firstRow(rows)[2] === true
})

/** Takes the attribute `$2` from all live sessions of the user `$1` that have it. */
export const attributeSql = (names: Names): string =>
  `with locked as materialized (
  select s.* from ${names.sessions} s
  where s.user_id = $1::text and s.attributes ? $2::text order by s.key for no key update
), clock as materialized (
  select t.at, ${milliseconds("t.at")} as ms
  from (select ${lateClock} as at from (select count(*) as held from locked) l where l.held >= 0) t
), chosen as materialized (
  select l.key, l.version + 1 as version, l.attributes - $2::text as attributes, l.attributes_expire_at,
    l.attribute_bytes - octet_length($2::text) - octet_length(l.attributes -> $2::text ->> 'v') as bytes
  from locked l cross join clock c
  where ${isLive("l", "c.at")} and ${isLasting("l.attributes -> $2::text", "c.ms")}
), updated as (
  update ${names.sessions} s set
    version = k.version,
    attributes = k.attributes,
    attribute_bytes = k.bytes,
    attributes_expire_at = case when k.attributes_expire_at is not null then ${earliestExpiry("k.attributes")} end
  from chosen k where s.key = k.key
  returning s.key, s.version
), notified as materialized (
  ${notifyChanges(names.channel, "select 'U' || u.key || u.version as item from updated u")}
), told as materialized (
  select count(*) as payloads from notified
)
select c.ms, u.key, u.version::text
from clock c left join updated u on true cross join told t where t.payloads >= 0`

export const attributeParameters = (userId: UserId, name: string): ReadonlyArray<Parameter> => [userId, name]

export const decodeChanged = (rows: ReadonlyArray<Row>): Answer & { readonly changed: ReadonlyArray<KeyVersion> } => ({
  now: Columns.number(firstRow(rows)[0]),
  changed: rows.flatMap((row) =>
    row[1] === null ? [] : [{ key: Columns.key(row[1]), version: Columns.version(row[2]) }]
  )
})

/** Tells every node to drop what it has of the user `$1`, or everything where that is null. */
export const announceSql = (names: Names): string =>
  `select count(*)::int from (
  select pg_notify(${literal(names.channel)}, coalesce(${literal(userHead)} || $1::text, ${literal(allPayload)})) offset 0
) n`
