/**
 * Logins: 64 callers that create sessions for users of their own, with the limit of sessions per user enforced, against a
 * bare INSERT for each into a table with the same columns and indexes; and the same for users who have as many sessions as they
 * may, so that each login ends the oldest one and tells all nodes. Everything durable.
 */
import { UserId } from "@effect-pg-session/core"
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import { measure, NotMeasured, rateRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const callers = 64
const logins = 1_920
/** Users who have as many sessions as they may. */
const fullUsers = 960
const limit = 5

export const suite: Suite = {
  name: "creates",
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable()
        const sessions = yield* Node.node({ url, maxSessionsPerUser: limit })
        const sql = yield* Node.client(url)
        yield* sql`create table bench_bare (like sessions including all) with (fillfactor = 70)`

        let user = 0
        const [attribute] = Workload.one.attributes
        const createFor = (name: string, i: number) =>
          Effect.map(
            sessions.create(UserId.make(`${name}-${i}`), { attributes: Workload.attributeValues(Workload.one, i) }),
            ({ version }) => version === 1n
          )
        const create = () => Effect.suspend(() => createFor("user", user++))
        const createFull = (index: number) => createFor("full", index)
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

        for (let before = 0; before < limit; before++) yield* Workload.shared(fullUsers, callers, createFull)
        const rows = yield* measure(
          [
            { name: `create, ${callers} callers`, operations: logins, run: Workload.shared(logins, callers, create) },
            {
              name: "create, the oldest ended",
              operations: fullUsers,
              run: Workload.shared(fullUsers, callers, createFull)
            },
            { name: "a bare INSERT each", operations: logins, run: Workload.shared(logins, callers, insert) }
          ],
          rounds(11)
        )
        const [created, replaced, inserted] = rows
        const [counted] = yield* sql<{ readonly left: number }>`
          select count(*)::int as left from sessions where user_id like 'full-%'`
        if (counted?.left !== fullUsers * limit) return yield* new NotMeasured({ message: "A limit was not kept" })
        return {
          tables: [{ title: "Logins, durable", rows }],
          figures: {
            "create.c64.vsInsertEach": rateRatio(created, inserted),
            "create.full64.vsInsertEach": rateRatio(replaced, inserted)
          }
        }
      })
    )
}
