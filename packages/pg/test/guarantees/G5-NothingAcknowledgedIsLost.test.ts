/**
 * G5: a write that was acknowledged survives `kill -9` of the node and of
 * PostgreSQL; pending last-access times survive an orderly shutdown; an answer that
 * was lost is called unknown and leaves nothing stale in memory.
 */
import { Session, SessionId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { PgSession } from "../../src/PgSession.ts"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import { child, environment } from "../support/Child.ts"
import { eventually } from "../support/Faults.ts"
import { alice, build, Count, lookAround, node, Note, proxyTo, quiet, test } from "../support/Nodes.ts"
import { databaseUrl, TestDatabase } from "../support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

describe("kill -9 of PostgreSQL", () => {
  it.live("loses nothing that was acknowledged, and the nodes go on by themselves", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
      const options = {
        url: postgres.url,
        statementTimeout: "2 seconds",
        maxSessionsPerUser: 1_000,
        maxStaleness: "1 second"
      } as const
      const a = yield* build(PgSession.layer(options))
      const b = yield* build(PgSession.layer(options))
      const sessions = yield* Effect.forEach(times(8), () => a.create(alice))
      const acknowledged = new Map<string, number>()
      const created: Array<Session> = []
      let enough: () => void = () => {}
      const enoughAcknowledged = new Promise<void>((resolve) => {
        enough = resolve
      })
      const writer = (session: Session, index: number) =>
        Effect.gen(function* () {
          const sessions = index % 2 === 0 ? a : b
          while (true) {
            const saved = yield* sessions.modify(
              session.id,
              Session.modify(Count, (n) => n + 1)
            )
            acknowledged.set(session.key, yield* Session.get(saved, Count))
            created.push(yield* sessions.create(alice))
            if (created.length > 150) enough()
          }
        })
      const writers = yield* Effect.forEach(sessions, (session, index) =>
        Effect.forkChild(Effect.flip(writer(session, index)))
      )
      yield* Effect.promise(() => enoughAcknowledged)
      yield* postgres.kill
      for (const fiber of writers) assert.strictEqual((yield* Fiber.join(fiber))._tag, "SessionStoreUnavailable")
      yield* postgres.start

      const fresh = yield* build(PgSession.layer(options))
      for (const reader of [fresh, a, b]) {
        for (const { id, key } of sessions) {
          const found = yield* reader.get(id).pipe(Effect.retry({ times: 100 }))
          const count = yield* Session.get(found, Count)
          const known = acknowledged.get(key) ?? 0
          assert.isAtLeast(count, known)
          assert.isAtMost(count, known + 1, "at most the one of unknown outcome")
        }
      }
      const found = yield* Effect.forEach(created, ({ id }) => fresh.find(id), { concurrency: "unbounded" })
      assert.strictEqual(found.filter(Option.isSome).length, created.length)
      assert.isAbove(created.length, 150)
      yield* eventually(Effect.map(a.health, ({ synced }) => synced))
      yield* eventually(Effect.map(b.health, ({ synced }) => synced))
    })
  )
})

describe("kill -9 of a node", () => {
  const idOf = (token: string | undefined) => Option.getOrThrow(SessionId.fromString(token ?? ""))

  test(
    "right after it had its answer: the change is there, and other nodes know",
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const b = yield* node()
      const dying = yield* child(environment(databaseUrl, schema))
      yield* dying.answer
      const { token } = yield* dying.ask("create")
      const id = idOf(token)
      assert.strictEqual((yield* b.get(id, quiet)).version, 1n)
      yield* dying.ask(`note ${token} survives`)
      yield* dying.signal("SIGKILL")
      assert.strictEqual(yield* dying.exited, "SIGKILL")
      const { version } = yield* lookAround
      assert.strictEqual(yield* version(SessionId.key(id)), 2)
      yield* eventually(Effect.map(b.get(id, quiet), (session) => session.version === 2n))
      assert.strictEqual(yield* Session.get(yield* b.get(id), Note), "survives")
    })
  )

  test(
    "between the commit and the answer: the change is there, and other nodes know",
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const { version } = yield* lookAround
      const b = yield* node()
      const proxy = yield* proxyTo()
      const dying = yield* child(environment(proxy.url(databaseUrl), schema))
      yield* dying.answer
      const { token } = yield* dying.ask("create")
      const id = idOf(token)
      // Prepares the statement, which takes an answer.
      yield* dying.ask(`note ${token} first`)
      assert.strictEqual((yield* b.get(id, quiet)).version, 2n)
      yield* proxy.pauseAnswers
      yield* dying.send(`note ${token} second`)
      yield* eventually(Effect.map(version(SessionId.key(id)), (now) => now === 3))
      yield* dying.signal("SIGKILL")
      yield* dying.exited
      yield* proxy.reset
      yield* eventually(Effect.map(b.get(id, quiet), (session) => session.version === 3n))
      assert.strictEqual(yield* Session.get(yield* b.get(id), Note), "second")
      // Whatever it held is free: others write on.
      yield* b.modify(id, Session.set(Note, "third"))
    })
  )
})

describe("an answer that is lost", () => {
  const resets: ReadonlyArray<readonly [name: string, applied: boolean]> = [
    ["after the change was applied", true],
    ["before the change has arrived", false]
  ]
  for (const [name, applied] of resets) {
    test(
      `${name}: unknown, either state may stand, and memory says what stands`,
      Effect.gen(function* () {
        const { version } = yield* lookAround
        const proxy = yield* proxyTo()
        const a = yield* node({ url: proxy.url(databaseUrl), statementTimeout: "3 seconds" })
        const created = yield* a.create(alice)
        const session = yield* a.update(Session.set(created, Note, "old"))
        yield* a.get(session.id, quiet)
        yield* applied ? proxy.pauseAnswers : proxy.pause
        const writing = yield* Effect.forkChild(Effect.flip(a.update(Session.set(session, Note, "new"))), {
          startImmediately: true
        })
        if (applied) yield* eventually(Effect.map(version(session.key), (now) => now === 3))
        yield* Effect.andThen(proxy.reset, proxy.resume)
        const error = yield* Fiber.join(writing)
        assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
        const served = yield* a.get(session.id, quiet).pipe(Effect.retry({ times: 50 }))
        assert.strictEqual(Number(served.version), yield* version(session.key))
        assert.strictEqual(yield* Session.get(served, Note), applied ? "new" : "old")
      })
    )
  }
})

describe("an orderly shutdown", () => {
  test(
    "writes the last accesses that wait",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const a = yield* node({ maxSessionsPerUser: 100, lastAccessFlushBatchSize: 7 })
      const sessions = yield* Effect.forEach(times(30), () => a.create(alice))
      yield* Effect.sleep(20)
      const used = sessions.slice(0, 20)
      for (const { id } of used) yield* a.get(id)
      const stored = number("select count(*)::int from @sessions where last_accessed_at > created_at")
      assert.isAtMost(yield* stored, 14)
      yield* a.close
      assert.strictEqual(yield* stored, 20)
    })
  )

  test(
    "of a process that is asked to end does so, too",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const { schema } = yield* TestDatabase
      const ending = yield* child(environment(databaseUrl, schema))
      yield* ending.answer
      const { token } = yield* ending.ask("create")
      yield* Effect.sleep(20)
      yield* ending.ask(`use ${token}`)
      const stored = number("select count(*)::int from @sessions where last_accessed_at > created_at")
      assert.strictEqual(yield* stored, 0)
      yield* ending.signal("SIGTERM")
      yield* ending.exited
      assert.strictEqual(yield* stored, 1)
    })
  )
})
