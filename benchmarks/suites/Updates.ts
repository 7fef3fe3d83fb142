/**
 * Updates, checked and notified: one caller against one bare statement that does
 * the same to a row, and 64 callers against a statement for each.
 */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { measure, rateRatio, timeRatio } from "../Interleaved.ts"
import type { Suite } from "../Suite.ts"

const sessionCount = 1_000
const callers = 64
const alone = 100
const together = 4_096

const Key = SessionAttribute.make("key", Schema.String)

/** The sessions of `count` operations, dealt out to so many callers, each with sessions of its own. */
const dealt = (count: number, to: number): ReadonlyArray<ReadonlyArray<number>> => {
  const own = Math.floor(sessionCount / to)
  return Array.from({ length: to }, (_, caller) =>
    Array.from({ length: Math.floor(count / to) }, (_, i) => caller * own + (i % own))
  )
}

const countOf = <E, R>(
  count: number,
  concurrency: number,
  operation: (index: number) => Effect.Effect<boolean, E, R>
): Effect.Effect<number, E, R> =>
  Effect.map(
    Effect.forEach(
      dealt(count, concurrency),
      (indexes) =>
        Effect.gen(function* () {
          let right = 0
          for (const index of indexes) if (yield* operation(index)) right++
          return right
        }),
      { concurrency }
    ),
    (counts) => counts.reduce((sum, right) => sum + right, 0)
  )

export const suite: Suite = {
  name: "updates",
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
        const sessions = Context.get(yield* Layer.build(PgSession.layer({ url })), SessionStore)
        const sql = Context.get(yield* Layer.build(PgClient.layer({ url, maxConnections: 10 })), PgClient.PgClient)
        yield* sql`create table bench_bare (key text primary key, version bigint not null, attributes jsonb not null) with (fillfactor = 70)`
        yield* sql`insert into bench_bare select 'k' || i, 1, jsonb_build_object('key', jsonb_build_object('v', 'value', 'n', '1'))
          from generate_series(0, ${sessionCount - 1}) i`
        const latest = yield* Effect.forEach(
          Array.from({ length: sessionCount }, (_, i) => i),
          (i) => sessions.create(UserId.make(`user-${i}`), { attributes: [SessionAttribute.value(Key, `value${i}`)] }),
          { concurrency: 50 }
        )
        let value = 0

        // Callers work on sessions of their own, as those of different users do.
        const update = (index: number) =>
          Effect.gen(function* () {
            const which = index % sessionCount
            const session = latest[which] as Session
            const saved = yield* sessions.update(Session.set(session, Key, `value${value++}`))
            latest[which] = saved
            return saved.version === session.version + 1n
          })
        const bare = (index: number) =>
          Effect.gen(function* () {
            const rows = yield* sql`with u as (
                update bench_bare set version = version + 1,
                  attributes = jsonb_set(attributes, '{key,v}', to_jsonb(${`value${value++}`}::text))
                where key = ${`k${index % sessionCount}`} returning *
              )
              select u.*, (select count(*) from (select pg_notify('bench', 'U' || u.key || u.version)) n) from u`
            return rows.length === 1
          })

        const [one, oneBare] = yield* measure(
          [
            { name: "update, one caller", operations: alone, run: countOf(alone, 1, update) },
            { name: "floor: UPDATE ... RETURNING, pg_notify", operations: alone, run: countOf(alone, 1, bare) }
          ],
          rounds(21)
        )
        const [many, manyBare] = yield* measure(
          [
            { name: `update, ${callers} callers`, operations: together, run: countOf(together, callers, update) },
            { name: "a statement each, the same callers", operations: together, run: countOf(together, callers, bare) }
          ],
          rounds(9)
        )
        return {
          tables: [{ title: "Updates, durable, checked and notified", rows: [one, oneBare, many, manyBare] }],
          figures: {
            "update.c1.vsStatement": timeRatio(one, oneBare),
            "update.c64.vsStatementEach": rateRatio(many, manyBare)
          }
        }
      })
    )
}
