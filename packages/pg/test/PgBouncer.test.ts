import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { PgBouncer } from "../src/testing/index.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

describe.skipIf(!PgBouncer.available)("PgBouncer (skipped where the program pgbouncer is not installed)", () => {
  it.live("shares few server connections between many clients, transaction by transaction", () =>
    Effect.gen(function* () {
      const pooler = yield* PgBouncer.make(databaseUrl, { poolSize: 2 })
      const client = PgClient.layer({ url: pooler.url, prepare: false, maxConnections: 10, minConnections: 10 })
      const backends = yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const query = sql<{ readonly pid: number }>`select pg_backend_pid() as pid, pg_sleep(0.01)`
        return yield* Effect.forEach(Array.from({ length: 100 }), () => query, { concurrency: "unbounded" })
      }).pipe(Effect.provide(client))
      assert.strictEqual(backends.length, 100)
      assert.isAtMost(new Set(backends.map(([row]) => row?.pid)).size, 2)
    })
  )

  it.live("ends with its scope", () =>
    Effect.gen(function* () {
      const { url } = yield* Effect.scoped(PgBouncer.make(databaseUrl))
      const query = Effect.flatMap(PgClient.PgClient, (sql) => sql`select 1`)
      const error = yield* Effect.flip(Effect.provide(query, PgClient.layer({ url })))
      assert.strictEqual(error._tag, "SqlError")
    })
  )
})
