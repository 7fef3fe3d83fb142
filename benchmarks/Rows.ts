/**
 * Sessions by the million: rows that PostgreSQL makes up by itself, as `create` would have written them, and whose ids can be
 * computed from their number on both sides.
 */
import { SessionId } from "@effect-pg-session/core"
import { PgSessionMigrations } from "@effect-pg-session/pg"
import type { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { SqlClient } from "effect/sql/SqlClient"
import { createHash } from "node:crypto"
import type { Workload } from "./Workload.ts"

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest()

/** The id of session `i`. */
export const idOf = (i: number): SessionId =>
  Option.getOrThrow(
    SessionId.fromString(
      sha256(`key ${i}`).subarray(0, 16).toString("base64url") + sha256(`secret ${i}`).toString("base64url")
    )
  )

const base64url = (bytes: string): string => `rtrim(translate(encode(${bytes}, 'base64'), '+/'||chr(10), '-_'), '=')`
const digest = (text: string): string => `sha256(convert_to(${text}, 'UTF8'))`

/** A function takes a hundred arguments at most. */
const objects = (entries: ReadonlyArray<string>): string =>
  Array.from({ length: Math.ceil(entries.length / 50) }, (_, i) => entries.slice(50 * i, 50 * i + 50))
    .map((some) => `jsonb_build_object(${some.join(", ")})`)
    .join(" || ")

/** At once, so that a statement does not outgrow its time. */
const batch = 100_000

/** Inserts the sessions from one number to another, which is left out. */
export const insert = Effect.fnUntraced(function* (
  sql: PgClient.PgClient,
  workload: Workload,
  from: number,
  to: number
) {
  yield* Effect.provideService(PgSessionMigrations.run(), SqlClient, sql)
  // JSON text of a plain string.
  const json = (attribute: number) => `('"' || ${workload.valueSql(attribute)} || '"')`
  const entries = workload.attributes.map(
    ({ name }, attribute) => `'${name}', jsonb_build_object('v', ${json(attribute)}, 'n', '1')`
  )
  const bytes = workload.attributes.map(({ name }, attribute) => `${name.length} + octet_length(${json(attribute)})`)
  for (let first = from; first < to; first += batch) {
    yield* sql.unsafe(
      `insert into sessions (key, secret_hash, user_id, version, created_at, authenticated_at, last_accessed_at, expires_at,
        idle_timeout, attributes, attribute_bytes)
      select ${base64url(`substr(${digest("'key ' || i")}, 1, 16)`)},
        ${base64url(digest(base64url(digest("'secret ' || i"))))},
        'user-' || i, 1, now(), now(), now(), now() + interval '30 days', interval '48 hours',
        ${objects(entries)}, ${bytes.join(" + ")}
      from generate_series($1::int, $2::int) i`,
      [first, Math.min(first + batch, to) - 1]
    )
  }
  yield* sql`analyze sessions`
})
