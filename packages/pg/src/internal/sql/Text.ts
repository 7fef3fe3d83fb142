/**
 * Pieces of SQL that the statement families share, as text, and the texts of
 * literals. Every stamp that the library stores is cut to whole milliseconds, so
 * that the milliseconds that it answers are exact.
 *
 * Which clock a statement uses matters. One that locks takes `clock_timestamp()`
 * once its locks are held, because time passes while it waits. One that only
 * reads takes `now()`, which in autocommit is never later than its snapshot: a
 * session that somebody touches meanwhile is then not taken for idle.
 */
import type { Parameter, Row } from "../Database.ts"
import { changesHead, maxChanges } from "../NotificationPayload.ts"

/** The longest lifetime that is stored, in milliseconds: longer ones are cut, which nobody lives to see. */
const century = 100 * 365.25 * 86_400_000

/** A string literal, whatever `standard_conforming_strings` is. */
export const literal = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''")}'`
  return text.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted
}

/** A body between dollar signs, with a tag that the body does not have. */
export const dollarQuoted = (body: string): string => {
  let tag = "$session$"
  for (let i = 1; body.includes(tag); i++) tag = `$session${i}$`
  return `${tag}${body}${tag}`
}

/** A `text[]` parameter as PostgreSQL reads it; `undefined` is null. */
export const textArray = (values: Iterable<string | undefined>): string =>
  `{${Array.from(values, (value) => (value === undefined ? "NULL" : `"${value.replace(/["\\]/g, "\\$&")}"`)).join(",")}}`

/**
 * Whether a column is among a `text[]` parameter. Not simply `any($1)`: the plan for a short array looks cheaper than the one for any,
 * so that PostgreSQL would plan the statement anew each time, which takes longer than to run it.
 */
export const among = (parameter: string): string => `any(array(select unnest(${parameter}::text[])))`

/** A number as a parameter: as text, because the driver's choice of a type depends on the value. */
export const numeric = (value: number | undefined): Parameter => (value === undefined ? null : String(value))

/** A duration in whole milliseconds that a timestamp can hold. */
export const duration = (milliseconds: number): number =>
  milliseconds > 0 ? Math.round(Math.min(milliseconds, century)) : 0

/** The clock after all locks are held, in whole milliseconds. */
export const lateClock = "date_trunc('milliseconds', clock_timestamp())"

/** The clock before the snapshot, in whole milliseconds. */
export const earlyClock = "date_trunc('milliseconds', now())"

/** Whole milliseconds of a timestamp (since the epoch) or of an interval, as `float8`. */
export const milliseconds = (expression: string): string => `round(${seconds(expression)} * 1000)`

/**
 * The same in seconds, for what is answered and not computed with: a statement looks up each function that it calls before it runs, which takes
 * longer than the call. Whole milliseconds are exact for as long as there are dates, microseconds until the year 2106.
 */
export const seconds = (expression: string): string => `date_part('epoch', ${expression})`

/** An interval of so many milliseconds. */
export const interval = (expression: string): string => `${expression} * interval '1 millisecond'`

/** Whether a session's deadlines are ahead of `at`. */
export const isLive = (session: string, at: string): string =>
  `(${session}.expires_at > ${at} and (${session}.idle_timeout is null or ${session}.last_accessed_at + ${session}.idle_timeout > ${at}))`

/** Whether a hash is the session's, or its former one within the grace. */
export const isProven = (session: string, proof: string, at: string): string =>
  `(${session}.secret_hash = ${proof} or (${session}.former_hash = ${proof} and ${session}.former_until > ${at}))`

/** Whether an attribute (an object) has not expired at the given milliseconds. */
export const isLasting = (attribute: string, ms: string): string =>
  `coalesce((${attribute} ->> 'e')::float8 > ${ms}, true)`

/** The attributes of an object that have not expired at the given milliseconds. */
export const lastingAttributes = (attributes: string, ms: string): string =>
  `(select coalesce(jsonb_object_agg(a.key, a.value), '{}') from jsonb_each(${attributes}) a where ${isLasting("a.value", ms)})`

/** The size of an object's attributes, names and values. */
export const sizeOf = (attributes: string): string =>
  `(select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0)::int from jsonb_each(${attributes}) a)`

/** The size of those attributes of an object that are named. */
export const sizeOfNamed = (attributes: string, names: string): string =>
  `(select coalesce(sum(octet_length(n) + octet_length(${attributes} -> n ->> 'v')), 0)::int from unnest(${names}) n where ${attributes} ? n)`

/** When the first attribute of an object expires; null if none does. */
export const earliestExpiry = (attributes: string): string =>
  `(select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(${attributes}) a)`

/** Attributes to be set (see `Attributes.ts`), in the shape in which they are stored. */
export const stamped = (set: string, version: string, ms: string): string =>
  `(select coalesce(jsonb_object_agg(a.key, case when a.value ? 't'
      then jsonb_build_object('v', a.value -> 'v', 'n', (${version})::text, 'e', (${ms} + (a.value ->> 't')::float8)::bigint)
      else jsonb_build_object('v', a.value -> 'v', 'n', (${version})::text) end), '{}')
    from jsonb_each(${set}) a)`

/** Sends the items of a query with one column `item`, many to a payload. The result must be consumed by `count(*)`. */
export const notifyChanges = (channel: string, items: string): string =>
  `select pg_notify(${literal(channel)}, ${literal(changesHead)} || string_agg(p.item, ';'))
    from (select i.item, (row_number() over () - 1) / ${maxChanges} as page from (${items}) i) p
    group by p.page`

/** A statement's answer does not have the shape that the statement says. */
export class UnexpectedAnswer extends Error {
  override readonly name = "UnexpectedAnswer"
}

/** Fails the decoding of an answer. */
export const unexpected = (what: string): never => {
  throw new UnexpectedAnswer(`the answer has an unexpected ${what}`)
}

/** The first row of a statement that always answers one. */
export const firstRow = (rows: ReadonlyArray<Row>): Row => rows[0] ?? unexpected("number of rows")
