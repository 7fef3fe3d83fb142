/**
 * G11: closing the layer's scope stops intake, writes what is pending and ends
 * every fiber, within a limited time whatever the database does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Session } from "../../src/Session.ts"
import { SessionStoreUnavailable } from "../../src/SessionError.ts"
import { GroupId } from "../../src/SessionId.ts"
import * as InMemory from "../../src/internal/InMemory.ts"
import { Whereabouts } from "../../src/internal/Whereabouts.ts"
import type { Operation } from "../../src/internal/memory/MemoryFaults.ts"
import type { SessionOptions } from "../../src/SessionConfig.ts"
import { alice, begin, createNoted, makeCluster, Note, pass, settle } from "../support/Coherence.ts"

const setUp = Effect.fnUntraced(function* (options?: SessionOptions) {
  const cluster = yield* makeCluster({ maxSessionsPerUser: 10_000, ...options })
  const scope = yield* Scope.make()
  const a = yield* Scope.provide(cluster.node("a"), scope)
  return { ...cluster, a, close: Scope.close(scope, Exit.void) }
})

const all: ReadonlyArray<Operation> = [
  "load",
  "create",
  "write",
  "touch",
  "rotate",
  "delete",
  "deleteAttribute",
  "list",
  "revalidate",
  "sweep",
  "announceClear",
  "connect",
  "beat"
]

describe("after the end", () => {
  it.effect("everything is refused with Closed, and nothing reaches the database", () =>
    Effect.gen(function* () {
      const { a, close, statements } = yield* setUp()
      const session = yield* createNoted(a)
      yield* a.get(session.id)
      const changed = Session.set(session, Note, "x")
      yield* close
      const before = yield* Effect.forEach(all, (operation) => statements(operation))
      const attempts: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        a.create(alice),
        a.createAnonymous(),
        a.find(session.id),
        a.find(session.id, { touch: false }),
        a.get(session.id),
        a.get(session.id, { refresh: true }),
        a.update(changed),
        a.update(changed, { check: "none" }),
        a.modify(session.id, Session.set(Note, "x")),
        a.rotate(session.id),
        a.delete(session.id),
        a.deleteByKey(session.key),
        a.deleteAllForUser(alice),
        a.deleteAllForGroup(GroupId.make("g")),
        a.deleteAll,
        a.deleteAttributeForUser(alice, Note),
        a.listForUser(alice),
        a.clearCache,
        a.clearCacheForUser(alice),
        a.sweep,
        a.flushActivity,
        Stream.runDrain(a.watch(session.id))
      ]
      for (const attempt of attempts) {
        const error = yield* Effect.flip(attempt)
        assert.instanceOf(error, SessionStoreUnavailable)
        assert.deepInclude(error, { reason: "Closed", outcome: "NotApplied" })
        assert.include(error.message, "shut down")
      }
      assert.deepStrictEqual(yield* Effect.forEach(all, (operation) => statements(operation)), before)
      assert.lengthOf(yield* Stream.runCollect(a.events), 0)
      yield* a.health
      yield* a.clearLocalCache
    })
  )

  it.effect("no fiber beats, sweeps, flushes or listens any more", () =>
    Effect.gen(function* () {
      const { a, close, controls, statements } = yield* setUp({ cleanupInterval: "1 minute", idleTimeout: "1 minute" })
      const session = yield* createNoted(a)
      yield* a.get(session.id)
      assert.strictEqual(yield* controls.connections("a"), 1)
      yield* close
      assert.strictEqual(yield* controls.connections("a"), 0)
      const before = yield* Effect.forEach(all, (operation) => statements(operation))
      yield* TestClock.adjust("1 day")
      yield* settle
      assert.deepStrictEqual(yield* Effect.forEach(all, (operation) => statements(operation)), before)
    })
  )

  it.effect("those who follow a session or events are let go", () =>
    Effect.gen(function* () {
      const { a, close } = yield* setUp()
      const session = yield* createNoted(a)
      const watching = yield* begin(Effect.flip(Stream.runDrain(a.watch(session.id))))
      const following = yield* begin(Stream.runDrain(a.events))
      yield* close
      yield* Fiber.join(following)
      yield* pass("5 seconds")
      assert.deepInclude(yield* Fiber.join(watching), { reason: "Closed" })
      assert.strictEqual((yield* a.health).watched, 0)
    })
  )
})

describe("the end", () => {
  it.effect("comes in order: intake, updates, last accesses, connections", () =>
    Effect.gen(function* () {
      const { a, close, controls, statements } = yield* setUp()
      const session = yield* createNoted(a)
      const other = yield* createNoted(a)
      yield* a.get(other.id)
      const { id } = other
      const inMemory = () => [InMemory.memoryOf(a).find(id)?.key, InMemory.memoryOf(a).peek(id)?.key]
      assert.deepStrictEqual(inMemory(), [other.key, other.key])
      const write = yield* controls.pauseBefore("write")
      const updating = yield* begin(a.update(Session.set(session, Note, "new")))
      const queued = yield* begin(Effect.result(a.update(Session.set(session, Note, "newer"), { check: "none" })))
      const touch = yield* controls.pauseBefore("touch")
      const closing = yield* begin(close)
      assert.deepInclude(yield* Effect.flip(a.get(other.id)), { reason: "Closed" })
      assert.deepStrictEqual(inMemory(), [undefined, undefined])
      assert.strictEqual(yield* statements("touch"), 0, "updates first")
      yield* write.resume
      yield* touch.arrived
      assert.strictEqual((yield* Fiber.join(updating)).version, 2n)
      assert.strictEqual((yield* Fiber.join(queued))._tag, "Success")
      assert.strictEqual(yield* controls.connections("a"), 1, "still connected")
      assert.isUndefined(closing.pollUnsafe())
      yield* touch.resume
      assert.isDefined(Whereabouts.of(id)?.handle)
      yield* Fiber.join(closing)
      assert.strictEqual(yield* controls.connections("a"), 0)
      assert.isUndefined(Whereabouts.of(id)?.handle, "an id keeps nothing of a cache in memory that is no more")
    })
  )

  it.effect("waits for creates, rotations and deletions that have begun", () =>
    Effect.gen(function* () {
      for (const operation of ["create", "rotate", "delete"] as const) {
        const { a, close, controls } = yield* setUp()
        const session = yield* createNoted(a)
        const pause = yield* controls.pauseBefore(operation)
        const run: Record<typeof operation, Effect.Effect<unknown, unknown>> = {
          create: a.create(alice),
          rotate: a.rotate(session.id),
          delete: a.delete(session.id)
        }
        const running = yield* begin(run[operation])
        yield* pause.arrived
        const closing = yield* begin(close)
        assert.isUndefined(closing.pollUnsafe())
        yield* pause.resume
        const exit = yield* Fiber.await(running)
        assert.isTrue(Exit.isSuccess(exit), `${operation}: ${String(exit)}`)
        yield* Fiber.join(closing)
      }
    })
  )

  it.effect("comes in time although the database is silent; whoever waits has an answer", () =>
    Effect.gen(function* () {
      const { a, close, controls } = yield* setUp({ shutdownTimeout: "3 seconds" })
      const session = yield* createNoted(a)
      yield* a.get(session.id)
      yield* controls.reach("Hanging")
      const waiting = yield* Effect.forEach(
        [
          a.update(Session.set(session, Note, "x")),
          a.update(Session.set(session, Note, "y")),
          a.get(session.id, { refresh: true }),
          a.create(alice)
        ] as ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>>,
        (effect) => begin(Effect.exit(effect))
      )
      const closing = yield* begin(close)
      yield* pass(2_900)
      assert.isUndefined(closing.pollUnsafe())
      yield* pass("1 second")
      assert.isDefined(closing.pollUnsafe(), "the shutdown timeout holds")
      for (const fiber of waiting) {
        const error = Exit.findErrorOption(yield* Fiber.join(fiber))
        if (Option.isNone(error)) return assert.fail("an error, not an interruption")
        assert.instanceOf(error.value, SessionStoreUnavailable)
        assert.strictEqual(error.value.reason, "Closed")
      }
      assert.strictEqual(yield* controls.connections("a"), 0)
    })
  )

  it.effect("comes at once although nothing could be reached from the beginning", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      yield* cluster.controls.reach("Hanging")
      const scope = yield* Scope.make()
      const starting = yield* begin(Scope.provide(cluster.node("a"), scope))
      yield* pass("3 seconds")
      const a = yield* Fiber.join(starting)
      assert.isFalse((yield* a.health).synced)
      const closing = yield* begin(Scope.close(scope, Exit.void))
      yield* pass("11 seconds", 1_000)
      assert.isDefined(closing.pollUnsafe())
    })
  )
})
