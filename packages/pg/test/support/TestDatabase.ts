/** The run's PostgreSQL, with a schema of its own for each test file. */
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"

/** The server of this run. */
export const databaseUrl: Redacted.Redacted<string> = Redacted.make(inject("databaseUrl"))

/** An empty schema, dropped with everything in it when the scope closes. */
export class TestDatabase extends Context.Service<
  TestDatabase,
  { readonly url: Redacted.Redacted<string>; readonly schema: string }
>()("@effect-pg-session/pg/test/TestDatabase") {
  /** The schema, and a client (not bound to the schema) to look around with. */
  static readonly layer: Layer.Layer<TestDatabase | PgClient.PgClient, SqlError> = Layer.effect(
    TestDatabase,
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const schema = `test_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(sql`create schema ${sql(schema)}`, () =>
        Effect.ignore(sql`drop schema ${sql(schema)} cascade`)
      )
      return TestDatabase.of({ url: databaseUrl, schema })
    })
  ).pipe(Layer.provideMerge(PgClient.layer({ url: databaseUrl, maxConnections: 4 })))
}
