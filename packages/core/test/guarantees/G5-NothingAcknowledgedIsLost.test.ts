/**
 * G5: what was acknowledged is there; what is unknown is called so, and leaves
 * nothing stale in memory. Here with answers that are lost at will; deaths of
 * processes are in the suite on PostgreSQL.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { FailureOptions, Operation } from "../../src/internal/memory/MemoryFaults.ts"
import { Session } from "../../src/Session.ts"
import { SessionStoreUnavailable } from "../../src/SessionError.ts"
import type { SessionId } from "../../src/SessionId.ts"
import type { Sessions } from "../../src/SessionStore.ts"
import {
  alice,
  begin,
  bob,
  type Cluster,
  createNoted,
  makeCluster,
  Note,
  noteOn,
  pass,
  quiet,
  settle
} from "../support/Coherence.ts"

/** What stands in the database of a session. */
const stands = (cluster: Cluster) => Effect.map(cluster.controls.rows, ([row]) => row?.attributes.get("note")?.value)

const changes: ReadonlyArray<
  readonly [operation: Operation, run: (sessions: Sessions, session: Session) => Effect.Effect<unknown, unknown>]
> = [
  ["write", (sessions, session) => sessions.update(Session.set(session, Note, "new"))],
  ["rotate", (sessions, { id }) => sessions.rotate(id)],
  ["delete", (sessions, { id }) => sessions.delete(id)],
  ["delete", (sessions, { key }) => sessions.deleteByKey(key)],
  ["delete", (sessions) => sessions.deleteAllForUser(alice)],
  ["delete", (sessions) => sessions.deleteAll],
  ["deleteAttribute", (sessions) => sessions.deleteAttributeForUser(alice, Note)]
]

describe("an answer that is lost", () => {
  it.effect.each(changes.map(([operation, run], index) => ({ operation, run, index })))(
    "is an unknown outcome, and memory says what the database says: $operation $index",
    ({ operation, run }) =>
      Effect.gen(function* () {
        for (const applied of [true, false]) {
          const cluster = yield* makeCluster()
          const a = yield* cluster.node("a")
          const session = yield* createNoted(a)
          yield* a.get(session.id, quiet)
          const failure: FailureOptions = { applied, node: "a" }
          // Not even its own notice arrives: memory must not depend on it.
          yield* cluster.controls.hold("a")
          yield* cluster.controls.failNext(operation, failure)
          const before = yield* cluster.statements(operation)
          const error = yield* Effect.flip(run(a, session))
          assert.instanceOf(error, SessionStoreUnavailable)
          assert.strictEqual(error.outcome, applied ? "Unknown" : "NotApplied")
          assert.strictEqual(yield* cluster.statements(operation), before + 1, "never sent twice")
          if (applied) assert.include(error.message, "unknown whether the change was applied")
          const [row] = yield* cluster.controls.rows
          const served = Option.getOrUndefined(yield* a.find(session.id, quiet))
          assert.strictEqual(served?.version, row?.version)
          assert.deepStrictEqual(served?.attributeNames ?? [], [...(row?.attributes.keys() ?? [])])
        }
      })
  )

  it.effect("of a create: nobody has the id, and the key is not remembered", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      yield* cluster.controls.failNext("create", { applied: true })
      const error = yield* Effect.flip(a.create(alice))
      assert.deepInclude(error, { reason: "Unreachable", outcome: "Unknown" })
      assert.strictEqual((yield* a.health).cache.size, 0)
      assert.lengthOf(yield* a.listForUser(alice), 1)
    })
  )

  it.effect("one of many in a batch: each caller learns its own, and the others' entries are not stale", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxSessionsPerUser: 100 })
      const a = yield* cluster.node("a")
      const sessions = yield* Effect.forEach(Array.from({ length: 15 }), () => createNoted(a))
      const pause = yield* cluster.controls.pauseBefore("write")
      const first = yield* begin(a.create(bob).pipe(Effect.flatMap((s) => a.update(Session.set(s, Note, "first")))))
      const rest = yield* begin(
        Effect.forEach(sessions, (session) => Effect.flip(a.update(Session.set(session, Note, "new"))), {
          concurrency: "unbounded"
        })
      )
      yield* cluster.controls.failNext("write", { applied: false })
      yield* cluster.controls.failNext("write", { applied: true })
      yield* pause.resume
      yield* settle
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      for (const error of yield* Fiber.join(rest)) assert.deepInclude(error, { outcome: "Unknown" })
      for (const { id } of sessions) assert.strictEqual(yield* noteOn(a, id), "new")
    })
  )
})

describe("a caller that goes away", () => {
  it.effect("does not stop its write: it is applied, and memory knows", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const session = yield* createNoted(a)
      for (const when of [cluster.controls.pauseBefore, cluster.controls.pauseAfter]) {
        const current = yield* a.get(session.id)
        const text = `written at ${current.version}`
        const pause = yield* when("write")
        const writing = yield* begin(a.update(Session.set(current, Note, text)))
        yield* pause.arrived
        yield* Fiber.interrupt(writing)
        yield* pause.resume
        yield* settle
        assert.strictEqual(yield* stands(cluster), JSON.stringify(text))
        assert.strictEqual(yield* noteOn(a, session.id), text)
      }
    })
  )

  it.effect("does not stop its rotation halfway", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const session = yield* createNoted(a)
      const pause = yield* cluster.controls.pauseBefore("rotate")
      const rotating = yield* begin(a.rotate(session.id))
      yield* pause.arrived
      yield* Fiber.interrupt(rotating)
      yield* pause.resume
      yield* settle
      // The old id lives on for its grace; whoever lost the new one can still log in again.
      assert.strictEqual((yield* a.get(session.id, quiet)).version, 2n)
      yield* pass("10 seconds")
      assert.isTrue(Option.isNone(yield* a.find(session.id, quiet)))
    })
  )
})

describe("an orderly shutdown", () => {
  it.effect("writes the last accesses that wait", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxSessionsPerUser: 100, lastAccessFlushBatchSize: 7 })
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a"), scope)
      const sessions = yield* Effect.forEach(Array.from({ length: 50 }), () => createNoted(a))
      yield* TestClock.adjust("5 seconds")
      yield* settle
      const used: Array<SessionId> = []
      for (const { id } of sessions.slice(0, 6)) {
        yield* a.get(id)
        used.push(id)
      }
      assert.strictEqual((yield* a.health).activity.pending, 6)
      assert.strictEqual(yield* cluster.statements("touch"), 0)
      yield* Scope.close(scope, Exit.void)
      const rows = yield* cluster.controls.rows
      assert.strictEqual(rows.filter(({ lastAccessedAt }) => lastAccessedAt === 5_000).length, used.length)
      assert.strictEqual(rows.filter(({ lastAccessedAt }) => lastAccessedAt === 0).length, 50 - used.length)
    })
  )

  it.effect("answers every update that was accepted, and what it answered stands", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxSessionsPerUser: 100 })
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a"), scope)
      const sessions = yield* Effect.forEach(Array.from({ length: 15 }), () => createNoted(a))
      const pause = yield* cluster.controls.pauseBefore("write")
      const updates = yield* Effect.forEach(sessions, (session) =>
        begin(Effect.result(a.update(Session.set(session, Note, "new"))))
      )
      const closing = yield* begin(Scope.close(scope, Exit.void))
      assert.isUndefined(closing.pollUnsafe(), "it waits for them")
      yield* pause.resume
      yield* Fiber.join(closing)
      const results = yield* Effect.forEach(updates, Fiber.join)
      assert.isTrue(results.every((result) => result._tag === "Success"))
      for (const row of yield* cluster.controls.rows) assert.strictEqual(row.attributes.get("note")?.value, '"new"')
    })
  )

  it.effect("that cannot write says how much is lost", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a"), scope)
      const { id } = yield* createNoted(a)
      yield* a.get(id)
      yield* cluster.controls.reach("Refusing")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* a.health).activity.pending, 1)
    })
  )
})
