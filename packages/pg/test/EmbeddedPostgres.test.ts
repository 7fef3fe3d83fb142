import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { EmbeddedPostgres, EmbeddedPostgresError, TcpProxy } from "../src/testing/index.ts"
import { waitUntil } from "../src/testing/internal/RealTime.ts"
import { databaseUrl, TestDatabase } from "./support/TestDatabase.ts"

/** What `support/owner.ts` prints. */
const Owned = Schema.fromJsonString(Schema.Struct({ pid: Schema.Int, dataDirectory: Schema.String }))

/** Whether a process is there and is more than an entry that nobody has collected. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return process.platform !== "linux" || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}

const gone = (pid: number, directory: string) =>
  waitUntil(
    Effect.sync(() => !isAlive(pid) && !existsSync(directory)),
    "15 seconds"
  )

/** Runs `use` with a client on a connection of its own. */
const withClient = <A, E, R>(url: Redacted.Redacted<string>, use: (sql: PgClient.PgClient) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(PgClient.PgClient, use).pipe(
    Effect.provide(PgClient.layer({ url, maxConnections: 1, connectTimeout: "5 seconds" }), { local: true })
  )

const count = (url: Redacted.Redacted<string>) =>
  withClient(url, (sql) => sql<{ readonly count: bigint }>`select count(*) as count from kept`).pipe(
    Effect.map((rows) => Number(rows[0]?.count))
  )

describe("EmbeddedPostgres", () => {
  it.live("starts a durable server with the settings asked for", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make({ settings: { work_mem: "5MB" } })
      const [row] = yield* withClient(
        postgres.url,
        (sql) => sql`select current_setting('work_mem') as work_mem, current_setting('fsync') as fsync,
          current_setting('synchronous_commit') as synchronous_commit, current_setting('data_directory') as data`
      )
      assert.deepStrictEqual(row, {
        work_mem: "5MB",
        fsync: "on",
        synchronous_commit: "on",
        data: postgres.dataDirectory
      })
    })
  )

  it.effect("starts and stops under a test clock", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      yield* postgres.stop
      yield* postgres.start
      assert.isTrue(isAlive(yield* postgres.pid))
    })
  )

  it.live("leaves no process and no file when its scope closes, even paused", () =>
    Effect.gen(function* () {
      const [pid, directory] = yield* Effect.scoped(
        Effect.gen(function* () {
          const postgres = yield* EmbeddedPostgres.make()
          yield* postgres.pause
          return [yield* postgres.pid, postgres.dataDirectory] as const
        })
      )
      assert.isFalse(isAlive(pid))
      assert.isFalse(existsSync(directory))
    })
  )

  it.live("refuses to be asked for a process that does not run", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      yield* postgres.stop
      yield* postgres.stop
      const error = yield* Effect.flip(postgres.pid)
      assert.instanceOf(error, EmbeddedPostgresError)
      assert.strictEqual(error.reason, "NotRunning")
      assert.strictEqual((yield* Effect.flip(postgres.pause)).reason, "NotRunning")
    })
  )

  it.live("says why it did not start", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EmbeddedPostgres.make({ settings: { no_such_setting: "1" } }))
      assert.strictEqual(error.reason, "StartFailed")
      assert.include(error.message, "no_such_setting")
    })
  )

  it.live.each(["running", "paused"])("does not outlive its owner, killed by SIGKILL while it is %s", (state) =>
    Effect.gen(function* () {
      const owner = spawn(
        process.execPath,
        ["--conditions=@effect-pg-session/source", `${import.meta.dirname}/support/owner.ts`, state],
        { stdio: ["ignore", "pipe", "inherit"] }
      )
      const lines = yield* Effect.promise(async () => {
        const seen: Array<string> = []
        for await (const line of createInterface({ input: owner.stdout })) {
          if (line === "ready") break
          seen.push(line)
        }
        return seen
      })
      const { dataDirectory, pid } = yield* Schema.decodeUnknownEffect(Owned)(lines[0])
      assert.isTrue(isAlive(pid))
      owner.kill("SIGKILL")
      assert.isTrue(yield* gone(pid, dataDirectory))
    })
  )
})

describe("an owner that is killed while it makes the data directory", () => {
  it.live.each([0, 50, 150])("leaves nothing, %s ms after the beginning", (millis) =>
    Effect.gen(function* () {
      const parent = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "killed-owner-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
      )
      chmodSync(parent, 0o777)
      const owner = spawn(
        process.execPath,
        ["--conditions=@effect-pg-session/source", `${import.meta.dirname}/support/owner.ts`, "running"],
        { stdio: "ignore", env: { ...process.env, TMPDIR: parent } }
      )
      // The password is written just before initdb starts.
      const begun = Effect.sync(() => readdirSync(parent).some((name) => existsSync(join(parent, name, "password"))))
      assert.isTrue(yield* waitUntil(begun, "20 seconds"))
      yield* Effect.sleep(millis)
      owner.kill("SIGKILL")
      yield* waitUntil(
        Effect.sync(() => readdirSync(parent).length === 0),
        "15 seconds"
      )
      // What still ran would make it again.
      yield* Effect.sleep(300)
      assert.deepStrictEqual(readdirSync(parent), [])
    })
  )
})

layer(EmbeddedPostgres.layer(), { excludeTestServices: true })("faults of a server", (it) => {
  it.effect("a commit survives SIGKILL of every process", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres
      const pid = yield* postgres.pid
      yield* withClient(postgres.url, (sql) =>
        Effect.gen(function* () {
          yield* sql`create table kept (n int)`
          yield* sql`insert into kept select generate_series(1, 1000)`
          yield* postgres.kill
          assert.isFalse(isAlive(pid))
          assert.strictEqual((yield* Effect.flip(sql`select 1`))._tag, "SqlError")
        })
      )
      yield* postgres.start
      assert.notStrictEqual(yield* postgres.pid, pid)
      assert.strictEqual(yield* count(postgres.url), 1000)
    })
  )

  it.effect("an orderly stop and a start keep the port and the data", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres
      yield* postgres.stop
      yield* postgres.start
      assert.strictEqual(yield* count(postgres.url), 1000)
    })
  )

  it.effect("a paused server hangs, and answers when it is resumed", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres
      yield* withClient(postgres.url, (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* postgres.pause
          const answer = yield* Effect.forkChild(sql`select 1 as one`, { startImmediately: true })
          yield* Effect.sleep("300 millis")
          assert.isUndefined(answer.pollUnsafe())
          yield* postgres.resume
          assert.deepStrictEqual(yield* Fiber.join(answer), [{ one: 1 }])
        })
      )
    })
  )
})

layer(TestDatabase.layer, { excludeTestServices: true })("TcpProxy", (it) => {
  const proxied = Effect.suspend(() => {
    const { hostname, port } = new URL(Redacted.value(databaseUrl))
    return TcpProxy.make({ host: hostname, port: Number(port || "5432") })
  })

  it.effect("passes everything on, and counts connections", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      assert.strictEqual(yield* proxy.connections, 0)
      yield* withClient(proxy.url(databaseUrl), (sql) =>
        Effect.gen(function* () {
          const [row] = yield* sql<{
            readonly size: number
          }>`select length(repeat('x', 5000000)) as size, repeat('x', 5000000)`
          assert.strictEqual(row?.size, 5_000_000)
          assert.strictEqual(yield* proxy.connections, 1)
        })
      )
      assert.isTrue(
        yield* waitUntil(
          Effect.map(proxy.connections, (open) => open === 0),
          "5 seconds"
        )
      )
    })
  )

  it.effect("is a black hole while paused, and loses nothing", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      yield* withClient(proxy.url(databaseUrl), (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* proxy.pause
          const answer = yield* Effect.forkChild(sql`select 2 as two`, { startImmediately: true })
          yield* Effect.sleep("300 millis")
          assert.isUndefined(answer.pollUnsafe())
          yield* proxy.resume
          assert.deepStrictEqual(yield* Fiber.join(answer), [{ two: 2 }])
        })
      )
    })
  )

  it.effect("can hold back the answer to a write that took effect", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const direct = yield* PgClient.PgClient
      const { schema } = yield* TestDatabase
      yield* direct`create table ${direct(schema)}.written (n int)`
      yield* withClient(proxy.url(databaseUrl), (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* proxy.pauseAnswers
          // The first message of a prepared statement waits for no answer, so the write arrives whole.
          const write = yield* Effect.forkChild(sql`insert into ${sql(schema)}.written values (1)`.unprepared, {
            startImmediately: true
          })
          const arrived = Effect.map(direct`select n from ${direct(schema)}.written`, (rows) => rows.length === 1)
          assert.isTrue(yield* waitUntil(arrived, "5 seconds"))
          assert.isUndefined(write.pollUnsafe())
          yield* proxy.reset
          assert.strictEqual((yield* Effect.flip(Fiber.join(write)))._tag, "SqlError")
        })
      )
    })
  )

  it.effect("can hold back requests only", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const url = proxy.url(databaseUrl)
      const direct = yield* PgClient.PgClient
      const channel = "requests held back"
      const listening = withClient(url, (sql) =>
        Effect.gen(function* () {
          const heard = yield* sql.listen(channel)
          yield* proxy.pauseRequests
          yield* direct.notify(channel, "arrives")
          const { payload } = yield* Queue.take(heard)
          // The listener says goodbye, and waits for the answer.
          yield* proxy.resume
          return payload
        }).pipe(Effect.scoped)
      )
      assert.strictEqual(yield* listening, "arrives")
      yield* withClient(url, (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* proxy.pauseRequests
          const asked = yield* Effect.forkChild(sql`select 2 as two`, { startImmediately: true })
          yield* Effect.sleep("300 millis")
          assert.isUndefined(asked.pollUnsafe())
          yield* proxy.resume
          assert.deepStrictEqual(yield* Fiber.join(asked), [{ two: 2 }])
        })
      )
    })
  )

  it.effect("can break connections in the middle of an answer", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      yield* withClient(proxy.url(databaseUrl), (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* proxy.resetAfter(10_000)
          const error = yield* Effect.flip(sql`select repeat('x', 20000)`)
          assert.strictEqual(error._tag, "SqlError")
          assert.strictEqual((yield* sql`select repeat('x', 20000)`).length, 1)
        })
      )
    })
  )

  it.effect("refuses new connections and keeps the open ones", () =>
    Effect.gen(function* () {
      const proxy = yield* proxied
      const url = proxy.url(databaseUrl)
      yield* withClient(url, (sql) =>
        Effect.gen(function* () {
          yield* sql`select 1`
          yield* proxy.refuse
          yield* sql`select 1`
          const refused = yield* Effect.flip(withClient(url, (other) => other`select 1`))
          assert.strictEqual(refused._tag, "SqlError")
          yield* proxy.accept
          yield* withClient(url, (other) => other`select 1`)
        })
      )
    })
  )
})
