/** The layers as an application uses them: where settings come from, what a start refuses, and what a running layer survives. */
import { Session, type SessionLocks, type SessionStore } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { randomBytes } from "node:crypto"
import * as Names from "../src/internal/Names.ts"
import { PgSession, type PgSessionError, PgSessionLive } from "../src/PgSession.ts"
import { EmbeddedPostgres, PgBouncer } from "../src/testing/index.ts"
import { eventually, standby } from "./support/Faults.ts"
import { alice, build, elapsed, lookAround, type Node, node, Note, proxyTo, quiet, test } from "./support/Nodes.ts"
import * as Observed from "./support/Observed.ts"
import { databaseUrl, TestDatabase } from "./support/TestDatabase.ts"

/** Everything works: writes, reads from memory and from the database, locks. */
const works = Effect.fnUntraced(function* (sessions: Node) {
  const session = yield* sessions.create(alice)
  const saved = yield* sessions.update(Session.set(session, Note, "works"))
  assert.strictEqual(yield* Session.get(yield* sessions.get(saved.id), Note), "works")
  assert.strictEqual(yield* Session.get(yield* sessions.get(saved.id, { refresh: true }), Note), "works")
  yield* sessions.locks.withLock("works", (fence) => sessions.update(Session.set(saved, Note, "locked"), { fence }), {
    session: saved
  })
  yield* sessions.delete(saved.id)
  assert.isTrue(Option.isNone(yield* sessions.find(saved.id)))
})

const synced = (sessions: Node) => eventually(Effect.map(sessions.health, (health) => health.synced))

const withEnvironment = <E, R>(layer: Layer.Layer<SessionStore | SessionLocks, E, R>, env: Record<string, string>) =>
  layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env))))

describe("settings", () => {
  test(
    "from code",
    Effect.gen(function* () {
      const a = yield* node({ cacheCapacity: 7 })
      yield* works(a)
      const { cache, listener, synced } = yield* a.health
      assert.strictEqual(cache.capacity, 7)
      assert.isTrue(synced)
      assert.strictEqual(listener.state, "Listening")
      assert.isTrue(Option.isNone(listener.problem))
    })
  )

  test(
    "from the environment",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const { number } = yield* lookAround
      const env = {
        DATABASE_URL: Redacted.value(url),
        SESSION_SCHEMA_NAME: schema,
        SESSION_TABLE_PREFIX: "app_",
        SESSION_CACHE_CAPACITY: "11",
        SESSION_IDLE_TIMEOUT: "30 minutes",
        SESSION_MAX_CONNECTIONS: "2",
        SESSION_PREPARE: "false",
        SESSION_LISTEN_URL: Redacted.value(url)
      }
      const a = yield* build(withEnvironment(PgSessionLive, env))
      yield* works(a)
      assert.strictEqual((yield* a.health).cache.capacity, 11)
      assert.deepStrictEqual((yield* a.create(alice)).idleTimeout, Duration.minutes(30))
      assert.strictEqual(yield* number(`select count(*)::int from "${schema}".app_sessions`), 1)
      expectTypeOf(PgSessionLive).toEqualTypeOf<
        Layer.Layer<SessionStore | SessionLocks, PgSessionError | Config.ConfigError>
      >()
    })
  )

  test(
    "from a Config of one's own",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const layer = PgSession.layerConfig({
        url: Config.Redacted("PG"),
        schemaName: Config.String("SCHEMA"),
        cacheCapacity: Config.Int("SIZE")
      })
      const a = yield* build(withEnvironment(layer, { PG: Redacted.value(url), SCHEMA: schema, SIZE: "13" }))
      yield* works(a)
      assert.strictEqual((yield* a.health).cache.capacity, 13)
      const missing = yield* Effect.flip(build(withEnvironment(layer, { SCHEMA: schema, SIZE: "13" })))
      assert.strictEqual(missing._tag, "ConfigError")
      assert.include(String(missing), "PG")
    })
  )

  test(
    "from the client that the application has, whose transactions it does not join",
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const { number, sql } = yield* lookAround
      const a = yield* build(PgSession.layerFromClient({ schemaName: schema }))
      yield* works(a)
      yield* synced(a)
      yield* Effect.exit(sql.withTransaction(Effect.andThen(a.create(alice), Effect.fail("rolled back"))))
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), 1)
    })
  )

  it.live("that are wrong are named, with their value and range, before anything is touched", () =>
    Effect.gen(function* () {
      const nowhere = Redacted.make("postgres://127.0.0.1:1/x")
      const wrong: ReadonlyArray<readonly [PgSessionOptionsOf, string, string]> = [
        [{ schemaName: "" }, "schemaName", "1 to 63 bytes"],
        [{ schemaName: "pg_mine" }, "schemaName", '"pg_mine"'],
        [{ schemaName: "x".repeat(64) }, "schemaName", "63"],
        [{ schemaName: "a\u0000" }, "schemaName", "NUL"],
        [{ tablePrefix: "x".repeat(60) }, "tablePrefix", "bytes"],
        [{ maxConnections: 0 }, "maxConnections", "1 to 1000"],
        [{ minConnections: 11 }, "minConnections", "at most maxConnections (10)"],
        [{ connectionTTL: "1 millis" }, "connectionTTL", "1s"],
        [{ connectionIdleTimeout: 0 }, "connectionIdleTimeout", "1s"],
        [{ maxStaleness: "1 hour" }, "maxStaleness", "10m"],
        [{ cacheCapacity: -1 }, "cacheCapacity", "1 to 10000000"]
      ]
      for (const [options, setting, text] of wrong) {
        const [error, millis] = yield* elapsed(Effect.flip(build(PgSession.layer({ url: nowhere, ...options }))))
        assert.strictEqual(error._tag, "InvalidSessionConfig")
        assert.include(error.message, `The setting ${setting} is `)
        assert.include(error.message, text)
        assert.isBelow(millis, 500)
      }
      const variables = [
        ["SESSION_MIGRATIONS", "migrate", "migrations"],
        ["SESSION_MAX_CONNECTIONS", "many", "maxConnections"],
        ["SESSION_PREPARE", "no", "prepare"],
        ["SESSION_CONNECTION_TTL", "1", "connectionTTL"],
        ["SESSION_SCHEMA_NAME", "pg_x", "schemaName"],
        ["SESSION_STATEMENT_TIMEOUT", "0 seconds", "statementTimeout"]
      ] as const
      for (const [name, value, setting] of variables) {
        const env = { DATABASE_URL: Redacted.value(nowhere), [name]: value }
        const error = yield* Effect.flip(build(withEnvironment(PgSessionLive, env)))
        assert.strictEqual(error._tag, "InvalidSessionConfig")
        assert.include(error.message, `The setting ${setting} is "${value}"`)
      }
      const unset = yield* Effect.flip(build(withEnvironment(PgSessionLive, {})))
      assert.include(String(unset), "DATABASE_URL")
    })
  )
})

type PgSessionOptionsOf = Parameters<typeof PgSession.layer>[0]

describe("schemas", () => {
  test(
    "with quotes and worse in their names",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      for (const schemaName of [
        `it's "quoted" ${randomBytes(4).toString("hex")}`,
        `$session$ \\ ; -- ${randomBytes(4).toString("hex")}`
      ]) {
        const names = Names.make(schemaName, "")
        yield* Effect.acquireRelease(Effect.void, () =>
          Effect.ignore(sql.unsafe(`drop schema if exists ${names.schema} cascade`))
        )
        const a = yield* node({ schemaName, tablePrefix: "p\"'." })
        const b = yield* node({ schemaName, tablePrefix: "p\"'." })
        yield* works(a)
        // The channel's name has them, too.
        const session = yield* a.create(alice)
        yield* b.get(session.id, quiet)
        yield* a.update(Session.set(session, Note, "heard"))
        yield* eventually(Effect.map(b.get(session.id, quiet), ({ version }) => version === 2n))
        assert.isTrue((yield* b.health).synced)
      }
    })
  )

  test(
    "that exist are enough for a role that may not create anything",
    Effect.gen(function* () {
      const { names, sql } = yield* lookAround
      const role = `role_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(sql.unsafe(`create role ${role} login password 'secret'`), () =>
        Effect.ignore(sql.unsafe(`drop owned by ${role}; drop role ${role}`))
      )
      const url = new URL(Redacted.value(databaseUrl))
      url.username = role
      url.password = "secret"
      const as = { url: Redacted.make(url.href) }
      yield* sql.unsafe(`grant usage on schema ${names.schema} to ${role}`)
      for (const migrations of ["verify", "run"] as const) {
        const missing = yield* Effect.flip(node({ ...as, migrations }))
        assert.strictEqual(missing._tag, "SessionSchemaMissing", missing.message)
        assert.include(missing.message, '"sessions"')
        assert.include(missing.message, "docs/schema.sql")
      }
      const owner = yield* node()
      yield* owner.close
      yield* sql.unsafe(`grant select, insert, update, delete on all tables in schema ${names.schema} to ${role}`)
      yield* sql.unsafe(`grant usage on all sequences in schema ${names.schema} to ${role}`)
      for (const migrations of ["verify", "run", "skip"] as const) {
        const a = yield* node({ ...as, migrations })
        yield* works(a)
        yield* synced(a)
        yield* a.close
      }
    })
  )

  test(
    "are created once by nodes that start at once",
    Effect.gen(function* () {
      const nodes = yield* Effect.forEach(Array.from({ length: 5 }), () => node({ maxConnections: 2 }), {
        concurrency: "unbounded"
      })
      yield* Effect.forEach(nodes, works, { concurrency: "unbounded" })
    })
  )
})

describe("PostgreSQL that is not there", () => {
  it.live("at the start: a typed error, in bounded time, for refusal, silence and wrong credentials", () =>
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const silent = proxy.url(databaseUrl)
      yield* proxy.pause
      const wrong = new URL(Redacted.value(databaseUrl))
      wrong.password = "wrong"
      const unknown = new URL(Redacted.value(databaseUrl))
      unknown.pathname = "/no_such_database"
      const urls = [
        [Redacted.make("postgres://u:p@127.0.0.1:1/x"), "ECONNREFUSED"],
        [silent, ""],
        [Redacted.make(wrong.href), "28P01"],
        [Redacted.make(unknown.href), "3D000"],
        [Redacted.make("postgres://u:p@no-such-host.invalid/x"), ""]
      ] as const
      for (const [url, text] of urls) {
        const [error, millis] = yield* elapsed(
          Effect.flip(build(PgSession.layer({ url, statementTimeout: "1 second" })))
        )
        assert.strictEqual(error._tag, "SessionStoreUnavailable")
        assert.include(error.message, text)
        assert.isBelow(millis, 9_000)
      }
    })
  )

  test(
    "in the middle, refused or silent: reads fail typed and in time, and go on without a restart",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ url: proxy.url(databaseUrl), statementTimeout: "500 millis", maxStaleness: "500 millis" })
      const session = yield* a.create(alice)
      const faults = [
        ["refused", Effect.andThen(proxy.refuse, proxy.reset), proxy.accept],
        ["silent", proxy.pause, proxy.resume],
        ["silent, then reset", proxy.pause, Effect.andThen(proxy.reset, proxy.resume)]
      ] as const
      for (const [name, begin, end] of faults) {
        yield* synced(a)
        yield* a.get(session.id)
        yield* begin
        yield* eventually(Effect.map(a.health, (health) => !health.synced))
        for (const attempt of [
          a.get(session.id),
          a.find(session.id),
          a.update(Session.set(session, Note, "x"), { check: "none" })
        ]) {
          const [error, millis] = yield* elapsed(Effect.flip<unknown, unknown, never>(attempt))
          assert.deepInclude(error, { _tag: "SessionStoreUnavailable" }, name)
          assert.isBelow(millis, 1_200, name)
        }
        const { listener } = yield* a.health
        assert.isTrue(Option.isSome(listener.problem), name)
        yield* end
        yield* eventually(Effect.map(Effect.exit(a.get(session.id)), Exit.isSuccess))
        yield* synced(a)
        yield* works(a)
        yield* eventually(Effect.map(a.health, (health) => Option.isNone(health.listener.problem)))
      }
    }),
    60_000
  )

  it.live("and comes back as another process, and as an empty one", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const a = yield* build(
        PgSession.layer({ url: postgres.url, statementTimeout: "1 second", maxStaleness: "500 millis" })
      )
      const session = yield* a.create(alice)
      yield* postgres.stop
      const error = yield* Effect.flip(a.get(session.id, { refresh: true }))
      assert.deepInclude(error, { reason: "Unreachable", outcome: "NotApplied" })
      yield* postgres.start
      yield* eventually(Effect.map(Effect.exit(a.get(session.id)), Exit.isSuccess))
      yield* synced(a)
      yield* works(a)
    })
  )
})

describe("listeners", () => {
  it.live("that reach another server than the queries are refused at the start", () =>
    Effect.gen(function* () {
      const other = yield* EmbeddedPostgres.make()
      const error = yield* Effect.flip(
        build(PgSession.layer({ url: databaseUrl, schemaName: "other_server", listenUrl: other.url })).pipe(
          Effect.ensuring(dropSchema("other_server"))
        )
      )
      assert.strictEqual(error._tag, "InvalidSessionConfig")
      assert.include(error.message, "listenUrl")
      assert.include(error.message, "another server")
    })
  )

  test(
    "that cannot connect do not prevent the start: reads stay correct, health and log say what is wrong",
    Effect.gen(function* () {
      const observed = Observed.make()
      const a = yield* observed.observe(
        node({ listenUrl: Redacted.make("postgres://u:p@127.0.0.1:1/x"), maxStaleness: "1 second" })
      )
      yield* correct(a)
      const { listener, synced } = yield* a.health
      assert.isFalse(synced)
      assert.include(
        Option.getOrElse(listener.problem, () => ""),
        "ECONNREFUSED"
      )
      assert.include(observed.text(), "Sessions are read from the database until this is repaired")
    })
  )

  it.live("on a standby: refused for queries, and noticed for the listener", () =>
    Effect.gen(function* () {
      const url = yield* standby
      const refused = yield* Effect.flip(build(PgSession.layer({ url })))
      assert.strictEqual(refused._tag, "SessionStoreUnavailable")
      assert.include(refused.message, "standby")
      const schemaName = `standby_${randomBytes(4).toString("hex")}`
      const observed = Observed.make()
      const a = yield* observed.observe(
        build(PgSession.layer({ url: databaseUrl, schemaName, listenUrl: url, maxStaleness: "1 second" }))
      )
      yield* Effect.addFinalizer(() => dropSchema(schemaName))
      yield* correct(a)
      yield* eventually(Effect.map(a.health, ({ listener }) => Option.isSome(listener.problem)))
      assert.include(
        Option.getOrElse((yield* a.health).listener.problem, () => ""),
        "point the url or listenUrl to the primary"
      )
      assert.include(observed.text(), "point the url or listenUrl to the primary")
    })
  )
})

/** Drops a schema that a test has made beside its own. */
const dropSchema = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql`drop schema if exists ${sql(schema)} cascade`).pipe(
    Effect.provide(PgClient.layer({ url: databaseUrl, maxConnections: 1 })),
    Effect.ignore
  )

/** What is read is what stands, though nothing may come from memory. */
const correct = Effect.fnUntraced(function* (a: Node) {
  const session = yield* a.create(alice)
  for (let n = 0; n < 20; n++) {
    yield* a.modify(session.id, Session.set(Note, `note ${n}`))
    assert.strictEqual(yield* Session.get(yield* a.get(session.id), Note), `note ${n}`)
  }
})

describe.skipIf(!PgBouncer.available)(
  "PgBouncer in transaction mode (skipped where the program pgbouncer is not installed)",
  () => {
    it.live("without listenUrl: noticed within a beat, said, and reads stay correct", () =>
      Effect.gen(function* () {
        const pooler = yield* PgBouncer.make(databaseUrl)
        const schemaName = `pooled_${randomBytes(4).toString("hex")}`
        yield* Effect.addFinalizer(() => dropSchema(schemaName))
        const observed = Observed.make()
        const options = { schemaName, maxStaleness: "1 second" } as const
        const a = yield* observed.observe(build(PgSession.layer({ ...options, url: pooler.url, prepare: false })))
        const b = yield* build(PgSession.layer({ ...options, url: databaseUrl }))
        assert.isFalse((yield* a.health).synced)
        yield* eventually(Effect.map(a.health, ({ listener }) => Option.isSome(listener.problem)))
        assert.include(
          Option.getOrElse((yield* a.health).listener.problem, () => ""),
          "listenUrl"
        )
        assert.include(observed.text(), "pooler")
        yield* correct(a)
        // What another node does is seen at once, because nothing is read from memory.
        const session = yield* b.create(alice)
        for (let n = 0; n < 20; n++) {
          yield* b.modify(session.id, Session.set(Note, `note ${n}`))
          assert.strictEqual(yield* Session.get(yield* a.get(session.id), Note), `note ${n}`)
        }
      })
    )

    it.live("with listenUrl locks exclude, wake those who wait, keep their order and fence", () =>
      Effect.gen(function* () {
        const pooler = yield* PgBouncer.make(databaseUrl, { poolSize: 3 })
        const schemaName = `pooled_${randomBytes(4).toString("hex")}`
        yield* Effect.addFinalizer(() => dropSchema(schemaName))
        const options = { schemaName, url: pooler.url, prepare: false, listenUrl: databaseUrl } as const
        const a = yield* build(PgSession.layer(options))
        const b = yield* build(PgSession.layer(options))
        yield* synced(a)
        yield* synced(b)
        const session = yield* a.create(alice)
        const late = yield* a.locks.acquire("job", { leaseTime: "1 hour", heartbeatInterval: "20 millis" })
        const order: Array<number> = []
        let holders = 0
        const work = (n: number) =>
          Effect.gen(function* () {
            assert.strictEqual(++holders, 1)
            order.push(n)
            yield* Effect.sleep(2)
            holders--
          })
        const waiters = yield* Effect.forEach(Array.from({ length: 20 }), (_, n) =>
          Effect.forkChild(
            b.locks.withLock("job", () => work(n), { wait: "forever" }),
            { startImmediately: true }
          )
        )
        yield* eventually(Effect.map(b.locks.health, ({ waiting }) => waiting === 20))
        yield* late.release
        for (const waiter of waiters) yield* Fiber.join(waiter)
        assert.deepStrictEqual(
          order,
          waiters.map((_, n) => n)
        )
        const error = yield* Effect.flip(a.update(Session.set(session, Note, "late"), { fence: late }))
        assert.strictEqual(error._tag, "Fenced")
        yield* b.locks.withLock("job", (fence) => b.update(Session.set(session, Note, "in time"), { fence }))
      })
    )

    it.live("with listenUrl everything works", () =>
      Effect.gen(function* () {
        const pooler = yield* PgBouncer.make(databaseUrl, { poolSize: 3 })
        const schemaName = `pooled_${randomBytes(4).toString("hex")}`
        yield* Effect.addFinalizer(() => dropSchema(schemaName))
        const options = {
          schemaName,
          url: pooler.url,
          prepare: false,
          listenUrl: databaseUrl,
          maxSessionsPerUser: 50
        } as const
        const a = yield* build(PgSession.layer(options))
        const b = yield* build(PgSession.layer(options))
        yield* synced(a)
        yield* synced(b)
        yield* works(a)
        const session = yield* a.create(alice)
        yield* Effect.forEach(
          Array.from({ length: 60 }),
          (_, n) =>
            (n % 2 === 0 ? a : b).modify(
              session.id,
              Session.modify(Note, (note) => `${note}.`)
            ),
          { concurrency: 20 }
        )
        assert.strictEqual((yield* Session.get(yield* b.get(session.id, { refresh: true }), Note)).length, 60)
        yield* b.get(session.id, quiet)
        yield* a.delete(session.id)
        yield* eventually(Effect.map(b.find(session.id, quiet), Option.isNone))
        assert.strictEqual((yield* a.health).listener.reconnects, 0)
      })
    )
  }
)

describe("locks", () => {
  test(
    "hear of a release by another node, long before they would ask again",
    Effect.gen(function* () {
      const a = yield* node()
      const b = yield* node()
      yield* synced(b)
      const lease = yield* a.locks.acquire("job", { leaseTime: "1 hour" })
      assert.strictEqual((yield* Effect.flip(Effect.scoped(b.locks.tryAcquire("job"))))._tag, "LockAlreadyHeld")
      const waiting = yield* Effect.forkChild(b.locks.acquire("job", { wait: "forever" }), { startImmediately: true })
      yield* eventually(Effect.map(b.locks.health, (health) => health.waiting === 1))
      yield* lease.release
      assert.isTrue((yield* Fiber.join(waiting)).token > lease.token)
    })
  )

  test(
    "are released when the layer is closed: after the store has written its last accesses, before connections close",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const a = yield* node({ lastAccessFlushInterval: "1 hour" })
      const b = yield* node()
      const session = yield* a.create(alice)
      yield* Effect.sleep(20)
      yield* a.get(session.id)
      yield* a.locks.acquire("job", { leaseTime: "1 hour" })
      const observed = Observed.make()
      yield* observed.observe(a.close)
      const written = observed.text().indexOf("record last accesses")
      assert.isAtLeast(written, 0)
      assert.isAbove(observed.text().indexOf("release the lock"), written)
      assert.strictEqual(yield* number("select count(*)::int from @sessions where last_accessed_at > created_at"), 1)
      yield* b.locks.tryAcquire("job")
    })
  )
})

describe("rows of locks", () => {
  test(
    "do not grow in number with the names that were ever used: a node removes what has been unused for a day",
    Effect.gen(function* () {
      const { number, query } = yield* lookAround
      const count = number("select count(*)::int from @locks")
      const a = yield* node()
      yield* Effect.forEach(Array.from({ length: 100 }), (_, n) => a.locks.withLock(`name ${n}`, () => Effect.void), {
        concurrency: 10
      })
      yield* a.locks.acquire("held", { leaseTime: "1 hour" })
      // More than one statement removes.
      yield* query("insert into @locks (name, ends) select 'g.old ' || n, array[now()] from generate_series(1, 2500) n")
      yield* query("update @locks set ends = array[now() - interval '1 day'] where name <> 'g.held'")
      yield* a.locks.withLock("name 7", () => Effect.void)
      assert.strictEqual(yield* count, 2_601)
      yield* node()
      yield* eventually(Effect.map(count, (rows) => rows === 2))
    })
  )
})

describe("limits", () => {
  test(
    "no free connection: an answer in time, nothing is applied later, and it goes on afterwards",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const context = yield* Layer.build(PgClient.layer({ url, maxConnections: 2 }))
      const a = yield* build(
        PgSession.layerFromClient({ schemaName: schema, statementTimeout: "400 millis" }).pipe(
          Layer.provide(Layer.succeedContext(context))
        )
      )
      const client = yield* Effect.provide(PgClient.PgClient, context)
      const session = yield* a.create(alice)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* client.reserve
          yield* client.reserve
          const attempts = yield* Effect.forEach(
            Array.from({ length: 50 }),
            () => elapsed(Effect.flip(a.create(alice))),
            { concurrency: "unbounded" }
          )
          for (const [error, millis] of attempts) {
            assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
            assert.isBelow(millis, 1_200)
          }
        })
      )
      yield* eventually(Effect.map(Effect.exit(a.get(session.id, { refresh: true })), Exit.isSuccess))
      assert.lengthOf(yield* a.listForUser(alice), 1)
    })
  )

  test(
    "a row that somebody holds: the update is refused in time and not applied; others are not held up",
    Effect.gen(function* () {
      const { names, sql } = yield* lookAround
      const a = yield* node({ statementTimeout: "500 millis" })
      const held = yield* a.create(alice)
      const free = yield* a.create(alice)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql.unsafe(`select 1 from ${names.sessions} where key = $1 for update`, [held.key])
          const waiting = yield* Effect.forkChild(elapsed(Effect.flip(a.update(Session.set(held, Note, "x")))), {
            startImmediately: true
          })
          assert.isTrue(Option.isSome(yield* a.find(free.id, { refresh: true })))
          assert.isTrue(Option.isSome(yield* a.find(held.id, { refresh: true })), "reads wait for nobody")
          const [error, millis] = yield* Fiber.join(waiting)
          assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "Timeout", outcome: "NotApplied" })
          assert.isBelow(millis, 1_200)
        })
      )
      assert.strictEqual((yield* a.get(held.id, { refresh: true })).version, 1n)
      yield* a.update(Session.set(held, Note, "y"))
    })
  )

  test(
    "an outage answers everybody who queued up in time, those behind others, too",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ url: proxy.url(databaseUrl), statementTimeout: "500 millis", maxStaleness: "10 minutes" })
      const session = yield* a.create(alice)
      yield* proxy.pause
      const attempts = yield* Effect.forEach(
        Array.from({ length: 40 }),
        () => elapsed(Effect.result(a.update(Session.set(session, Note, "x"), { check: "none" }))),
        { concurrency: "unbounded" }
      )
      assert.isTrue(attempts.every(([result]) => Result.isFailure(result)))
      const longest = Math.max(...attempts.map(([, millis]) => millis))
      assert.isBelow(longest, 2_500)
      yield* proxy.resume
    })
  )
})
