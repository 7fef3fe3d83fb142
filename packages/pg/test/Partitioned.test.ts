/** The schema and every statement, with the table of sessions partitioned by hash of its key, under the same contracts. */
import { sessionLockStorageConformance, sessionStorageConformance } from "@effect-pg-session/core/testing"
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { PgSessionLocks, PgSessionMigrations, PgSessionNotifier, PgSessionStorage } from "../src/index.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import { created, schemaLayer, storageOn } from "./support/StorageFixture.ts"
import { TestDatabase } from "./support/TestDatabase.ts"

const partitions = 4

/** What an operator does: the printed script, its one table cut into partitions. */
const partitioned = (names: Names.Names): ReadonlyArray<string> =>
  PgSessionMigrations.schemaSql(names)
    .replace(
      "with (fillfactor = 70)",
      () =>
        `partition by hash (key);\n${Array.from(
          { length: partitions },
          (_, n) =>
            `\ncreate table ${names.qualified(`sessions_${n}`)} partition of ${names.sessions}
  for values with (modulus ${partitions}, remainder ${n}) with (fillfactor = 70);\n`
        ).join("")}`
    )
    .split(/;\n+(?=create |insert |$)/)
    .filter((statement) => statement.trim() !== "")

/** The names of the tables under test. */
class Partitioned extends Context.Service<Partitioned, Names.Names>()("@effect-pg-session/pg/test/Partitioned") {}

const schema = Layer.effect(
  Partitioned,
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const names = Names.make((yield* TestDatabase).schema, "")
    yield* Effect.forEach(partitioned(names), (statement) => sql.unsafe(statement), { discard: true })
    yield* PgSessionMigrations.verify(names)
    return names
  })
).pipe(Layer.provideMerge(schemaLayer))

const adapters = Layer.unwrap(
  Effect.gen(function* () {
    const connection = { url: (yield* TestDatabase).url }
    return Layer.mergeAll(PgSessionStorage.layer, PgSessionLocks.layer, PgSessionNotifier.layer({ connection })).pipe(
      Layer.provideMerge(DatabaseLive.layer({ names: yield* Partitioned, connection }))
    )
  })
).pipe(Layer.provide(schema))

sessionStorageConformance("PgSessionStorage on partitions", { layer: adapters })

sessionLockStorageConformance("PgSessionLocks on partitions", { layer: adapters })

layer(schema, { excludeTestServices: true })("A partitioned table of sessions", (it) => {
  it.effect("spreads its rows, and is looked up by key in one partition only", () =>
    Effect.gen(function* () {
      const names = yield* Partitioned
      const sql = yield* PgClient.PgClient
      const storage = yield* storageOn(names)
      const rows = yield* Effect.forEach(Array.from({ length: 64 }), () => created(storage))
      const used = yield* sql.unsafe(`select distinct tableoid from ${names.sessions}`).values
      assert.lengthOf(used, partitions)
      const plan = yield* sql.unsafe(`explain select * from ${names.sessions} where key = $1`, [rows[0]?.key]).values
      assert.lengthOf(
        plan.filter(([line]) => /Scan .*sessions_\d/.test(String(line))),
        1
      )
    })
  )

  it.effect("needs no migration: `run` finds nothing missing, and leaves it partitioned", () =>
    Effect.gen(function* () {
      const names = yield* Partitioned
      const sql = yield* PgClient.PgClient
      yield* PgSessionMigrations.run(names)
      const kind = yield* sql.unsafe(`select relkind::text from pg_class where oid = $1::text::regclass`, [
        names.sessions
      ]).values
      assert.deepStrictEqual(kind, [["p"]])
    })
  )
})
