/**
 * Logins: 64 callers that create sessions for users of their own, with the limit of sessions per user enforced, against a
 * bare INSERT for each into a table with the same columns and indexes. Everything durable.
 */
import { UserId } from "@effect-pg-session/core"
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import { measure, rateRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const callers = 64
const logins = 1_920

export const suite: Suite = {
  name: "creates",
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable()
        const sessions = yield* Node.node({ url })
        const sql = yield* Node.client(url)
        yield* sql`create table bench_bare (like sessions including all) with (fillfactor = 70)`

        let user = 0
        const [attribute] = Workload.one.attributes
        const create = () =>
          Effect.suspend(() => {
            const i = user++
            const attributes = Workload.attributeValues(Workload.one, i)
            return Effect.map(
              sessions.create(UserId.make(`user-${i}`), { attributes }),
              ({ version }) => version === 1n
            )
          })
        const insert = () =>
          Effect.suspend(() => {
            const i = user++
            const key = randomBytes(16).toString("base64url")
            const attributes = JSON.stringify({
              [attribute.name]: { v: JSON.stringify(Workload.one.value(i, 0)), n: "1" }
            })
            return Effect.map(
              sql`insert into bench_bare (key, secret_hash, user_id, version, created_at, authenticated_at,
                  last_accessed_at, expires_at, idle_timeout, attributes, attribute_bytes)
                values (${key}, ${randomBytes(32).toString("base64url")}, ${`user-${i}`}, 1, now(), now(),
                  now(), now() + interval '30 days', interval '48 hours', ${attributes}::text::jsonb, ${attributes.length})
                returning *`,
              (rows) => rows.length === 1
            )
          })

        const rows = yield* measure(
          [
            { name: `create, ${callers} callers`, operations: logins, run: Workload.shared(logins, callers, create) },
            { name: "a bare INSERT each", operations: logins, run: Workload.shared(logins, callers, insert) }
          ],
          rounds(11)
        )
        const [created, inserted] = rows
        return {
          tables: [{ title: "Logins, durable", rows }],
          figures: { "create.c64.vsInsertEach": rateRatio(created, inserted) }
        }
      })
    )
}
