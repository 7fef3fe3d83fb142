/** Many sessions at once, written into the table as the library does: to fill caches with. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { Database } from "./Database.ts"
import type { Random } from "./Random.ts"

const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".split("")

/** An id in the only spelling that is accepted. */
const token = (random: Random): string => {
  const text = (length: number) => Array.from({ length }, () => random.pick(characters)).join("")
  return `${text(21)}A${text(42)}A`
}

/** Inserts so many sessions, each of a user of its own, and answers their ids. */
export const insert = Effect.fnUntraced(function* ({ sql }: Database["Service"], random: Random, count: number) {
  const tokens = Array.from({ length: count }, () => token(random))
  const rows = tokens.map((id, index) => ({
    key: id.slice(0, 22),
    hash: createHash("sha256").update(id.slice(22)).digest("base64url"),
    user: `filler-${index}-${id.slice(0, 6)}`
  }))
  yield* sql`
    insert into sessions (key, secret_hash, user_id, version, created_at, authenticated_at, last_accessed_at, expires_at)
    select r.key, r.hash, r.user, 1, clock_timestamp(), clock_timestamp(), clock_timestamp(),
      clock_timestamp() + interval '1 day'
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) r(key text, hash text, "user" text)`
  return tokens
})
