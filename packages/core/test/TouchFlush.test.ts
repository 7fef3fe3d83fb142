import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as MemoryDatabase from "../src/internal/memory/MemoryDatabase.ts"
import * as MemoryStorage from "../src/internal/memory/MemoryStorage.ts"
import { NodeClock } from "../src/internal/NodeClock.ts"
import { Activity } from "../src/internal/TouchBuffer.ts"
import * as TouchFlush from "../src/internal/TouchFlush.ts"
import type { Session } from "../src/Session.ts"
import { Cache } from "../src/SessionCache.ts"
import { makeSettings, type SessionOptions } from "../src/SessionConfig.ts"
import { generate, keyOfToken } from "../src/SessionId.ts"
import { begin, isHeldUp, makeCluster, type Node, pass, settle } from "./support/Coherence.ts"

const setUp = Effect.fnUntraced(function* (options?: SessionOptions) {
  const cluster = yield* makeCluster(options)
  const scope = yield* Scope.make()
  const a = yield* Scope.provide(cluster.node("a"), scope)
  const touches = cluster.statements("touch", "a")
  const lastAccess = (session: Session) =>
    Effect.map(cluster.controls.rows, (rows) => rows.find(({ key }) => key === session.key)?.lastAccessedAt)
  return { ...cluster, a, touches, lastAccess, close: Scope.close(scope, Exit.void) }
})

const guests = (node: Node, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => node.createAnonymous({ expiresIn: "1 day" }))

const use = (node: Node, sessions: ReadonlyArray<Session>) =>
  Effect.forEach(sessions, ({ id }) => node.get(id), { discard: true })

const pending = (node: Node) => Effect.map(node.health, ({ activity }) => activity.pending)

/** As many turns of the scheduler as a loop that never waits would use for hundreds of statements. */
const manyTurns = Effect.repeat(Effect.yieldNow, { times: 2_000 })

describe("the end of a store", () => {
  it.effect("waits for a periodic flush that is under way", () =>
    Effect.gen(function* () {
      const { a, close, controls, lastAccess, touches } = yield* setUp({ lastAccessFlushInterval: "10 seconds" })
      const [session] = yield* guests(a, 1)
      assert(session !== undefined)
      yield* pass("5 seconds", 1_000)
      yield* use(a, [session])
      const pause = yield* controls.pauseBefore("touch", "a")
      yield* pass("10 seconds", 1_000)
      yield* pause.arrived
      assert.strictEqual(yield* pending(a), 0, "it is under way")
      const closing = yield* begin(close)
      assert.isTrue(isHeldUp(closing))
      yield* pause.resume
      yield* settle
      assert.isFalse(isHeldUp(closing))
      assert.strictEqual(yield* lastAccess(session), 5_000)
      assert.strictEqual(yield* touches, 1)
    })
  )

  it.effect("writes what a flush that was under way could not write", () =>
    Effect.gen(function* () {
      const { a, close, controls, lastAccess, touches } = yield* setUp({ lastAccessFlushInterval: "10 seconds" })
      const sessions = yield* guests(a, 2)
      const [early, late] = sessions
      assert(early !== undefined && late !== undefined)
      yield* pass("5 seconds", 1_000)
      yield* use(a, [early])
      const pause = yield* controls.pauseBefore("touch", "a")
      yield* pass("11 seconds", 1_000)
      yield* pause.arrived
      yield* use(a, [late])
      yield* controls.failNext("touch", { node: "a" })
      const closing = yield* begin(close)
      yield* pause.resume
      yield* Fiber.join(closing)
      assert.strictEqual(yield* lastAccess(early), 5_000)
      assert.strictEqual(yield* lastAccess(late), 16_000)
      assert.strictEqual(yield* touches, 2)
    })
  )
})

describe("flushActivity", () => {
  it.effect("returns although sessions are used all the time", () =>
    Effect.gen(function* () {
      const { a, touches } = yield* setUp()
      const sessions = yield* guests(a, 3)
      yield* use(a, sessions)
      const traffic = yield* Effect.forkChild(Effect.forever(Effect.andThen(use(a, sessions), Effect.yieldNow)))
      const flushing = yield* Effect.forkChild(a.flushActivity)
      yield* Effect.repeat(Effect.yieldNow, { times: 200 })
      assert.isFalse(isHeldUp(flushing))
      assert.strictEqual(yield* touches, 1)
      yield* Fiber.interrupt(traffic)
    })
  )

  it.effect("writes all that waited when it was asked for, in batches, although sessions are used all the time", () =>
    Effect.gen(function* () {
      const { a, lastAccess, touches } = yield* setUp({ lastAccessFlushBatchSize: 10 })
      const sessions = yield* guests(a, 25)
      yield* pass(500)
      yield* use(a, sessions)
      const [busy] = sessions
      assert(busy !== undefined)
      const traffic = yield* Effect.forkChild(Effect.forever(Effect.andThen(use(a, [busy]), Effect.yieldNow)))
      const flushing = yield* Effect.forkChild(a.flushActivity)
      yield* Effect.repeat(Effect.yieldNow, { times: 500 })
      assert.isFalse(isHeldUp(flushing))
      assert.strictEqual(yield* touches, 3)
      for (const session of sessions) assert.strictEqual(yield* lastAccess(session), 500)
      yield* Fiber.interrupt(traffic)
    })
  )

  it.effect("waits for a flush that is under way, and fails if what that could not write cannot be written", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp({ lastAccessFlushInterval: "10 seconds" })
      yield* use(a, yield* guests(a, 1))
      const pause = yield* controls.pauseBefore("touch", "a")
      yield* pass("11 seconds", 1_000)
      yield* pause.arrived
      const flushing = yield* begin(Effect.flip(a.flushActivity))
      assert.isTrue(isHeldUp(flushing))
      yield* controls.failNext("touch", { times: 2 })
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(flushing)).reason, "Unreachable")
      assert.strictEqual(yield* pending(a), 1)
    })
  )
})

describe("a full buffer", () => {
  const full = Effect.fnUntraced(function* () {
    const world = yield* setUp({ cacheCapacity: 20, lastAccessFlushBatchSize: 20 })
    const sessions = yield* guests(world.a, 20)
    yield* pass("1 second")
    return { ...world, sessions }
  })

  it.effect("is written at once, whatever is due", () =>
    Effect.gen(function* () {
      const { a, sessions, touches } = yield* full()
      yield* use(a, sessions.slice(0, 19))
      yield* settle
      assert.strictEqual(yield* touches, 0)
      yield* use(a, sessions.slice(19))
      yield* settle
      assert.strictEqual(yield* touches, 1)
      assert.strictEqual(yield* pending(a), 0)
    })
  )

  it.effect("does not hammer a database that refuses: one attempt, and one more every second", () =>
    Effect.gen(function* () {
      const { a, controls, sessions, touches } = yield* full()
      yield* controls.failNext("touch", { times: 1_000_000 })
      yield* use(a, sessions)
      yield* manyTurns
      assert.strictEqual(yield* touches, 1, "no time has passed")
      assert.strictEqual(yield* pending(a), 20)
      for (let round = 0; round < 5; round++) {
        // Uses in between change nothing: their marks wait already.
        yield* use(a, sessions)
        yield* pass(980, 490)
        assert.strictEqual(yield* touches, 1 + round)
        yield* pass(20, 20)
        yield* manyTurns
        assert.strictEqual(yield* touches, 2 + round)
      }
      assert.strictEqual((yield* a.health).activity.failures, 6)
    })
  )

  it.effect("that was refused is written a second later, and the latest use counts", () =>
    Effect.gen(function* () {
      const { a, controls, lastAccess, sessions, touches } = yield* full()
      yield* controls.failNext("touch")
      yield* use(a, sessions)
      yield* pass(500)
      yield* use(a, sessions.slice(0, 1))
      yield* pass(600)
      assert.strictEqual(yield* touches, 2)
      assert.strictEqual(yield* pending(a), 0)
      const written = yield* Effect.forEach(sessions, lastAccess)
      assert.deepStrictEqual(written, [1_500, ...Array.from({ length: 19 }, () => 1_000)])
    })
  )

  it.effect("takes in the uses of further sessions while the database refuses, without further attempts", () =>
    Effect.gen(function* () {
      const { a, controls, sessions, touches } = yield* full()
      yield* controls.failNext("touch", { times: 1_000_000 })
      yield* use(a, sessions)
      const others = yield* guests(a, 15)
      yield* use(a, others)
      yield* manyTurns
      assert.strictEqual(yield* touches, 1)
      assert.strictEqual(yield* pending(a), 35)
    })
  )

  it.effect("beyond twice its size makes further uses wait for the database, and share its statements", () =>
    Effect.gen(function* () {
      const { a, controls, sessions, touches } = yield* full()
      yield* controls.failNext("touch", { times: 1_000_000 })
      yield* use(a, sessions)
      yield* use(a, yield* guests(a, 20))
      const before = yield* touches
      const others = yield* guests(a, 10)
      yield* a.clearLocalCache
      const uses = yield* Effect.forEach(others, ({ id }) => Effect.result(a.find(id)), { concurrency: "unbounded" })
      assert.isTrue(uses.every(({ _tag }) => _tag === "Failure"))
      assert.isAtMost((yield* touches) - before, 5)
      assert.strictEqual(yield* pending(a), 40)
    })
  )
})

describe("the fiber that writes last accesses", () => {
  it.effect("is woken by a buffer that becomes full, wherever in its loop it is then", () =>
    Effect.gen(function* () {
      const settings = yield* makeSettings({ cacheCapacity: 2, lastAccessFlushBatchSize: 2 })
      const storage = MemoryStorage.make(MemoryDatabase.make(), "a")
      const isStuck = Effect.fnUntraced(function* (turns: number) {
        const cache = new Cache(settings, new NodeClock(yield* Clock.Clock))
        yield* TouchFlush.make(cache, storage, settings)
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
        for (let mark = 0; mark < 4; mark++) {
          cache.touches.queue(new Activity(keyOfToken(Redacted.value(generate()))), cache.clock.now(), Infinity)
        }
        yield* Effect.repeat(Effect.yieldNow, { times: 100 })
        yield* pass("10 millis", 5)
        return cache.touches.nextFlushAt === -Infinity
      }, Effect.scoped)
      for (let budget = 4; budget < 40; budget++) {
        for (let turns = 0; turns < 8; turns++) {
          const stuck = yield* Effect.provideService(isStuck(turns), References.MaxOpsBeforeYield, budget)
          assert.isFalse(stuck, `with ${budget} operations a turn, after ${turns} turns`)
        }
      }
    })
  )
})
