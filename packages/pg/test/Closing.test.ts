/** Closing is bounded and leaves nothing behind, also where the network has fallen silent. */
import { Session } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Endpoint from "../src/internal/Endpoint.ts"
import * as Names from "../src/internal/Names.ts"
import { child, environment } from "./support/Child.ts"
import { eventually } from "./support/Faults.ts"
import { alice, elapsed, lookAround, node, Note, proxyTo, quiet, test } from "./support/Nodes.ts"
import { databaseUrl, TestDatabase } from "./support/TestDatabase.ts"

const names = Names.make("public", "")

describe("closing a node", () => {
  test(
    "whose listener has fallen silent takes no longer than otherwise",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ listenUrl: proxy.url(databaseUrl), shutdownTimeout: "2 seconds" })
      yield* a.create(alice)
      yield* proxy.pause
      const [, millis] = yield* elapsed(a.close)
      assert.isBelow(millis, 2_000)
    })
  )

  test(
    "that can reach nothing any more is bounded, with updates, last accesses and a beat on their way",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ url: proxy.url(databaseUrl), shutdownTimeout: "2 seconds" })
      const session = yield* a.create(alice)
      const other = yield* a.create(alice)
      yield* Effect.sleep(20)
      yield* a.get(other.id)
      yield* proxy.pause
      const updating = yield* Effect.forkChild(Effect.flip(a.update(Session.set(session, Note, "x"))), {
        startImmediately: true
      })
      const { beatsSent } = (yield* a.health).listener
      yield* eventually(Effect.map(a.health, ({ listener }) => listener.beatsSent > beatsSent))
      const [, millis] = yield* elapsed(a.close)
      // Two seconds of its own, and two for statements in flight and connections.
      assert.isBelow(millis, 4_800)
      assert.deepInclude(yield* Fiber.join(updating), { outcome: "Unknown" })
    })
  )

  test(
    "on a network that works waits for connections to close, and not for longer",
    Effect.gen(function* () {
      const { connections } = yield* lookAround
      const name = `closing at once ${Math.random()}`
      const times = yield* Effect.forEach([1, 2, 3, 4], () =>
        Effect.gen(function* () {
          const a = yield* node({ connection: { applicationName: name } })
          const session = yield* a.create(alice)
          yield* a.get(session.id, quiet)
          assert.isAtLeast(yield* connections(name), 3)
          const [, millis] = yield* elapsed(a.close)
          assert.strictEqual(yield* connections(name), 0)
          return millis
        })
      )
      assert.isBelow(Math.min(...times), 400)
    })
  )

  test(
    "lets its process end, whatever is silent",
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const proxy = yield* proxyTo()
      const running = yield* child({
        ...environment(proxy.url(databaseUrl), schema),
        RUN: "plainly",
        SESSION_MIN_CONNECTIONS: "2",
        SESSION_SHUTDOWN_TIMEOUT: "2 seconds"
      })
      yield* running.answer
      const { token } = yield* running.ask("create")
      yield* running.ask(`use ${token}`)
      yield* proxy.pause
      yield* running.send("end")
      const [code, millis] = yield* elapsed(running.exited)
      assert.strictEqual(code, 0, yield* running.log)
      assert.isBelow(millis, 5_500)
    })
  )
})

describe("closing connections on a silent network", () => {
  const silently = (
    use: (parts: {
      readonly settings: DatabaseLive.ConnectionSettings
      readonly pause: Effect.Effect<void>
    }) => Effect.Effect<void, unknown, Scope.Scope>
  ) =>
    Effect.gen(function* () {
      const { host, pause, port } = yield* proxyTo()
      const opened: Array<Net.Socket> = []
      const stream = () => {
        const socket = Net.connect({ host, port })
        opened.push(socket)
        return socket
      }
      yield* use({ settings: { url: databaseUrl, stream }, pause })
      assert.isAtLeast(opened.length, 2)
      assert.isTrue(opened.every(({ destroyed }) => destroyed))
    })

  test(
    "no socket is left, and callers are told what is known",
    silently(({ pause, settings }) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const database = yield* Scope.provide(
          DatabaseLive.make({ names, connection: { ...settings, maxConnections: 3 } }),
          scope
        )
        const look = database.read("look", "select pg_sleep(0.1)::text", [])
        yield* Effect.all([look, look, look, database.reserved.read("look", "select 1", [])], { concurrency: 4 })
        yield* pause
        const fibers = yield* Effect.forEach(
          [
            database.write("change", "select 1", []),
            database.reserved.write("beat", "select 1", []),
            database.read("look", "select 1", [])
          ],
          (statement) => Effect.forkChild(Effect.flip(statement), { startImmediately: true })
        )
        yield* Effect.sleep(20)
        const [, millis] = yield* elapsed(Scope.close(scope, Exit.void))
        assert.isBelow(millis, 2_500)
        const errors = yield* Effect.forEach(fibers, Fiber.join)
        assert.deepStrictEqual(
          errors.map(({ outcome, reason }) => [reason, outcome]),
          [
            ["Closed", "Unknown"],
            ["Closed", "Unknown"],
            ["Closed", "NotApplied"]
          ]
        )
      })
    )
  )

  test(
    "the application's client is left alone",
    silently(({ pause, settings }) =>
      Effect.gen(function* () {
        const clientScope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
        const client = Context.get(
          yield* Layer.buildWithScope(PgClient.layer(settings), clientScope),
          PgClient.PgClient
        )
        const scope = yield* Scope.make()
        const database = yield* Scope.provide(DatabaseLive.fromClient(client, { names }), scope)
        yield* database.read("look", "select 1", [])
        yield* database.reserved.read("look", "select 1", [])
        yield* pause
        const waiting = yield* Effect.forkChild(Effect.flip(database.write("change", "select 1", [])), {
          startImmediately: true
        })
        yield* Effect.sleep(20)
        const [, millis] = yield* elapsed(Scope.close(scope, Exit.void))
        assert.isBelow(millis, 2_500)
        assert.deepInclude(yield* Fiber.join(waiting), { reason: "Closed", outcome: "Unknown" })
        // sql-pg gives up on it five seconds later.
        yield* Scope.close(clientScope, Exit.void)
      })
    )
  )
})

describe("where the server is", () => {
  const url = (text: string) => ({ url: Redacted.make(text) })
  const cases = [
    [{}, { host: "localhost", port: 5432 }],
    [url("postgres://u:p@db.example:6000/app"), { host: "db.example", port: 6000 }],
    [url("postgres://db.example/app?port=7000&host=other"), { host: "other", port: 7000 }],
    [url("postgres://[::1]:6000/app"), { host: "::1", port: 6000 }],
    [url("postgresql://%2Fvar%2Frun%2Fpg/app"), { path: "/var/run/pg/.s.PGSQL.5432" }],
    [url("postgres:///app?host=/tmp&port=6543"), { path: "/tmp/.s.PGSQL.6543" }],
    [
      { ...url("postgres://db.example:6000/app"), host: "h", port: 1 },
      { host: "h", port: 1 }
    ],
    [{ ...url("postgres://db.example/app"), path: "/tmp/socket" }, { path: "/tmp/socket" }]
  ] as const
  for (const [settings, expected] of cases) {
    it(`${"url" in settings ? Redacted.value(settings.url) : "by default"}: ${JSON.stringify(expected)}`, () =>
      assert.deepStrictEqual<unknown>(Endpoint.address(settings), expected))
  }
})
