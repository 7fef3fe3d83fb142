import type { SessionSchemaMissing } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Names from "../src/internal/Names.ts"
import * as PgSessionMigrations from "../src/PgSessionMigrations.ts"
import type { SchemaOptions } from "../src/PgSessionMigrations.ts"
import {
  acquired,
  anAcquisition,
  aRotation,
  attribute,
  aWrite,
  created,
  hour,
  newLock,
  newUser,
  schemaLayer,
  storagesOn
} from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const suffix = () => randomBytes(4).toString("hex")

/** A schema name that nothing has yet, and that is dropped afterwards. */
const newSchema = (text = "migrations ") =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const schemaName = `${text}${suffix()}`
    yield* Effect.addFinalizer(() =>
      Effect.ignore(sql.unsafe(`drop schema if exists ${Names.make(schemaName, "").schema} cascade`))
    )
    return schemaName
  })

/** Runs on connections of its own, as a node that starts does. */
const onOwnPool = <A, E>(effect: Effect.Effect<A, E, SqlClient>, config?: Partial<PgClient.PgPoolConfig>) =>
  Effect.scoped(
    Effect.flatMap(
      Layer.build(Layer.fresh(PgClient.layer({ url: databaseUrl, maxConnections: 1, ...config }))),
      (context) => Effect.provideContext(effect, context)
    )
  )

const missingOf = (effect: Effect.Effect<void, SessionSchemaMissing | Error, SqlClient>) =>
  Effect.map(Effect.flip(effect), (error) => {
    if ("missing" in error) return error.missing
    throw error
  })

/** Everything that the catalogs say of a schema, with the schema's name taken out. */
const describeSchema = (names: Names.Names) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const rows = yield* sql.unsafe(
      `select 'relation', c.relname, c.relkind::text, c.reloptions::text, pg_get_indexdef(c.oid)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind in ('r', 'i')
       union all
       select 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           concat(a.attcollation::regcollation, ' ', pg_get_expr(d.adbin, d.adrelid))
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
           left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where n.nspname = $1 and c.relkind = 'r' and a.attnum > 0
       union all
       select 'constraint', c.conname, c.contype::text, c.confdeltype::text, pg_get_constraintdef(c.oid)
         from pg_constraint c join pg_namespace n on n.oid = c.connamespace where n.nspname = $1 and c.contype <> 'n'
       union all
       select 'sequence', s.sequencename, s.data_type::text, s.cache_size::text, concat(s.cycle, s.last_value)
         from pg_sequences s where s.schemaname = $1
       union all
       select 'function', p.proname, p.provolatile::text, p.prosecdef::text, pg_get_functiondef(p.oid)
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1
       order by 1, 2`,
      [names.schemaName]
    ).values
    return rows.map((row) =>
      row.map((cell) => String(cell).replaceAll(names.schema, "S").replaceAll(names.schemaName, "S"))
    )
  })

/** Applies a script as psql would; the statements' bodies have no empty lines. */
const applyScript = (script: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.forEach(
      script.split(/;\n\n?(?=create |insert |$)/).filter((text) => text !== ""),
      (text) => sql.unsafe(text)
    )
  )

const everyOperation = (options: SchemaOptions, prepare: boolean, url = databaseUrl) =>
  Effect.gen(function* () {
    const names = Names.make(options.schemaName ?? "public", options.tablePrefix ?? "")
    const { locks, storage } = yield* storagesOn(names, { prepare, url })
    const userId = newUser()
    const row = yield* created(storage, { userId, attributes: [attribute("a", "ä\u0000\ud800")] })
    assert.deepStrictEqual((yield* storage.load([row.key])).rows, [row])
    const { outcomes } = yield* storage.write([aWrite(row, { set: [attribute("b", 1, hour)] })])
    assert.strictEqual(outcomes[0]?._tag, "Accepted")
    const rotation = yield* storage.rotate(aRotation(row))
    const rotated = rotation._tag === "Rotated" ? rotation.row : assert.fail(rotation._tag)
    assert.strictEqual((yield* storage.touch([{ key: row.key, age: 0 }])).touched.length, 1)
    assert.strictEqual((yield* storage.deleteAttribute(userId, "b")).changed.length, 1)
    assert.strictEqual((yield* storage.list(userId)).rows.length, 1)
    assert.strictEqual((yield* storage.revalidate([row.key])).sessions[0]?.version, 4n)
    assert.strictEqual((yield* storage.sweep({ after: undefined, limit: 10 }))._tag, "Swept")

    const lock = newLock()
    const lease = yield* acquired(locks, lock, { session: row.key, node: "ä 🙂" })
    const fenced = yield* storage.write([aWrite(row, { fence: lease, proof: rotated.secretHash })])
    assert.strictEqual(fenced.outcomes[0]?._tag, "Accepted")
    assert.strictEqual((yield* locks.acquire(anAcquisition(lock, { session: row.key, queue: "wait" })))._tag, "Held")
    assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: 2 * hour }))._tag, "Extended")
    yield* locks.leave(lock, "a")
    assert.isTrue((yield* locks.release(lock, lease.owner)).released)
    assert.strictEqual((yield* locks.sweep({ unusedFor: 0, limit: 10 })).removed, 1)

    yield* acquired(locks, lock, { session: row.key })
    assert.deepStrictEqual((yield* storage.delete({ _tag: "User", userId, except: undefined })).keys, [row.key])
    assert.strictEqual((yield* locks.sweep({ unusedFor: 0, limit: 10 })).removed, 0)
  })

it("the script in the documentation is the one for the defaults", () => {
  const documented = readFileSync(new URL("../../../docs/schema.sql", import.meta.url), "utf8")
  assert.strictEqual(documented, PgSessionMigrations.schemaSql())
})

layer(schemaLayer, { excludeTestServices: true })("PgSessionMigrations", (it) => {
  it.effect("creates the schema and everything in it, and finds nothing to do the second time", () =>
    Effect.gen(function* () {
      const options = { schemaName: yield* newSchema() }
      yield* PgSessionMigrations.run(options)
      yield* PgSessionMigrations.verify(options)
      const before = yield* describeSchema(Names.make(options.schemaName, ""))
      yield* PgSessionMigrations.run(options)
      assert.deepStrictEqual(yield* describeSchema(Names.make(options.schemaName, "")), before)
      yield* everyOperation(options, true)
    })
  )

  it.effect("the script makes what the migrations make, can be repeated, and leaves nothing to do", () =>
    Effect.gen(function* () {
      const migrated = { schemaName: yield* newSchema() }
      const scripted = { schemaName: yield* newSchema() }
      yield* PgSessionMigrations.run(migrated)
      yield* applyScript(PgSessionMigrations.schemaSql(scripted))
      yield* applyScript(PgSessionMigrations.schemaSql(scripted))
      yield* PgSessionMigrations.verify(scripted)
      yield* PgSessionMigrations.run(scripted)
      assert.deepStrictEqual(
        yield* describeSchema(Names.make(scripted.schemaName, "")),
        yield* describeSchema(Names.make(migrated.schemaName, ""))
      )
      const sql = yield* PgClient.PgClient
      for (const { schemaName } of [migrated, scripted]) {
        const rows = yield* sql.unsafe(
          `select migration_id, name from ${Names.make(schemaName, "").migrations} order by 1`
        ).values
        assert.deepStrictEqual(rows, [
          [1, "create_sessions"],
          [2, "create_session_locks"],
          [3, "create_session_write"]
        ])
      }
    })
  )

  it.effect("eight nodes that start at once all succeed", () =>
    Effect.gen(function* () {
      for (let round = 0; round < 5; round++) {
        const options = { schemaName: yield* newSchema() }
        yield* Effect.forEach(Array(8).keys(), () => onOwnPool(PgSessionMigrations.run(options)), {
          concurrency: "unbounded"
        })
        yield* PgSessionMigrations.verify(options)
      }
    })
  )

  it.effect("names everything that is missing", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const schemaName = yield* newSchema()
      const names = Names.make(schemaName, "p_")
      const options = { schemaName, tablePrefix: "p_" }
      const nothing = yield* missingOf(PgSessionMigrations.verify(options))
      assert.deepStrictEqual(nothing.slice(0, 3), [
        `schema "${schemaName}"`,
        `table "${schemaName}"."p_sessions"`,
        `index "${schemaName}"."p_sessions_user_id_idx"`
      ])
      assert.isTrue(nothing.some((part) => part.startsWith(`function "${schemaName}"."p_session_create"(text, `)))
      assert.isFalse(nothing.some((part) => part.startsWith("column")))

      yield* PgSessionMigrations.run(options)
      yield* sql.unsafe(`drop index ${names.qualified("sessions_group_id_idx")}`)
      yield* sql.unsafe(`alter table ${names.sessions} drop column attribute_bytes`)
      yield* sql.unsafe(`drop function ${names.qualified("session_rotate")}`)
      yield* sql.unsafe(`drop table ${names.beats}`)
      yield* sql.unsafe(`drop sequence ${names.lockTokens}`)
      yield* sql.unsafe(`drop index ${names.qualified("session_locks_key_idx")}`)
      yield* sql.unsafe(`alter table ${names.locks} drop column ends`)
      yield* sql.unsafe(`drop function ${names.qualified("session_lock_release")}`)
      const missing = yield* missingOf(PgSessionMigrations.verify(options))
      assert.deepStrictEqual(
        missing.map((part) => part.replace(/\(.*/, "")),
        [
          `column "${schemaName}"."p_sessions"."attribute_bytes"`,
          `index "${schemaName}"."p_sessions_group_id_idx"`,
          `table "${schemaName}"."p_session_beats"`,
          `function "${schemaName}"."p_session_rotate"`,
          `column "${schemaName}"."p_session_locks"."ends"`,
          `index "${schemaName}"."p_session_locks_key_idx"`,
          `sequence "${schemaName}"."p_session_lock_tokens"`,
          `function "${schemaName}"."p_session_lock_release"`
        ]
      )
    })
  )

  it.effect("run creates again what was dropped", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const options = { schemaName: yield* newSchema() }
      const names = Names.make(options.schemaName, "")
      yield* PgSessionMigrations.run(options)
      yield* sql.unsafe(`drop function ${names.qualified("session_rotate")}`)
      yield* sql.unsafe(`drop table ${names.beats}, ${names.locks}`)
      yield* sql.unsafe(`drop sequence ${names.lockTokens}`)
      yield* PgSessionMigrations.run(options)
      yield* PgSessionMigrations.verify(options)
      yield* everyOperation(options, true)
    })
  )

  it.effect("run says what is missing where it could not be created", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const options = { schemaName: yield* newSchema() }
      const names = Names.make(options.schemaName, "")
      yield* PgSessionMigrations.run(options)
      yield* sql.unsafe(`alter table ${names.sessions} drop column attribute_bytes`)
      assert.deepStrictEqual(yield* missingOf(PgSessionMigrations.run(options)), [
        `column ${names.sessions}."attribute_bytes"`
      ])
    })
  )

  it.effect(
    "a role that may create nothing works with a schema that is there, and is told what is missing where it is not",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const role = `worker_${suffix()}`
        const options = { schemaName: yield* newSchema() }
        const names = Names.make(options.schemaName, "")
        yield* Effect.acquireRelease(sql.unsafe(`create role ${role} login password 'worker'`), () =>
          Effect.ignore(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
        )
        const url = new URL(Redacted.value(databaseUrl))
        url.username = role
        url.password = "worker"
        const asRole = { url: Redacted.make(url.href) }

        for (const mode of ["run", "verify"] as const) {
          const missing = yield* missingOf(onOwnPool(PgSessionMigrations.apply(mode, options), asRole))
          assert.include(missing, `table ${names.sessions}`)
        }
        yield* onOwnPool(PgSessionMigrations.apply("skip", options), asRole)

        yield* PgSessionMigrations.run(options)
        // Even without any right to the schema the check itself works.
        yield* onOwnPool(PgSessionMigrations.verify(options), asRole)
        yield* sql.unsafe(`grant usage on schema ${names.schema} to ${role}`)
        yield* sql.unsafe(
          `grant select, insert, update, delete on ${names.sessions}, ${names.beats}, ${names.locks} to ${role}`
        )
        yield* sql.unsafe(`grant usage on sequence ${names.lockTokens} to ${role}`)
        yield* onOwnPool(PgSessionMigrations.run(options), asRole)
        yield* onOwnPool(PgSessionMigrations.verify(options), asRole)
        yield* everyOperation(options, true, asRole.url)
      })
  )

  const oddNames = [
    ["uppercase and spaces", "My Schema ", "Pre Fix "],
    ["quotes", 'it\'s a "schema" ', "\"'; drop table x; --"],
    ["emoji", "schéma🙂 ", "préfix🚀_"],
    ["dots", "a.b.", "c.d."],
    ["backslashes and dollars", "\\ $1 $$ ", "$session$\\"]
  ] as const

  for (const [what, schemaText, tablePrefix] of oddNames) {
    it.effect(`works with names that have ${what}`, () =>
      Effect.gen(function* () {
        const options = { schemaName: yield* newSchema(schemaText), tablePrefix }
        yield* PgSessionMigrations.run(options)
        yield* PgSessionMigrations.verify(options)
        yield* everyOperation(options, true)
        yield* everyOperation(options, false)
        yield* applyScript(PgSessionMigrations.schemaSql(options))
      })
    )
  }

  it.effect("two prefixes in one schema do not know each other", () =>
    Effect.gen(function* () {
      const schemaName = yield* newSchema()
      yield* PgSessionMigrations.run({ schemaName, tablePrefix: "a" })
      assert.isAbove((yield* missingOf(PgSessionMigrations.verify({ schemaName, tablePrefix: "b" }))).length, 5)
      yield* PgSessionMigrations.run({ schemaName, tablePrefix: "b" })
      yield* PgSessionMigrations.verify({ schemaName, tablePrefix: "b" })
    })
  )

  it.effect("a client that renames identifiers changes nothing", () =>
    Effect.gen(function* () {
      const options = { schemaName: yield* newSchema("camelCase "), tablePrefix: "camelCase" }
      const shout = (text: string) => text.toUpperCase()
      yield* onOwnPool(PgSessionMigrations.run(options), { transformQueryNames: shout, transformResultNames: shout })
      yield* PgSessionMigrations.verify(options)
    })
  )

  it.effect("works through statements that are not prepared", () =>
    Effect.gen(function* () {
      const options = { schemaName: yield* newSchema() }
      yield* onOwnPool(PgSessionMigrations.run(options), { prepare: false })
      yield* PgSessionMigrations.verify(options)
    })
  )

  it.effect("a transaction of the caller that is rolled back does not take the tables with it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const options = { schemaName: yield* newSchema() }
      yield* PgSessionMigrations.run(options).pipe(
        Effect.andThen(Effect.fail("rolled back")),
        sql.withTransaction,
        Effect.ignore
      )
      yield* PgSessionMigrations.verify(options)
    })
  )

  it.effect("a server that cannot be reached is not a missing schema", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        onOwnPool(PgSessionMigrations.verify(), {
          url: Redacted.make("postgres://nobody@127.0.0.1:1/none"),
          minConnections: 0
        }).pipe(Effect.catchTag("SqlError", Effect.die))
      )
      assert.strictEqual(error._tag, "SessionStoreUnavailable")
    })
  )
})
