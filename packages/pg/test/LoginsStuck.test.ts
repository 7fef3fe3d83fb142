/** Logins of a whole node where something holds some of them up: connections that are scarce, users whom somebody else holds. */
import { UserId } from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { userLock } from "../src/internal/sql/Functions.ts"
import { eventually } from "./support/Faults.ts"
import { alice, lookAround, node, test } from "./support/Nodes.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)
const user = (index: number) => UserId.make(`user ${index}`)
const unbounded = { concurrency: "unbounded" } as const

describe("logins of a node", () => {
  test(
    "all get in on a single connection, and keep the limit",
    Effect.gen(function* () {
      const sessions = yield* node({ maxConnections: 1, maxSessionsPerUser: 3 })
      yield* Effect.forEach(times(120), (index) => sessions.create(user(index % 20)), unbounded)
      for (const index of times(20)) assert.lengthOf(yield* sessions.listForUser(user(index)), 3)
    })
  )

  test(
    "get in although more users are stuck than are waited for at once; those get in when they are free",
    Effect.gen(function* () {
      const { names, query, number, sql } = yield* lookAround
      const sessions = yield* node({ maxConnections: 6, statementTimeout: "30 seconds" })
      const stuck = times(6).map((index) => UserId.make(`stuck ${index}`))
      const waiting = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query(`select pg_advisory_xact_lock(${userLock(names, "u")}) from unnest($1::text[]) u`, [stuck])
          const fibers = yield* Effect.forEach(stuck, (userId) =>
            Effect.forkChild(sessions.create(userId), { startImmediately: true })
          )
          yield* eventually(
            Effect.map(
              number(
                "select count(*)::int from pg_locks where locktype = 'advisory' and not granted and pid <> pg_backend_pid()"
              ),
              (count) => count >= 4
            )
          )
          yield* Effect.forEach(times(100), (index) => sessions.create(user(index)), unbounded)
          for (const userId of stuck) assert.lengthOf(yield* sessions.listForUser(userId), 0)
          return fibers
        })
      )
      for (const fiber of waiting) yield* Fiber.join(fiber)
      for (const userId of stuck) assert.lengthOf(yield* sessions.listForUser(userId), 1)
    })
  )

  test(
    "get in although a session that would have to end is held, whose user's login waits for it",
    Effect.gen(function* () {
      const { query, sql } = yield* lookAround
      const sessions = yield* node({ maxConnections: 4, maxSessionsPerUser: 1, statementTimeout: "30 seconds" })
      const { key } = yield* sessions.create(alice)
      const [login, others] = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query("select 1 from @sessions where key = $1 for update", [key])
          const login = yield* Effect.forkChild(sessions.create(alice), { startImmediately: true })
          const others = yield* Effect.forEach(times(40), (index) => sessions.create(user(index % 10)), unbounded)
          assert.deepStrictEqual(
            (yield* sessions.listForUser(alice)).map((each) => each.key),
            [key]
          )
          return [login, others] as const
        })
      )
      const session = yield* Fiber.join(login)
      assert.lengthOf(others, 40)
      assert.deepStrictEqual(
        (yield* sessions.listForUser(alice)).map((each) => each.key),
        [session.key]
      )
    })
  )

  test(
    "are answered one by one where the database refuses one of them",
    Effect.gen(function* () {
      const { names, query } = yield* lookAround
      const sessions = yield* node({ maxConnections: 2 })
      yield* query(`alter table ${names.sessions} add constraint picky check (user_id is distinct from 'user 7')`)
      const exits = yield* Effect.forEach(times(40), (index) => Effect.exit(sessions.create(user(index))), unbounded)
      const refused = exits.flatMap((exit, index) => (exit._tag === "Failure" ? [index] : []))
      assert.deepStrictEqual(refused, [7])
      const error = yield* Effect.flip(sessions.create(user(7)))
      assert.deepInclude(error, { reason: "DatabaseError", outcome: "NotApplied" })
      for (const index of times(40)) assert.lengthOf(yield* sessions.listForUser(user(index)), index === 7 ? 0 : 1)
    })
  )
})
