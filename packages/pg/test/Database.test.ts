import { PgClient } from "@effect/sql-pg"
import type { SessionStoreUnavailable } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { inspect } from "node:util"
import type { Statements } from "../src/internal/Database.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import { verifyServer } from "../src/internal/VerifyServer.ts"
import { EmbeddedPostgres, PgBouncer, TcpProxy } from "../src/testing/index.ts"
import { eventually, standby } from "./support/Faults.ts"
import { databaseUrl, TestDatabase } from "./support/TestDatabase.ts"

const names = Names.make("public", "")

const pool = (
  connection: DatabaseLive.ConnectionSettings,
  options: Partial<Omit<Parameters<typeof DatabaseLive.make>[0], "connection">> = {}
) => DatabaseLive.make({ names, ...options, connection })

/** A table of its own, and a client to look around with. */
const setUp = Effect.gen(function* () {
  const { schema } = yield* TestDatabase
  const sql = yield* PgClient.PgClient
  const table = `"${schema}".things`
  yield* sql.unsafe(`create table ${table} (id text primary key, secret text)`)
  return {
    sql,
    table,
    insert: `insert into ${table} (id) values ($1)`,
    /** Inserts after half a second. */
    insertSlowly: `insert into ${table} (id) select $1 from pg_sleep(0.5)`,
    ids: Effect.map(sql.unsafe(`select id from ${table} order by id`).values, (rows) => rows.map(([id]) => id)),
    /** Waits until a statement that contains the text runs. */
    running: (text: string) =>
      eventually(
        Effect.map(
          sql`select pid from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like ${`%${text}%`}`
            .values,
          (rows) => rows.length > 0
        )
      ),
    terminate: (text: string) =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and query like ${`%${text}%`}`
        .values
  }
})

const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, (value) => [value, performance.now() - start] as const)
  })

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | TestDatabase | PgClient.PgClient>) =>
  it.live(name, () => Effect.provide(Effect.scoped(effect), TestDatabase.layer))

const shows = (error: SessionStoreUnavailable) =>
  [
    error.message,
    error.stack,
    String(error),
    JSON.stringify(error),
    inspect(error, { depth: 10, showHidden: true })
  ].join()

describe("Database, sessions of its own pool", () => {
  test(
    "commit durably and see other's commits, whatever the role's defaults are",
    Effect.gen(function* () {
      const { sql } = yield* setUp
      const role = `role_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(sql.unsafe(`create role ${role} login password 'secret'`), () =>
        Effect.ignore(sql.unsafe(`drop role ${role}`))
      )
      yield* sql.unsafe(`alter role ${role} set default_transaction_isolation = 'repeatable read'`)
      yield* sql.unsafe(`alter role ${role} set synchronous_commit = off`)
      const settings = { url: databaseUrl, username: role, password: Redacted.make("secret") }
      const database = yield* pool(settings, { statementTimeout: "2 seconds" })
      const [row] = yield* database.read(
        "look",
        `select current_setting('transaction_isolation'), current_setting('synchronous_commit'),
          current_setting('statement_timeout'), current_setting('application_name')`,
        []
      )
      assert.deepStrictEqual(row, ["read committed", "on", "1800ms", "effect-pg-session"])
      yield* verifyServer(database)

      const shared = yield* DatabaseLive.fromClient(yield* clientOf(settings), { names })
      const refused = yield* Effect.flip(verifyServer(shared))
      assert.strictEqual(refused._tag, "InvalidSessionConfig")
      assert.include(refused.message, "default_transaction_isolation is repeatable read")
    })
  )

  test(
    "are called what the URL says, unless the settings say something else",
    Effect.gen(function* () {
      const url = new URL(Redacted.value(databaseUrl))
      url.searchParams.set("application_name", "shop")
      const connection = { url: Redacted.make(url.href) }
      const name = (settings: DatabaseLive.ConnectionSettings) =>
        Effect.flatMap(pool(settings), (database) =>
          Effect.map(database.read("look", "select current_setting('application_name')", []), ([row]) => row?.[0])
        )
      assert.strictEqual(yield* name(connection), "shop")
      assert.strictEqual(yield* name({ ...connection, startupParameters: { Application_Name: "named" } }), "named")
      assert.strictEqual(yield* name({ ...connection, applicationName: "own" }), "own")
    })
  )

  test(
    "are refused where nothing can be written",
    Effect.gen(function* () {
      const refused = (parameters: Readonly<Record<string, string>>) =>
        Effect.flatMap(pool({ url: databaseUrl, startupParameters: parameters }), (database) =>
          Effect.flip(verifyServer(database))
        )
      assert.include((yield* refused({ synchronous_commit: "off" })).message, "synchronous_commit is off")
      assert.include((yield* refused({ default_transaction_read_only: "on" })).message, "read_only is on")
    })
  )

  it.live("are refused on a standby", () =>
    Effect.gen(function* () {
      const url = yield* standby
      const database = yield* pool({ url })
      const error = yield* Effect.flip(verifyServer(database))
      assert.strictEqual(error._tag, "SessionStoreUnavailable")
      assert.include(error.message, "in recovery")
    })
  )
})

describe("Database and the caller's fiber", () => {
  for (const kind of ["own pool", "the application's client"]) {
    test(
      `a write in a transaction of the application that rolls back is committed (${kind})`,
      Effect.gen(function* () {
        const { ids, insert, sql, table } = yield* setUp
        const database =
          kind === "own pool" ? yield* pool({ url: databaseUrl }) : yield* DatabaseLive.fromClient(sql, { names })
        const outcome = yield* Effect.exit(
          sql.withTransaction(
            Effect.gen(function* () {
              yield* sql.unsafe(`insert into ${table} (id) values ('theirs')`)
              yield* database.write("insert", insert, ["ours"])
              assert.deepStrictEqual(yield* database.read("look", `select id from ${table}`, []), [["ours"]])
              return yield* Effect.fail("rolled back")
            })
          )
        )
        assert.isTrue(Exit.isFailure(outcome))
        assert.deepStrictEqual(yield* ids, ["ours"])
      })
    )
  }

  test(
    "a write from a transaction that holds the application's only connection is refused in time",
    Effect.gen(function* () {
      yield* setUp
      const client = yield* clientOf({ url: databaseUrl, maxConnections: 1 })
      const database = yield* DatabaseLive.fromClient(client, { names, statementTimeout: "300 millis" })
      const [error, millis] = yield* elapsed(
        client.withTransaction(Effect.flip(database.write("insert", "select 1", [])))
      )
      assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
      assert.isBelow(millis, 3_000)
      assert.deepStrictEqual(yield* database.read("look", "select 1", []), [[1]])
    })
  )

  test(
    "an interrupted caller does not cancel a statement that was sent",
    Effect.gen(function* () {
      const { ids, insertSlowly, running } = yield* setUp
      const database = yield* pool({ url: databaseUrl })
      const fiber = yield* Effect.forkChild(database.write("insert", insertSlowly, ["a"]))
      yield* running("pg_sleep(0.5)")
      const [, millis] = yield* elapsed(Fiber.interrupt(fiber))
      assert.isBelow(millis, 3_000)
      yield* eventually(Effect.map(ids, (found) => found.length === 1))
    })
  )

  test(
    "an interrupted caller withdraws a statement that was not sent",
    Effect.gen(function* () {
      const { ids, insert, insertSlowly, running } = yield* setUp
      const database = yield* pool({ url: databaseUrl, maxConnections: 1 })
      const first = yield* Effect.forkChild(database.write("insert", insertSlowly, ["first"]))
      yield* running("pg_sleep(0.5)")
      const second = yield* Effect.forkChild(database.write("insert", insert, ["second"]), { startImmediately: true })
      yield* Fiber.interrupt(second)
      yield* Fiber.join(first)
      yield* database.write("insert", insert, ["third"])
      assert.deepStrictEqual(yield* ids, ["first", "third"])
    })
  )
})

const clientOf = (config: PgClient.PgPoolConfig) =>
  Effect.flatMap(Layer.build(PgClient.layer(config)), (context) => Effect.provide(PgClient.PgClient, context))

describe("Database, limits", () => {
  test(
    "a silent network: the caller has its answer in time, and says what is known",
    Effect.gen(function* () {
      const { ids, insert } = yield* setUp
      const target = new URL(Redacted.value(databaseUrl))
      const proxy = yield* TcpProxy.make({ host: target.hostname, port: Number(target.port) })
      const database = yield* pool({ url: proxy.url(databaseUrl) }, { statementTimeout: "400 millis" })
      yield* database.write("insert", insert, ["before"])
      yield* proxy.pause
      const [write, writeMillis] = yield* elapsed(Effect.flip(database.write("insert", insert, ["during"])))
      assert.deepInclude(write, { reason: "Timeout", outcome: "Unknown", operation: "insert" })
      assert.isAtLeast(writeMillis, 390)
      assert.isBelow(writeMillis, 3_000)
      const [read, readMillis] = yield* elapsed(Effect.flip(database.read("look", "select 1", [])))
      assert.deepInclude(read, { reason: "Timeout", outcome: "NotApplied" })
      assert.isBelow(readMillis, 3_000)
      yield* proxy.resume
      yield* eventually(
        Effect.map(Effect.result(database.write("insert", insert, ["after"])), (result) => result._tag === "Success")
      )
      assert.include(yield* ids, "after")
    })
  )

  test(
    "answers that never arrive: a write that was applied is unknown, and not sent again",
    Effect.gen(function* () {
      const { ids, insert } = yield* setUp
      const target = new URL(Redacted.value(databaseUrl))
      const proxy = yield* TcpProxy.make({ host: target.hostname, port: Number(target.port) })
      const database = yield* pool({ url: proxy.url(databaseUrl) }, { statementTimeout: "300 millis" })
      yield* database.read("look", "select 1", [])
      yield* proxy.pauseAnswers
      const error = yield* Effect.flip(database.write("insert", insert, ["a"]))
      assert.deepInclude(error, { reason: "Timeout", outcome: "Unknown" })
      yield* eventually(Effect.map(ids, (found) => found.length === 1))
    })
  )

  test(
    "a pool without a free connection: bounded, and nothing is applied later",
    Effect.gen(function* () {
      const { ids, insert } = yield* setUp
      const client = yield* clientOf({ url: databaseUrl, maxConnections: 1 })
      const database = yield* DatabaseLive.fromClient(client, { names, statementTimeout: "200 millis" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* client.reserve
          const [errors, millis] = yield* elapsed(
            Effect.forEach([1, 2, 3], (id) => Effect.flip(database.write("insert", insert, [String(id)])), {
              concurrency: "unbounded"
            })
          )
          assert.isBelow(millis, 3_000)
          for (const error of errors) {
            assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
            assert.include(error.detail, "no connection")
          }
        })
      )
      yield* database.read("look", "select 1", [])
      assert.deepStrictEqual(yield* ids, [])
    })
  )

  test(
    "a slow statement is ended by the server before its caller gives up, so that it is known",
    Effect.gen(function* () {
      const { ids, insertSlowly } = yield* setUp
      const database = yield* pool({ url: databaseUrl }, { statementTimeout: "400 millis" })
      const error = yield* Effect.flip(database.write("insert", insertSlowly, ["a"]))
      assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
      assert.include(error.detail, "57014")
      assert.deepStrictEqual(yield* ids, [])
    })
  )

  test(
    "more statements than allowed are refused at once",
    Effect.gen(function* () {
      const { insertSlowly, running } = yield* setUp
      const database = yield* pool({ url: databaseUrl, maxConnections: 1 }, { maxPending: 2 })
      const fibers = yield* Effect.forEach(["a", "b"], (id) =>
        Effect.forkChild(database.write("insert", insertSlowly, [id]), { startImmediately: true })
      )
      yield* running("pg_sleep(0.5)")
      const error = yield* Effect.flip(database.read("insert", "select 1", []))
      assert.deepInclude(error, { reason: "Overloaded", outcome: "NotApplied" })
      // Another operation waits for its turn.
      assert.deepStrictEqual(yield* database.read("look", "select 1", []), [[1]])
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(yield* database.read("insert", "select 1", []), [[1]])
    })
  )

  test(
    "closing waits for what was sent, refuses what was not, and everything afterwards",
    Effect.gen(function* () {
      const { ids, insert, insertSlowly, running } = yield* setUp
      const scope = yield* Scope.make()
      const database = yield* Scope.provide(pool({ url: databaseUrl, maxConnections: 1 }), scope)
      const sent = yield* Effect.forkChild(database.write("insert", insertSlowly, ["sent"]))
      yield* running("pg_sleep(0.5)")
      const waiting = yield* Effect.forkChild(Effect.flip(database.write("insert", insert, ["waiting"])), {
        startImmediately: true
      })
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(sent)
      assert.deepInclude(yield* Fiber.join(waiting), { reason: "Closed", outcome: "NotApplied" })
      assert.deepInclude(yield* Effect.flip(database.read("look", "select 1", [])), { reason: "Closed" })
      assert.deepStrictEqual(yield* ids, ["sent"])
    })
  )

  test(
    "a client that the application has closed",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(clientOf({ url: databaseUrl }), scope)
      const database = yield* DatabaseLive.fromClient(client, { names })
      yield* Scope.close(scope, Exit.void)
      assert.deepInclude(yield* Effect.flip(database.write("insert", "select 1", [])), {
        reason: "Closed",
        outcome: "NotApplied"
      })
    })
  )
})

describe("Database, lost connections", () => {
  test(
    "a read is sent again once",
    Effect.gen(function* () {
      const { running, terminate } = yield* setUp
      const database = yield* pool({ url: databaseUrl })
      const fiber = yield* Effect.forkChild(database.read("look", "select 'retried', pg_sleep(0.5)::text", []))
      yield* running("retried")
      yield* terminate("retried")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [["retried", ""]])
    })
  )

  test(
    "a write is not, and its outcome is unknown",
    Effect.gen(function* () {
      const { ids, insert, insertSlowly, running, terminate } = yield* setUp
      const database = yield* pool({ url: databaseUrl })
      const fiber = yield* Effect.forkChild(Effect.flip(database.write("insert", insertSlowly, ["a"])))
      yield* running("pg_sleep(0.5)")
      yield* terminate("pg_sleep(0.5)")
      assert.deepInclude(yield* Fiber.join(fiber), { reason: "Unreachable", outcome: "Unknown" })
      assert.deepStrictEqual(yield* ids, [])
      yield* database.write("insert", insert, ["b"])
      assert.deepStrictEqual(yield* ids, ["b"])
    })
  )

  test(
    "connections that ended while they were idle are replaced",
    Effect.gen(function* () {
      const { ids, insert, sql } = yield* setUp
      const database = yield* pool({ url: databaseUrl, maxConnections: 4, applicationName: "idle" })
      const backends = sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'idle'`
        .values
      yield* Effect.replicateEffect(database.read("look", "select pg_sleep(0.2)::text", []), 4, { concurrency: 4 })
      assert.isAtLeast((yield* backends).length, 2)
      yield* eventually(Effect.map(backends, (rows) => rows.length === 0))
      // What the kernel has to say of the closed sockets is read before this is answered by a new backend.
      yield* database.read("look", "select 1", [])
      yield* Effect.forEach(["a", "b", "c", "d"], (id) => database.write("insert", insert, [id]), { concurrency: 4 })
      assert.deepStrictEqual(yield* ids, ["a", "b", "c", "d"])
    })
  )

  it.live("a server that is stopped, killed and started again is used again", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const database = yield* pool({ url: postgres.url })
      const write = database.write("insert", "select 1", [])
      yield* write
      for (const end of [postgres.stop, postgres.kill]) {
        yield* end
        assert.deepInclude(yield* Effect.flip(write), { reason: "Unreachable", outcome: "NotApplied" })
        yield* postgres.start
        yield* write
      }
    })
  )
})

describe("Database, outcomes", () => {
  test(
    "under resets, ended backends, pauses and timeouts, what was acknowledged is there and what is said not to be is not",
    Effect.gen(function* () {
      const { sql, table } = yield* setUp
      const target = new URL(Redacted.value(databaseUrl))
      const proxy = yield* TcpProxy.make({ host: target.hostname, port: Number(target.port) })
      const url = proxy.url(databaseUrl)
      const own = yield* pool({ url, maxConnections: 6, applicationName: "chaos" }, { statementTimeout: "200 millis" })
      const client = yield* clientOf({ url, maxConnections: 6, applicationName: "chaos" })
      const shared = yield* DatabaseLive.fromClient(client, { names, statementTimeout: "200 millis" })
      const slowly = `insert into ${table} (id) select $1 from pg_sleep(random() * 0.25)`
      const quickly = `insert into ${table} (id) values ($1)`
      const acknowledged = new Set<string>()
      const notApplied = new Set<string>()
      const unknown = new Set<string>()
      let count = 0
      const writer = (database: Statements) =>
        Effect.gen(function* () {
          const id = `id ${++count}`
          const result = yield* Effect.result(database.write("insert", Math.random() < 0.2 ? slowly : quickly, [id]))
          if (result._tag === "Success") acknowledged.add(id)
          else if (result.failure.outcome === "Unknown") unknown.add(id)
          else {
            notApplied.add(id)
            assert.notInclude(result.failure.detail, "23505")
          }
        })
      const faults: ReadonlyArray<Effect.Effect<void, unknown>> = [
        proxy.reset,
        Effect.asVoid(
          sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'chaos'`.values
        ),
        Effect.andThen(proxy.pause, Effect.andThen(Effect.sleep("100 millis"), proxy.resume)),
        Effect.andThen(proxy.refuse, Effect.andThen(Effect.sleep("20 millis"), proxy.accept))
      ]
      const chaos = Effect.forEach(
        Array.from({ length: 40 }, (_, index) => index),
        (index) => Effect.andThen(Effect.sleep("50 millis"), faults[index % faults.length] ?? Effect.void),
        { discard: true }
      )
      yield* Effect.raceFirst(
        chaos,
        Effect.forEach(
          [own, own, own, own, shared, shared, shared, shared],
          (database) => Effect.forever(Effect.andThen(writer(database), Effect.yieldNow)),
          { concurrency: "unbounded" }
        )
      )
      // Statements whose callers gave up may still run.
      yield* Effect.forEach([own, shared], (database) =>
        eventually(
          Effect.map(Effect.result(database.write("insert", quickly, [`end ${++count}`])), (_) => _._tag === "Success")
        )
      )
      yield* eventually(
        Effect.map(
          sql`select 1 from pg_stat_activity where application_name = 'chaos' and state = 'active'`.values,
          (rows) => rows.length === 0
        )
      )
      const rows = new Set((yield* sql.unsafe(`select id from ${table}`).values).map(([id]) => String(id)))
      assert.deepStrictEqual(
        [...acknowledged].filter((id) => !rows.has(id)),
        []
      )
      assert.deepStrictEqual(
        [...notApplied].filter((id) => rows.has(id)),
        []
      )
      assert.isAbove(acknowledged.size, 50)
      assert.isAbove(notApplied.size, 0)
      assert.isAbove(unknown.size, 0)
    })
  )
})

describe("Database, what errors tell", () => {
  const secret = "hunter2-hunter2"

  test(
    "neither rows nor parameters",
    Effect.gen(function* () {
      const { insert, table } = yield* setUp
      const database = yield* pool({ url: databaseUrl })
      yield* database.write("insert", insert, [secret])
      const errors: Array<SessionStoreUnavailable> = []
      for (const [statement, parameters] of [
        [insert, [secret]],
        [`insert into ${table} values ('x', $1), (null, $1)`, [secret]],
        ["select $1::int8::text", [secret]],
        ["select $1::jsonb::text", [`{"a": ${secret}`]],
        ["select $1::timestamptz::text", [secret]]
      ] as const) {
        errors.push(yield* Effect.flip(database.write("insert", statement, parameters)))
      }
      for (const error of errors) {
        assert.deepInclude(error, { reason: "DatabaseError", outcome: "NotApplied" })
        assert.notInclude(shows(error), secret)
      }
      assert.match(errors[0]?.detail ?? "", /^23505 duplicate key value violates unique constraint "things_pkey"$/)
      assert.match(errors[2]?.detail ?? "", /^22P02 /)
    })
  )

  test(
    "neither the URL nor the password",
    Effect.gen(function* () {
      const { host, port } = yield* TcpProxy.make({ host: "127.0.0.1", port: 1 })
      const correct = new URL(Redacted.value(databaseUrl))
      for (const [url, detail] of [
        [`postgres://alice:${secret}@127.0.0.1:1/app`, /ECONNREFUSED/],
        [`postgres://alice:${secret}@${host}:${port}/app`, /./],
        [`postgres://nobody_here:${secret}@${correct.host}/postgres`, /^28(?:P01|000) /],
        [`postgres://alice:${secret}@[nonsense:/app`, /Invalid connection URL/],
        [`mysql://alice:${secret}@${correct.host}/app`, /Unsupported connection URL/]
      ] as const) {
        const database = yield* pool({ url: Redacted.make(url) })
        const error = yield* Effect.flip(database.write("insert", "select 1", []))
        assert.deepInclude(error, { reason: "Unreachable", outcome: "NotApplied" })
        assert.match(error.detail, detail)
        assert.notInclude(shows(error), secret)
      }
    })
  )

  test(
    "a password provider that dies is no connection, not a defect",
    Effect.gen(function* () {
      const url = new URL(Redacted.value(databaseUrl))
      url.password = ""
      const password = Effect.die(new Error(secret))
      const database = yield* pool({ url: Redacted.make(url.href), password })
      const error = yield* Effect.flip(database.write("insert", "select 1", []))
      assert.deepInclude(error, { reason: "Unreachable", outcome: "NotApplied" })
      assert.notInclude(shows(error), secret)
    })
  )
})

describe.skipIf(!PgBouncer.available)("Database behind PgBouncer in transaction mode", () => {
  test(
    "works with prepare: false, and says so without it",
    Effect.gen(function* () {
      const { ids, insert } = yield* setUp
      const bouncer = yield* PgBouncer.make(databaseUrl)
      const database = yield* pool({ url: bouncer.url, prepare: false })
      yield* verifyServer(database)
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, index) => `id ${index}`),
        (id) => database.write("insert", insert, [id]),
        { concurrency: "unbounded" }
      )
      assert.strictEqual((yield* ids).length, 40)

      const naive: Statements = yield* pool({ url: bouncer.url })
      const error = yield* Effect.flip(naive.read("look", "select 1", []))
      assert.deepInclude(error, { reason: "Unreachable" })
      assert.include(error.message, "set prepare to false")
    })
  )
})
