/** Faults by what others do in the same database: they hold locks, take all connections, fill the queue of notifications. */
import { PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import type { Fault, Surroundings } from "../Fault.ts"

/** More than the server has. */
const manyConnections = 120
/** One page of the queue holds one of these. */
const largePayload = 7_800
const pagesOfQueue = 64

/** A transaction of somebody else's that has run these statements, and then does nothing for a time. */
const idleTransaction = (
  { url }: Surroundings,
  statements: ReadonlyArray<string>,
  millis: number,
  meanwhile: Effect.Effect<unknown> = Effect.void
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url, applicationName: "faults idle" })
    yield* Effect.forEach(statements, (statement) => connection.query(statement), { discard: true })
    yield* meanwhile
    yield* Effect.sleep(millis)
  }).pipe(Effect.scoped, Effect.timeoutOption(millis + 3_000), Effect.ignore)

const locked = (kind: string, statement: string): Fault => ({
  kind,
  lane: "server",
  inject: (surroundings, random) => idleTransaction(surroundings, ["begin", statement], random.integer(300, 2_500))
})

export const faults: ReadonlyArray<Fault> = [
  // Every statement waits, and so every connection of every pool is taken.
  locked("tableLocked", "lock table sessions in access exclusive mode"),
  locked("sessionsLocked", "select 1 from sessions order by key limit 30 for update"),
  locked("locksLocked", "select 1 from session_locks for update"),
  {
    kind: "connectionsExhausted",
    lane: "server",
    inject: ({ database: { sql }, url }, random) =>
      Effect.gen(function* () {
        const connect: Effect.Effect<
          void,
          SqlError,
          Effect.Services<ReturnType<typeof PgConnection.make>>
        > = Effect.asVoid(PgConnection.make({ url, applicationName: "faults greedy" }))
        // Whoever had a connection must ask for another one.
        yield* sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'node %'`
        yield* Effect.forEach(Array.from({ length: manyConnections }), () => Effect.result(connect), {
          concurrency: 20
        }).pipe(Effect.map((results) => results.filter(Result.isSuccess).length))
        yield* Effect.sleep(random.integer(300, 2_500))
      }).pipe(Effect.scoped, Effect.timeoutOption("8 seconds"), Effect.ignore)
  },
  {
    // A listener in a transaction that does nothing: PostgreSQL keeps all notifications for it until there is no more room.
    kind: "notificationsFull",
    lane: "server",
    inject: (surroundings, random) => {
      const { sql } = surroundings.database
      const fill = Effect.forEach(
        Array.from({ length: pagesOfQueue * 2 }, (_, index) => index),
        (index) => sql`select pg_notify('faults_filler', ${String(index).padEnd(largePayload, "x")})`,
        { discard: true }
      )
      return idleTransaction(
        surroundings,
        ["listen faults_idle", "begin", "select 1"],
        random.integer(300, 2_500),
        Effect.ignore(fill)
      )
    }
  }
]
