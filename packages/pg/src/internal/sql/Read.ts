/**
 * Statements that only look: `load`, `list` and `revalidate`. Each is one
 * lookup in an index, and those for many answer the clock even where they find nothing.
 */
import type { Revalidated, Rows, UserId, SessionKey, Answer } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Columns from "./Columns.ts"
import { among, earlyClock, firstRow, isLive, milliseconds, seconds, textArray } from "./Text.ts"

const select = (names: Names, columns: string, condition: string, order = ""): string =>
  `with clock as materialized (select ${earlyClock} as at)
select ${milliseconds("c.at")}, ${columns}
from clock c left join ${names.sessions} s on ${condition} and ${isLive("s", "c.at")}${order}`

/** The live sessions among `$1`, a `text[]` of keys. */
export const loadSql = (names: Names): string =>
  select(
    names,
    Columns.sessionColumns((column) => `s.${column}`),
    `s.key = ${among("$1")}`
  )

/**
 * The session of the key `$1`, live or not, with the clock. There is nothing to join and little to call, so that PostgreSQL needs
 * hardly more for it than for the bare row.
 */
export const loadOneSql = (names: Names): string =>
  `select ${seconds("now()")}, ${Columns.sessionColumns((column) => column)} from ${names.sessions} where key = $1::text`

/** The live sessions of the user `$1`, the latest login first. */
export const listSql = (names: Names): string =>
  select(
    names,
    Columns.sessionColumns((column) => `s.${column}`),
    "s.user_id = $1::text",
    "\norder by coalesce(s.authenticated_at, s.created_at) desc, s.key desc"
  )

/** What a node must know of the live sessions among `$1`, a `text[]` of keys. */
export const revalidateSql = (names: Names): string =>
  select(
    names,
    `s.key, s.version::text, ${milliseconds("s.last_accessed_at")}, ${milliseconds("s.expires_at")}, ${milliseconds("s.idle_timeout")}`,
    `s.key = ${among("$1")}`
  )

export const keyParameters = (keys: ReadonlyArray<SessionKey>): ReadonlyArray<Parameter> => [textArray(keys)]

export const userParameters = (userId: UserId): ReadonlyArray<Parameter> => [userId]

export const decodeRows = (rows: ReadonlyArray<Row>): Rows => ({
  now: Columns.number(firstRow(rows)[0]),
  rows: rows.flatMap((row) => (row[1] === null ? [] : [Columns.session(row, 1)]))
})

/** Reads what {@link loadOneSql} answers. What is live by the clock of the statement is so whoever compares. */
export const decodeOne = ([row]: ReadonlyArray<Row>): Rows => {
  if (row === undefined) return { now: -Infinity, rows: [] }
  const now = Columns.clock(row[0])
  const { expiresAt, idleTimeout, lastAccessedAt } = Columns.deadlines(row, 1)
  const isLive = expiresAt > now && (idleTimeout === undefined || lastAccessedAt + idleTimeout > now)
  return { now, rows: isLive ? [Columns.session(row, 1)] : [] }
}

export const decodeRevalidated = (
  rows: ReadonlyArray<Row>
): Answer & { readonly sessions: ReadonlyArray<Revalidated> } => ({
  now: Columns.number(firstRow(rows)[0]),
  sessions: rows.flatMap((row) =>
    row[1] === null
      ? []
      : [
          {
            key: Columns.key(row[1]),
            version: Columns.version(row[2]),
            lastAccessedAt: Columns.number(row[3]),
            expiresAt: Columns.number(row[4]),
            idleTimeout: Columns.optional(row[5], Columns.number)
          }
        ]
  )
})
