/**
 * Statements that only look: `load`, `list` and `revalidate`. Each is one
 * lookup in an index, and answers the clock even where it finds nothing.
 */
import type { Revalidated, Rows, UserId, SessionKey, Answer } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Columns from "./Columns.ts"
import { among, earlyClock, firstRow, isLive, milliseconds, textArray } from "./Text.ts"

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

/** The live session of the key `$1`: nothing to take apart, and so planned once and run in two thirds of the time. */
export const loadOneSql = (names: Names): string =>
  `select ${milliseconds("c.at")}, ${Columns.sessionColumns((column) => `s.${column}`)}
from (select ${earlyClock} as at) c left join ${names.sessions} s on s.key = $1::text and ${isLive("s", "c.at")}`

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
