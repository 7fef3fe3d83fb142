/**
 * Sessions by the million: rows that PostgreSQL makes up by itself, as `create` would have written them, and whose ids can be
 * computed from their number on both sides.
 */
import { SessionId } from "@effect-pg-session/core"
import type { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
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

/** At once, so that a statement does not outgrow its time. */
const batch = 100_000

/** Inserts the sessions from one number to another, which is left out. */
export const insert = Effect.fnUntraced(function* (
  sql: PgClient.PgClient,
  workload: Workload,
  from: number,
  to: number
) {
  const names = JSON.stringify(workload.attributes.map(({ name }) => name))
  for (let first = from; first < to; first += batch) {
    yield* sql.unsafe(
      `insert into sessions (key, secret_hash, user_id, version, created_at, authenticated_at, last_accessed_at, expires_at,
        idle_timeout, attributes, attribute_bytes)
      select ${base64url(`substr(${digest("'key ' || i")}, 1, 16)`)},
        ${base64url(digest(base64url(digest("'secret ' || i"))))},
        'user-' || i, 1, now(), now(), now(), now() + interval '30 days', interval '48 hours', d.attributes, d.bytes
      from generate_series($1::int, $2::int) i cross join lateral (
        select jsonb_object_agg(n.name, jsonb_build_object('v', to_jsonb(${workload.valueSql})::text, 'n', '1')) as attributes,
          sum(octet_length(n.name) + octet_length(to_jsonb(${workload.valueSql})::text)) as bytes
        from (select value as name, ordinality - 1 as a from jsonb_array_elements_text($3::text::jsonb) with ordinality) n
      ) d`,
      [first, Math.min(first + batch, to) - 1, names]
    )
  }
  yield* sql`analyze sessions`
})
