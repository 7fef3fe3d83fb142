/**
 * G11 on PostgreSQL: after the scope has closed no connection, timer or handle is
 * left; it closes in time even where PostgreSQL hangs; and a process that runs the
 * layer ends by itself.
 */
import { Session, SessionId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { PgSession } from "../../src/PgSession.ts"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import { child, environment } from "../support/Child.ts"
import { eventually } from "../support/Faults.ts"
import { alice, build, elapsed, lookAround, node, Note, proxyTo, test } from "../support/Nodes.ts"
import { databaseUrl, TestDatabase } from "../support/TestDatabase.ts"

/** What keeps this process alive, by kind, seen from a timer of the test's own. */
const resources = Effect.map(
  Effect.delay(
    Effect.sync(() => process.getActiveResourcesInfo()),
    10
  ),
  (names) => {
    const counts = new Map<string, number>()
    for (const name of names) {
      if (["TCPSocketWrap", "TCPConnectWrap", "Timeout"].includes(name)) counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    return counts
  }
)

describe("closing the scope", () => {
  test(
    "answers what was accepted, writes what is pending, and leaves neither connections nor timers",
    Effect.gen(function* () {
      const { connections, number } = yield* lookAround
      const name = `closing ${Math.random()}`
      const before = yield* resources
      const a = yield* node({
        connection: { applicationName: name },
        maxSessionsPerUser: 100,
        lastAccessFlushInterval: "1 hour"
      })
      const sessions = yield* Effect.forEach(Array.from({ length: 20 }), () => a.create(alice), { concurrency: 4 })
      yield* Effect.sleep(20)
      for (const { id } of sessions) yield* a.get(id)
      assert.isAtLeast(yield* connections(name), 2)
      const updates = yield* Effect.forEach(sessions, (session) =>
        Effect.forkChild(Effect.result(a.update(Session.set(session, Note, "last"))), { startImmediately: true })
      )
      const creating = yield* Effect.forkChild(Effect.result(a.create(alice)), { startImmediately: true })
      const [, millis] = yield* elapsed(a.close)
      assert.isBelow(millis, 3_000)
      for (const update of updates) assert.isTrue(Result.isSuccess(yield* Fiber.join(update)))
      assert.isTrue(Result.isSuccess(yield* Fiber.join(creating)))
      assert.strictEqual(yield* number("select count(*)::int from @sessions where version = 2"), 20)
      assert.strictEqual(yield* number("select count(*)::int from @sessions where last_accessed_at > created_at"), 20)
      yield* eventually(Effect.map(connections(name), (count) => count === 0))
      for (const attempt of [
        a.get(sessions[0]?.id ?? assert.fail()),
        a.create(alice),
        a.listForUser(alice),
        a.deleteAll
      ]) {
        assert.deepInclude(yield* Effect.flip<unknown, unknown, never>(attempt), {
          reason: "Closed",
          outcome: "NotApplied"
        })
      }
      yield* eventually(
        Effect.map(resources, (after) => [...after].every(([name, count]) => count <= (before.get(name) ?? 0)))
      )
      // Nothing comes back.
      const beats = number("select count(*)::int from @beats where beat_at > clock_timestamp() - interval '1 second'")
      yield* eventually(Effect.map(beats, (count) => count === 0))
      assert.strictEqual(yield* connections(name), 0)
    })
  )

  it.live("while PostgreSQL hangs: in time, and nothing stays behind", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const before = yield* resources
      const a = yield* build(
        PgSession.layer({ url: postgres.url, statementTimeout: "1 second", shutdownTimeout: "1 second" })
      )
      const session = yield* a.create(alice)
      yield* a.get(session.id)
      yield* postgres.pause
      const waiting = yield* Effect.forEach(
        [a.update(Session.set(session, Note, "x")), a.get(session.id, { refresh: true }), a.create(alice)],
        (effect: Effect.Effect<unknown, unknown>) => Effect.forkChild(Effect.result(effect), { startImmediately: true })
      )
      const [, millis] = yield* elapsed(a.close)
      // The shutdown timeout, and sql-pg's grace for connections that are silent.
      assert.isBelow(millis, 9_000)
      for (const fiber of waiting) assert.isTrue(Result.isFailure(yield* Fiber.join(fiber)))
      yield* eventually(
        Effect.map(resources, (after) => [...after].every(([name, count]) => count <= (before.get(name) ?? 0)))
      )
      yield* postgres.resume
    })
  )

  test(
    "behind a network that is silent: the same",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ url: proxy.url(databaseUrl), statementTimeout: "1 second", shutdownTimeout: "1 second" })
      const session = yield* a.create(alice)
      yield* a.get(session.id)
      yield* proxy.pause
      const [, millis] = yield* elapsed(a.close)
      assert.isBelow(millis, 9_000)
      yield* proxy.resume
    })
  )
})

describe("a process that runs the layer", () => {
  test(
    "ends by itself when its program is done",
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const { connections } = yield* lookAround
      const running = yield* child({ ...environment(databaseUrl, schema), RUN: "plainly" })
      yield* running.answer
      const { token } = yield* running.ask("create")
      assert.isTrue(Option.isSome(SessionId.fromString(token ?? "")))
      yield* running.ask(`use ${token}`)
      yield* running.send("end")
      const [code, millis] = yield* elapsed(running.exited)
      assert.strictEqual(code, 0, yield* running.log)
      assert.isBelow(millis, 5_000)
      assert.strictEqual(yield* connections("no such node"), 0)
    })
  )

  it.live("and when PostgreSQL hangs meanwhile", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const running = yield* child({
        ...environment(postgres.url, "public"),
        RUN: "plainly",
        SESSION_SHUTDOWN_TIMEOUT: "1 second",
        SESSION_STATEMENT_TIMEOUT: "1 second"
      })
      yield* running.answer
      const { token } = yield* running.ask("create")
      yield* running.ask(`use ${token}`)
      yield* postgres.pause
      yield* running.send("end")
      const [code, millis] = yield* elapsed(running.exited)
      assert.strictEqual(code, 0, yield* running.log)
      assert.isBelow(millis, 12_000)
      yield* postgres.resume
    })
  )
})
