/** The controls of the in-process database do what the fault tests that use them rely on. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryDatabase from "../src/internal/memory/MemoryDatabase.ts"
import * as MemoryNotifier from "../src/internal/memory/MemoryNotifier.ts"
import * as MemoryStorage from "../src/internal/memory/MemoryStorage.ts"
import { SessionNotifier } from "../src/SessionNotifier.ts"
import type { Connection } from "../src/SessionNotifier.ts"
import { SessionStorage } from "../src/SessionStorage.ts"
import {
  changesOf,
  created,
  createRequest,
  hour,
  loaded,
  only,
  tagged,
  written
} from "../src/testing/conformance/Harness.ts"

/** Two nodes on one database, and what a test does to it. */
const setUp = Effect.gen(function* () {
  const database = yield* Layer.build(MemoryDatabase.layer)
  const node = (name: string) =>
    Layer.build(
      Layer.mergeAll(MemoryStorage.layerNode(name), MemoryNotifier.layerNode(name)).pipe(
        Layer.provide(Layer.succeedContext(database))
      )
    )
  const { controls } = Context.get(database, MemoryDatabase.MemoryDatabase)
  return { a: yield* node("a"), b: yield* node("b"), controls }
})

type Node = Effect.Success<typeof setUp>["a"]

const versions = (connection: Connection, key: Parameters<typeof changesOf>[1]) =>
  Effect.map(connection.take, (notices) => changesOf(notices, key).map(({ version }) => version))

const connect = (node: Node) => Context.get(node, SessionNotifier).connect

const announced = (node: Node) => Context.get(node, SessionStorage).announceClear(undefined)

describe("MemoryDatabase", () => {
  it.effect("nodes share sessions and hear of each other", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setUp
      const connection = yield* connect(b)
      const row = yield* Effect.provide(created(), a)
      yield* Effect.provide(written(row), a)
      assert.deepStrictEqual(yield* versions(connection, row.key), [2n])
      assert.strictEqual((yield* Effect.provide(loaded(row.key), b))?.version, 2n)
    })
  )

  it.effect("held notices arrive when they are let through, one by one or all, in order", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      const [toA, toB] = [yield* connect(a), yield* connect(b)]
      const row = yield* Effect.provide(created(), a)
      yield* controls.hold("b")
      for (let round = 0; round < 4; round++) yield* Effect.provide(written(row), a)
      assert.deepStrictEqual(yield* versions(toA, row.key), [2n, 3n, 4n, 5n])
      yield* controls.step(1, "b")
      assert.deepStrictEqual(yield* versions(toB, row.key), [2n])
      yield* controls.step(2)
      assert.deepStrictEqual(yield* versions(toB, row.key), [3n, 4n])
      const waiting = yield* Effect.forkChild(versions(toB, row.key))
      yield* Effect.provide(written(row), a)
      assert.isUndefined(waiting.pollUnsafe())
      yield* controls.release("b")
      assert.deepStrictEqual(yield* Fiber.join(waiting), [5n, 6n])
    })
  )

  it.effect("a hold concerns connections to come, until all are released", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      yield* controls.hold("b")
      yield* controls.hold()
      const connection = yield* connect(b)
      yield* announced(a)
      yield* controls.release("b")
      const waiting = yield* Effect.forkChild(connection.take)
      yield* TestClock.adjust("1 second")
      assert.isUndefined(waiting.pollUnsafe())
      yield* controls.release()
      assert.deepStrictEqual(yield* Fiber.join(waiting), [{ _tag: "All" }])
    })
  )

  it.effect("a cut connection fails, with what it had not taken", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      const [toA, toB] = [yield* connect(a), yield* connect(b)]
      assert.strictEqual(yield* controls.connections(), 2)
      yield* announced(a)
      yield* controls.cut("b")
      assert.deepInclude(yield* Effect.flip(toB.take), { reason: "Unreachable" })
      assert.deepStrictEqual(yield* toA.take, [{ _tag: "All" }])
      assert.strictEqual(yield* controls.connections("b"), 0)
    })
  )

  it.effect("a statement fails before or after it is applied, on the node that is meant", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      const row = yield* Effect.provide(created(), a)
      yield* controls.failNext("write", { node: "a", times: 2 })
      assert.strictEqual(tagged(yield* Effect.provide(written(row), b), "Accepted").version, 2n)
      for (let round = 0; round < 2; round++) {
        assert.deepInclude(yield* Effect.flip(Effect.provide(written(row), a)), { outcome: "NotApplied" })
      }
      yield* controls.failNext("write", { applied: true, reason: "Timeout" })
      const error = yield* Effect.flip(Effect.provide(written(row), a))
      assert.deepInclude(error, { outcome: "Unknown", reason: "Timeout", operation: "write" })
      assert.strictEqual((yield* Effect.provide(loaded(row.key), b))?.version, 3n)
      yield* controls.failNext("load", { applied: true })
      assert.deepInclude(yield* Effect.flip(Effect.provide(loaded(row.key), b)), { outcome: "NotApplied" })
      assert.deepStrictEqual(yield* controls.count("write", "a"), { statements: 3, items: 3 })
      assert.deepStrictEqual(yield* controls.count("write"), { statements: 4, items: 4 })
    })
  )

  it.effect("a statement stops before or after it is applied, until it may go on", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      const row = yield* Effect.provide(created(), a)
      const before = yield* controls.pauseBefore("load", "a")
      const after = yield* controls.pauseAfter("load", "a")
      const late = yield* Effect.forkChild(Effect.provide(loaded(row.key), a))
      yield* before.arrived
      tagged(yield* Effect.provide(written(row), b), "Accepted")
      yield* before.resume
      yield* after.arrived
      tagged(yield* Effect.provide(written(row), b), "Accepted")
      assert.isUndefined(late.pollUnsafe())
      yield* after.resume
      assert.strictEqual((yield* Fiber.join(late))?.version, 2n)
      assert.strictEqual((yield* Effect.provide(loaded(row.key), a))?.version, 3n)
    })
  )

  it.effect("who is interrupted before a statement is applied has changed nothing", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp
      const row = yield* Effect.provide(created(), a)
      for (const [pause, version] of [
        [controls.pauseBefore, 1n],
        [controls.pauseAfter, 2n]
      ] as const) {
        const { arrived } = yield* pause("write")
        const caller = yield* Effect.forkChild(Effect.provide(written(row), a))
        yield* arrived
        yield* Fiber.interrupt(caller)
        assert.strictEqual((yield* Effect.provide(loaded(row.key), a))?.version, version)
      }
    })
  )

  it.effect("a node that cannot reach the database fails, or hangs until it can; others do not notice", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* setUp
      const row = yield* Effect.provide(created(), a)
      yield* controls.reach("Refusing", "a")
      assert.deepInclude(yield* Effect.flip(Effect.provide(loaded(row.key), a)), { reason: "Unreachable" })
      assert.deepInclude(yield* Effect.flip(connect(a)), { reason: "Unreachable" })
      assert.deepStrictEqual(yield* Effect.provide(loaded(row.key), b), row)
      yield* controls.reach("Hanging", "a")
      const hanging = yield* Effect.forkChild(Effect.provide(loaded(row.key), a))
      const given = yield* Effect.forkChild(Effect.timeoutOption(connect(a), "1 second"))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(hanging.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(given))._tag, "None")
      yield* controls.reach("Refusing", "b")
      yield* Effect.yieldNow
      assert.isUndefined(hanging.pollUnsafe())
      yield* controls.reach("Up")
      assert.deepStrictEqual(yield* Fiber.join(hanging), row)
      assert.deepStrictEqual(yield* Effect.provide(loaded(row.key), b), row)
    })
  )

  it.effect("another server can answer queries, subscriptions or both, and be in recovery", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp
      const notifier = Context.get(a, SessionNotifier)
      yield* controls.setServer({ identity: "other" }, "queries")
      assert.strictEqual((yield* notifier.beat("a", "1")).server.identity, "other")
      assert.notStrictEqual((yield* notifier.connect).server.identity, "other")
      yield* controls.setServer({ inRecovery: true })
      assert.deepInclude(yield* Effect.flip(notifier.connect), { reason: "DatabaseError" })
      assert.deepInclude(yield* Effect.flip(notifier.beat("a", "2")), { outcome: "NotApplied" })
      const { create, load } = Context.get(a, SessionStorage)
      assert.deepInclude(yield* Effect.flip(create(createRequest())), { outcome: "NotApplied" })
      assert.deepStrictEqual((yield* load([])).rows, [])
      yield* controls.setServer({ inRecovery: false })
      tagged(yield* create(createRequest()), "Created")
    })
  )

  it.effect("the database's clock is its own", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp
      const { load } = Context.get(a, SessionStorage)
      yield* controls.setClockOffset(7 * hour)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* load([])).now, 7 * hour + 1_000)
      const row = yield* Effect.provide(created({ lifetime: hour }), a)
      assert.strictEqual(row.expiresAt, 8 * hour + 1_000)
      yield* controls.setClockOffset(8 * hour)
      assert.isUndefined(yield* Effect.provide(loaded(row.key), a))
      assert.deepStrictEqual(only(yield* controls.rows), row)
    })
  )

  it.effect("anybody can forge a notice, and another node can be sweeping", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp
      const connection = yield* connect(a)
      yield* controls.forge({ _tag: "Unreadable" })
      assert.deepStrictEqual(yield* connection.take, [{ _tag: "Unreadable" }])
      const { sweep } = Context.get(a, SessionStorage)
      yield* controls.setSweeping(true)
      assert.strictEqual((yield* sweep({ after: undefined, limit: 10 }))._tag, "Busy")
      yield* controls.setSweeping(false)
      assert.strictEqual((yield* sweep({ after: undefined, limit: 10 }))._tag, "Swept")
    })
  )

  it.effect("two databases have nothing in common", () =>
    Effect.gen(function* () {
      const [first, second] = [yield* setUp, yield* setUp]
      const connection = yield* connect(second.a)
      const row = yield* Effect.provide(created(), first.a)
      tagged(yield* Effect.provide(written(row), first.a), "Accepted")
      assert.isUndefined(yield* Effect.provide(loaded(row.key), second.a))
      yield* announced(second.a)
      const notices = yield* connection.take
      assert.deepStrictEqual(notices, [{ _tag: "All" }])
    })
  )
})
