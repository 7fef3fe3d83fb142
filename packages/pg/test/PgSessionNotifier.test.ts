import { PgClient } from "@effect/sql-pg"
import { SessionNotifier, UserId } from "@effect-pg-session/core"
import type { Connection, Notice, Notifier } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import { Database } from "../src/internal/Database.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import * as PgSessionMigrations from "../src/PgSessionMigrations.ts"
import * as PgSessionNotifier from "../src/PgSessionNotifier.ts"
import * as PgSessionStorage from "../src/PgSessionStorage.ts"
import { EmbeddedPostgres, PgBouncer, TcpProxy } from "../src/testing/index.ts"
import { eventually, standby } from "./support/Faults.ts"
import { aSession } from "./support/StorageFixture.ts"
import { databaseUrl, TestDatabase } from "./support/TestDatabase.ts"

type Options = Omit<PgSessionNotifier.Options, "connection"> & {
  readonly connection?: DatabaseLive.ConnectionSettings
  readonly queries?: DatabaseLive.ConnectionSettings
}

const notifierOf = (
  names: Names.Names,
  { connection = { url: databaseUrl }, queries = connection, ...options }: Options
) =>
  PgSessionNotifier.layer({ ...options, connection }).pipe(
    Layer.provide(DatabaseLive.layer({ names, statementTimeout: "1 second", connection: queries })),
    Layer.build,
    Effect.map((context) => Context.get(context, SessionNotifier))
  )

const createBeats = (names: Names.Names) =>
  `create table ${names.beats} (node text primary key, beat_at timestamptz not null)`

/** A schema with the table of the beats, and everything to look around with. */
const setUp = Effect.gen(function* () {
  const { schema } = yield* TestDatabase
  const sql = yield* PgClient.PgClient
  const names = Names.make(schema, "")
  yield* sql.unsafe(createBeats(names))
  return {
    sql,
    names,
    notifier: (options: Options = {}) => notifierOf(names, options),
    notify: (payload: string) => sql`select pg_notify(${names.channel}, ${payload})`.values,
    /** The backends of listeners with this application name. */
    backends: (name: string) =>
      Effect.map(
        sql`select pid from pg_stat_activity where application_name = ${`${name} listener`}`.values,
        (rows) => rows.length
      ),
    terminate: (name: string) =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${`${name} listener`}`.values
  }
})

/** All notices up to a beat with this nonce. */
const until = (connection: Connection, nonce: string): Effect.Effect<ReadonlyArray<Notice>, unknown> =>
  Effect.gen(function* () {
    const found: Array<Notice> = []
    while (true) {
      for (const notice of yield* connection.take) {
        if (notice._tag === "Beat" && notice.nonce === nonce) return found
        found.push(notice)
      }
    }
  })

const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, (value) => [value, performance.now() - start] as const)
  })

const proxyTo = (url: Redacted.Redacted) =>
  Effect.suspend(() => {
    const target = new URL(Redacted.value(url))
    return TcpProxy.make({ host: target.hostname, port: Number(target.port) })
  })

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | TestDatabase | PgClient.PgClient>) =>
  it.live(name, () => Effect.provide(Effect.scoped(effect), TestDatabase.layer))

describe("PgSessionNotifier", () => {
  test(
    "a beat commits a row, comes back after what was committed before it, and says which server answered",
    Effect.gen(function* () {
      const { names, notifier, notify, sql } = yield* setUp
      const { beat, connect } = yield* notifier()
      const connection = yield* connect
      yield* notify("1Ualice")
      const answer = yield* beat("node-1", "nonce-1")
      assert.deepStrictEqual(yield* until(connection, "nonce-1"), [{ _tag: "User", userId: UserId.make("alice") }])
      assert.deepStrictEqual(answer.server, connection.server)
      assert.isFalse(answer.server.inRecovery)
      assert.match(answer.server.identity, /^\d{10,}\/[0-9A-F]{8}\/\d+\.\d+$/)
      const [row] = yield* sql.unsafe(
        `select node, abs(extract(epoch from beat_at)::float8 * 1000 - $1::float8)
         from ${names.beats}`,
        [answer.now]
      ).values
      assert.strictEqual(row?.[0], "node-1")
      assert.isBelow(Number(row?.[1]), 1_000)
      const later = yield* beat("node-1", "nonce-2")
      assert.isAbove(later.now, answer.now)
      assert.deepStrictEqual(yield* until(connection, "nonce-2"), [])
    })
  )

  test(
    "delivers the commits of eight concurrent writers in their order, without a gap",
    Effect.gen(function* () {
      const { names, notifier, sql } = yield* setUp
      const { beat, connect } = yield* notifier()
      const connection = yield* connect
      const table = names.qualified("counter")
      yield* sql.unsafe(`create table ${table} (n int not null)`)
      yield* sql.unsafe(`insert into ${table} values (0)`)
      const writers = yield* DatabaseLive.make({ names, connection: { url: databaseUrl, maxConnections: 8 } })
      // The row's lock is held until the commit, so that the numbers are in the order of the commits.
      const statement = `with counted as (update ${table} set n = n + 1 returning n),
        told as (select pg_notify($1, '1U' || n) from counted) select count(*)::int4 from told`
      yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.replicateEffect(writers.write("count", statement, [names.channel]), 250, { discard: true }),
        {
          concurrency: 8,
          discard: true
        }
      )
      yield* beat("node", "end")
      const notices = yield* until(connection, "end")
      assert.deepStrictEqual(
        notices.map((notice) => (notice._tag === "User" ? Number(notice.userId) : notice)),
        Array.from({ length: 2_000 }, (_, index) => index + 1)
      )
    })
  )

  test(
    "garbage is unreadable, and nothing else",
    Effect.gen(function* () {
      const { names, notifier, notify, sql } = yield* setUp
      const { beat, connect } = yield* notifier()
      const connection = yield* connect
      const garbage = [
        "",
        "1",
        "1C",
        "1C;;;",
        "A",
        "1U",
        "\u{1f4a3}".repeat(1_900),
        "x".repeat(7_999),
        "{}",
        "1B",
        "1B\n"
      ]
      for (const payload of garbage) yield* notify(payload)
      yield* sql`select pg_notify(${names.channel}, null)`.values
      yield* notify("1A")
      yield* beat("node", "end")
      assert.deepStrictEqual(
        (yield* until(connection, "end")).map((notice) => notice._tag),
        [...garbage.map(() => "Unreadable" as const), "Unreadable", "All"]
      )
    })
  )

  test(
    "its connections have the application's name, which the URL may say",
    Effect.gen(function* () {
      const { notifier, sql } = yield* setUp
      const named = (url: Redacted.Redacted, name: string) => {
        const changed = new URL(Redacted.value(url))
        changed.searchParams.set("application_name", name)
        return Redacted.make(changed.href)
      }
      const names = Effect.map(
        sql`select distinct application_name from pg_stat_activity where application_name ~ '^(shop|own|direct)' order by 1`
          .values,
        (rows) => rows.map(([name]) => name)
      )
      const url = named(databaseUrl, "shop")
      for (const [options, expected] of [
        [{ connection: { url } }, ["shop beats", "shop listener"]],
        [{ connection: { url, applicationName: "own" } }, ["own beats", "own listener"]],
        [{ connection: { url: databaseUrl }, listenUrl: named(databaseUrl, "direct") }, ["direct listener"]]
      ] as const) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const { beat, connect } = yield* notifier(options)
            yield* connect
            yield* beat("node", "nonce")
            assert.deepStrictEqual(yield* names, [...expected])
          })
        )
        yield* eventually(Effect.map(names, (found) => found.length === 0))
      }
    })
  )

  for (const kind of ["own pool", "the application's client"]) {
    test(
      `a beat does not wait behind a storm of other statements (${kind})`,
      Effect.gen(function* () {
        const { names } = yield* setUp
        const client = yield* PgClient.PgClient
        yield* Effect.provideService(PgSessionMigrations.run(names), SqlClient, client)
        const connection = { url: databaseUrl, maxConnections: 4 }
        const database =
          kind === "own pool"
            ? yield* DatabaseLive.make({ names, statementTimeout: "20 seconds", connection })
            : yield* DatabaseLive.fromClient(client, { names, statementTimeout: "20 seconds" })
        const storage = PgSessionStorage.make(database)
        const { beat } = yield* PgSessionNotifier.layer({ connection }).pipe(
          Layer.provide(Layer.succeed(Database, database)),
          Layer.build,
          Effect.map((context) => Context.get(context, SessionNotifier))
        )
        let created = 0
        const storm = yield* Effect.forEach(
          Array.from({ length: 3_000 }),
          () =>
            Effect.map(storage.create(aSession()), () => {
              created++
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))
        yield* eventually(Effect.sync(() => created > 0))
        yield* beat("node", "nonce")
        const before = created
        yield* Fiber.join(storm)
        assert.strictEqual(created, 3_000)
        assert.isBelow(before, 2_900)
      })
    )
  }

  test(
    "a listener whose backend is ended fails at once, and another one can be opened",
    Effect.gen(function* () {
      const { notifier, terminate } = yield* setUp
      const { beat, connect } = yield* notifier({ connection: { url: databaseUrl, applicationName: "ended" } })
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(connect, scope)
      yield* terminate("ended")
      const [error, millis] = yield* elapsed(Effect.flip(Effect.forever(connection.take)))
      assert.isBelow(millis, 3_000)
      assert.deepInclude(error, { reason: "Unreachable", outcome: "NotApplied" })
      assert.include(error.detail, "57P01")
      assert.strictEqual((yield* Effect.flip(connection.take)).reason, "Unreachable")
      const [, closing] = yield* elapsed(Scope.close(scope, Exit.void))
      assert.isBelow(closing, 3_000)
      const again = yield* connect
      yield* beat("node", "again")
      yield* until(again, "again")
    })
  )

  test(
    "closing ends the backend, and whoever still takes is told",
    Effect.gen(function* () {
      const { backends, notifier } = yield* setUp
      const { connect } = yield* notifier({ connection: { url: databaseUrl, applicationName: "closing" } })
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(connect, scope)
      assert.strictEqual(yield* backends("closing"), 1)
      const taking = yield* Effect.forkChild(Effect.flip(connection.take), { startImmediately: true })
      const [, millis] = yield* elapsed(Scope.close(scope, Exit.void))
      assert.isBelow(millis, 3_000)
      assert.strictEqual((yield* Fiber.join(taking)).reason, "Closed")
      yield* eventually(Effect.map(backends("closing"), (found) => found === 0))
    })
  )

  test(
    "a buffer that overflows fails, after what it holds, and lets the server go on",
    Effect.gen(function* () {
      const { backends, notifier, notify } = yield* setUp
      const { connect } = yield* notifier({
        connection: { url: databaseUrl, applicationName: "overflow" },
        maxBuffered: 3 * 1_064
      })
      const connection = yield* connect
      yield* Effect.forEach([1, 2, 3, 4, 5, 6], (index) => notify(`1U${index}`.padEnd(1_000, " ")))
      yield* eventually(Effect.map(backends("overflow"), (found) => found === 0))
      const held = yield* connection.take
      assert.isAtLeast(held.length, 4)
      assert.deepInclude(yield* Effect.flip(connection.take), {
        reason: "Overloaded",
        detail: "the listener's buffer overflowed"
      })
    })
  )
})

describe("PgSessionNotifier on a silent network", () => {
  const silent = (
    use: (parts: {
      readonly notifier: Notifier
      readonly proxy: TcpProxy.TcpProxy
    }) => Effect.Effect<void, unknown, Scope.Scope>
  ) =>
    Effect.gen(function* () {
      const { names } = yield* setUp
      const proxy = yield* proxyTo(databaseUrl)
      const scope = yield* Scope.make()
      const notifier = yield* Scope.provide(
        notifierOf(names, { connection: { url: proxy.url(databaseUrl) }, connectTimeout: "600 millis" }),
        scope
      )
      yield* use({ notifier, proxy })
      const [, millis] = yield* elapsed(Scope.close(scope, Exit.void))
      assert.isBelow(millis, 2_500)
      yield* proxy.resume
      yield* eventually(Effect.map(proxy.connections, (open) => open === 0))
    })

  test(
    "beats fail in time; closing does not wait, and leaves nothing behind",
    silent(({ notifier, proxy }) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        yield* Scope.provide(notifier.connect, scope)
        yield* notifier.beat("node", "before")
        yield* proxy.pause
        const [error, millis] = yield* elapsed(Effect.flip(notifier.beat("node", "during")))
        assert.deepInclude(error, { reason: "Timeout", outcome: "Unknown" })
        assert.isBelow(millis, 3_000)
        const [, closing] = yield* elapsed(Scope.close(scope, Exit.void))
        assert.isBelow(closing, 3_000)
      })
    )
  )

  test(
    "subscribing fails in time, and can be interrupted",
    silent(({ notifier, proxy }) =>
      Effect.gen(function* () {
        yield* notifier.beat("node", "before")
        yield* proxy.pause
        const [error, millis] = yield* elapsed(Effect.flip(Effect.scoped(notifier.connect)))
        assert.strictEqual(error.reason, "Timeout")
        assert.isBelow(millis, 3_000)
        const fiber = yield* Effect.forkChild(Effect.scoped(notifier.connect), { startImmediately: true })
        const [, interrupting] = yield* elapsed(Fiber.interrupt(fiber))
        assert.isBelow(interrupting, 3_000)
      })
    )
  )

  test(
    "a LISTEN that is never answered is given up in time",
    Effect.gen(function* () {
      const { names } = yield* setUp
      const target = new URL(Redacted.value(databaseUrl))
      const swallowing = (): Duplex => {
        const socket = Net.connect({ host: target.hostname, port: Number(target.port) })
        const write = socket.write.bind(socket)
        return Object.assign(socket, {
          write: (chunk: Uint8Array) => Buffer.from(chunk).includes("LISTEN") || write(chunk)
        })
      }
      const scope = yield* Scope.make()
      const { connect } = yield* Scope.provide(
        notifierOf(names, {
          connection: { url: databaseUrl, stream: swallowing },
          queries: { url: databaseUrl },
          connectTimeout: "300 millis"
        }),
        scope
      )
      const [error, millis] = yield* elapsed(Effect.flip(Effect.scoped(connect)))
      assert.strictEqual(error.reason, "Timeout")
      assert.isBelow(millis, 3_000)
      const [, closing] = yield* elapsed(Scope.close(scope, Exit.void))
      assert.isBelow(closing, 2_500)
    })
  )
})

describe("PgSessionNotifier and the server it reaches", () => {
  it.live("a server in recovery is refused, with a reason", () =>
    Effect.gen(function* () {
      const url = yield* standby
      const { beat, connect } = yield* notifierOf(Names.make("public", ""), { connection: { url } })
      const error = yield* Effect.flip(Effect.scoped(connect))
      assert.deepInclude(error, { reason: "DatabaseError", outcome: "NotApplied" })
      assert.include(error.message, "recovery")
      assert.deepInclude(yield* Effect.flip(beat("node", "nonce")), { reason: "DatabaseError", outcome: "NotApplied" })
    })
  )

  it.live("a server that was started again is another one, and so is one elsewhere", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const names = Names.make("public", "")
      const sql = yield* DatabaseLive.make({ names, connection: { url: postgres.url } })
      yield* sql.write("create", createBeats(names), [])
      const { beat, connect } = yield* notifierOf(names, { connection: { url: postgres.url } })
      const before = yield* connect
      assert.deepStrictEqual((yield* beat("node", "1")).server, before.server)
      yield* postgres.kill
      assert.strictEqual((yield* Effect.flip(Effect.forever(before.take))).reason, "Unreachable")
      assert.strictEqual((yield* Effect.flip(Effect.scoped(connect))).reason, "Unreachable")
      yield* postgres.start
      const after = yield* connect
      assert.notStrictEqual(after.server.identity, before.server.identity)
      assert.deepStrictEqual((yield* beat("node", "2")).server, after.server)
      yield* until(after, "2")
      // A listener on another server than the queries: the identities tell.
      const elsewhere = yield* notifierOf(names, { queries: { url: postgres.url }, listenUrl: databaseUrl })
      const other = yield* elsewhere.connect
      assert.notStrictEqual(other.server.identity, (yield* elsewhere.beat("node", "3")).server.identity)
    })
  )

  it.live("an unprivileged role, and one that may not even ask for the system identifier", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const names = Names.make("public", "")
      const admin = yield* DatabaseLive.make({ names, connection: { url: postgres.url } })
      const role = `role_${randomBytes(4).toString("hex")}`
      for (const statement of [createBeats(names), `create role ${role} login password 'secret'`]) {
        yield* admin.write("set up", statement, [])
      }
      yield* admin.write("grant", `grant select, insert, update on ${names.beats} to ${role}`, [])
      const low = { url: postgres.url, username: role, password: Redacted.make("secret") }
      const sameServer = (options: Options) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { beat, connect } = yield* notifierOf(names, options)
            yield* Effect.scoped(connect)
            const connection = yield* connect
            const answer = yield* beat("node", "nonce")
            assert.deepStrictEqual(answer.server, connection.server)
            yield* until(connection, "nonce")
            return connection.server.identity
          })
        )
      const full = yield* sameServer({ connection: low })
      assert.strictEqual(full, yield* sameServer({ connection: { url: postgres.url } }))
      yield* admin.write("revoke", "revoke execute on function pg_control_system() from public", [])
      const without = yield* sameServer({ connection: low })
      assert.strictEqual(without, full.replace(/^\d+/, "-"))
      // The listener's role may less than the queries' one: from the second subscription on they agree.
      const { host, port } = postgres
      const listenUrl = Redacted.make(`postgres://${role}:secret@${host}:${port}/postgres`)
      const { beat, connect } = yield* notifierOf(names, { connection: { url: postgres.url }, listenUrl })
      const connection = yield* connect
      assert.deepStrictEqual((yield* beat("node", "nonce")).server, connection.server)
    })
  )
})

describe.skipIf(!PgBouncer.available)("PgSessionNotifier behind PgBouncer in transaction mode", () => {
  test(
    "subscribes, but its beats do not return; a listenUrl of the server's own helps",
    Effect.gen(function* () {
      const { names } = yield* setUp
      const bouncer = yield* PgBouncer.make(databaseUrl)
      const queries = { url: bouncer.url, prepare: false }
      const deaf = yield* notifierOf(names, { connection: queries })
      const nothing = yield* deaf.connect
      yield* deaf.beat("node", "lost")
      assert.strictEqual((yield* Effect.timeoutOption(nothing.take, "500 millis"))._tag, "None")

      const scope = yield* Scope.make()
      const { beat, connect } = yield* notifierOf(names, { connection: queries, listenUrl: databaseUrl })
      const connection = yield* Scope.provide(connect, scope)
      yield* beat("node", "found")
      yield* until(connection, "found")
      yield* Scope.close(scope, Exit.void)
    })
  )
})
