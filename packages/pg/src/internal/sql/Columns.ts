/**
 * A session's columns, by position, and the way back from them. The statements
 * answer `text`, `bool`, `int4` and `float8` only, whatever other types the
 * application has registered codecs for.
 */
import { isStorableName } from "@effect-pg-session/core"
import type { EvictedSession, GroupId, SecretHash, SessionKey, SessionRow, UserId } from "@effect-pg-session/core"
import type { Row } from "../Database.ts"
import * as Attributes from "./Attributes.ts"
import { seconds, unexpected } from "./Text.ts"

/** How to name a column of a session: `s.key`, or `(f.session).key` for one in a composite value. */
export type ColumnOf = (column: string) => string

/** How many columns {@link sessionColumns} has. */
export const sessionWidth = 13

/** The columns of a session in the order that {@link session} expects. */
export const sessionColumns = (of: ColumnOf): string =>
  [
    of("key"),
    of("secret_hash"),
    of("former_hash"),
    seconds(of("former_until")),
    of("user_id"),
    of("group_id"),
    `${of("version")}::text`,
    seconds(of("created_at")),
    seconds(of("authenticated_at")),
    seconds(of("last_accessed_at")),
    seconds(of("expires_at")),
    seconds(of("idle_timeout")),
    `${of("attributes")}::text`
  ].join(", ")

/** Reads when a session ends. */
export const deadlines = (
  row: Row,
  start: number
): Pick<SessionRow, "lastAccessedAt" | "expiresAt" | "idleTimeout"> => ({
  lastAccessedAt: millis(row[start + 9]),
  expiresAt: millis(row[start + 10]),
  idleTimeout: optional(row[start + 11], millis)
})

/** Reads a session from the columns that start at a position. */
export const session = (row: Row, start: number): SessionRow => ({
  key: key(row[start]),
  secretHash: secretHash(row[start + 1]),
  formerHash: optional(row[start + 2], secretHash),
  formerUntil: optional(row[start + 3], millis),
  userId: optional(row[start + 4], userId),
  groupId: optional(row[start + 5], groupId),
  version: version(row[start + 6]),
  createdAt: millis(row[start + 7]),
  authenticatedAt: optional(row[start + 8], millis),
  ...deadlines(row, start),
  attributes: Attributes.parse(text(row[start + 12]))
})

/** Reads the keys that a statement joined by semicolons. */
export const evicted = (column: unknown, owner: UserId | undefined): ReadonlyArray<EvictedSession> =>
  owner === undefined || column === null || column === ""
    ? []
    : text(column)
        .split(";")
        .map((each) => ({ key: key(each), userId: owner }))

/** Reads a column that may be null. */
export const optional = <A>(value: unknown, read: (value: unknown) => A): A | undefined =>
  value === null || value === undefined ? undefined : read(value)

export const text = (value: unknown): string => (typeof value === "string" ? value : unexpected("text"))

export const number = (value: unknown): number => (typeof value === "number" ? value : unexpected("number"))

/** Reads seconds that are whole milliseconds. */
export const millis = (value: unknown): number => Math.round(number(value) * 1_000)

/** Reads the seconds of a clock, cut to whole milliseconds as the stamps of the statements are. */
export const clock = (value: unknown): number => Math.floor(Math.round(number(value) * 1_000_000) / 1_000)

export const version = (value: unknown): bigint => {
  const digits = text(value)
  return /^\d{1,19}$/.test(digits) ? BigInt(digits) : unexpected("version")
}

const isKey = (value: unknown): value is SessionKey =>
  typeof value === "string" && /^[A-Za-z0-9_-]{21}[AQgw]$/.test(value)
const isSecretHash = (value: unknown): value is SecretHash => typeof value === "string"
const isUserId = (value: unknown): value is UserId => typeof value === "string" && isStorableName(value)
const isGroupId = (value: unknown): value is GroupId => typeof value === "string" && isStorableName(value)

export const key = (value: unknown): SessionKey => (isKey(value) ? value : unexpected("session key"))
export const userId = (value: unknown): UserId => (isUserId(value) ? value : unexpected("user id"))
const groupId = (value: unknown): GroupId => (isGroupId(value) ? value : unexpected("group id"))
const secretHash = (value: unknown): SecretHash => (isSecretHash(value) ? value : unexpected("secret hash"))
