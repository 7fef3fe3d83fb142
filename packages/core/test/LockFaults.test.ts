/** Orders of events that go against the locks: clocks that are set, answers that come late, notices without end, names without end. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { queryObjects } from "node:v8"
import { LeaseImpl } from "../src/internal/lock/Lease.ts"
import { WaitQueue } from "../src/internal/lock/WaitQueue.ts"
import * as MemoryStorage from "../src/internal/memory/MemoryStorage.ts"
import { SessionKey } from "../src/SessionId.ts"
import { SessionStorage } from "../src/SessionStorage.ts"
import { created } from "../src/testing/conformance/Harness.ts"
import { elapse, type LockCluster, makeLockCluster, settle } from "./support/Locking.ts"

const forever = { wait: "forever" } as const
const hour = 3_600_000

const storageIn = ({ database }: LockCluster) => MemoryStorage.make(database, "a")

/** A session that lives for long. */
const sessionIn = (cluster: LockCluster) =>
  Effect.map(Effect.provideService(created(), SessionStorage, storageIn(cluster)), ({ key }) => key)

describe("a clock of the database that is set back", () => {
  it.effect("keeps no lock that was released", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      for (const back of [1, hour]) {
        yield* cluster.controls.setClockOffset(back)
        yield* a.withLock("x", () => Effect.void)
        yield* cluster.controls.setClockOffset(0)
        yield* Effect.scoped(b.tryAcquire("x"))
      }
    })
  )

  it.effect("keeps it no longer than a turn for a waiter that has crashed", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const [a, b, c] = [yield* cluster.node("a"), yield* cluster.node("b"), yield* cluster.node("c")]
      yield* cluster.controls.setClockOffset(hour)
      const scope = yield* Scope.make()
      yield* Scope.provide(a.acquire("x", { leaseTime: "2 hours" }), scope)
      yield* Effect.forkChild(b.withLock("x", () => Effect.void, forever))
      yield* settle
      yield* cluster.controls.reach("Hanging", "b")
      yield* Scope.close(scope, Exit.void)
      yield* cluster.controls.setClockOffset(0)
      const fiber = yield* Effect.forkChild(c.withLock("x", () => Effect.void, forever))
      yield* elapse(1_000)
      assert.isDefined(fiber.pollUnsafe())
      yield* cluster.controls.reach("Up", "b")
    })
  )

  it.effect("does not hide from the next node that the one before it went away", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const [a, b, c] = [yield* cluster.node("a"), yield* cluster.node("b"), yield* cluster.node("c")]
      yield* cluster.controls.setClockOffset(100)
      const scope = yield* Scope.make()
      yield* Scope.provide(a.acquire("x", { leaseTime: "2 hours" }), scope)
      const first = yield* Effect.forkChild(b.withLock("x", () => Effect.void, forever))
      yield* settle
      const second = yield* Effect.forkChild(c.withLock("x", () => Effect.void, forever))
      yield* settle
      yield* cluster.controls.hold()
      yield* Scope.close(scope, Exit.void)
      yield* cluster.controls.setClockOffset(0)
      yield* Fiber.interrupt(first)
      yield* settle
      yield* cluster.controls.release()
      yield* settle
      assert.isDefined(second.pollUnsafe())
    })
  )

  it.effect("does not let a former holder's slot outlast a present one's where there are fewer permits", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const lease = yield* a.acquire("x", { permits: 3, leaseTime: "2 hours" })
          yield* cluster.controls.setClockOffset(hour)
          yield* a.withLock("x", () => a.withLock("x", () => Effect.void, { permits: 3 }), { permits: 3 })
          yield* cluster.controls.setClockOffset(0)
          const next = yield* a.acquire("x", { permits: 2 })
          const [row] = yield* cluster.controls.locks
          assert.sameMembers(row?.slots.map(({ token }) => token) ?? [], [next.token, lease.token])
        })
      )
    })
  )
})

describe("a clock of the database that is set forward", () => {
  it.effect("makes a lease shorter for its holder, too, as soon as that hears of it", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const acquired = yield* Deferred.make<Effect.Effect<number>>()
      const holder = yield* Effect.forkChild(
        Effect.flip(
          a.withLock(
            "x",
            (lease) =>
              Effect.andThen(Deferred.succeed(acquired, Effect.map(lease.remaining, Duration.toMillis)), Effect.never),
            { leaseTime: "60 seconds", heartbeatInterval: "Infinity" }
          )
        )
      )
      const remaining = yield* Deferred.await(acquired)
      assert.isAbove(yield* remaining, 59_000)
      yield* cluster.controls.setClockOffset(40_000)
      // As a beat does that finds the clock changed: notices count as missed.
      yield* cluster.controls.cut("a")
      yield* elapse(200)
      assert.isAtMost(yield* remaining, 20_000)
      yield* cluster.controls.reach("Hanging", "a")
      yield* elapse(19_700)
      assert.strictEqual((yield* Fiber.join(holder))._tag, "LockLost")
      assert.strictEqual((yield* Effect.flip(Effect.scoped(b.tryAcquire("x"))))._tag, "LockAlreadyHeld")
      yield* elapse(100)
      yield* Effect.scoped(b.tryAcquire("x"))
      yield* cluster.controls.reach("Up", "a")
    })
  )
})

describe("an answer that comes late", () => {
  it.effect("later than the lease: the work does not begin", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const pause = yield* cluster.controls.pauseAfter("acquireLock", "a")
      let began = false
      const work = Effect.sync(() => {
        began = true
      })
      const fiber = yield* Effect.forkChild(Effect.flip(a.withLock("x", () => work, { leaseTime: "1 second" })))
      yield* pause.arrived
      yield* elapse(1_000)
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
      assert.isFalse(began)
      assert.deepStrictEqual(yield* a.health, { held: 0, waiting: 0 })
    })
  )
})

describe("notices without end", () => {
  it.effect("cost one question at a time for each lock that is tied to a session, and the last one is heeded", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const session = yield* sessionIn(cluster)
      const holder = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => Effect.never, { session, leaseTime: "1 hour" }))
      )
      yield* settle
      const pause = yield* cluster.controls.pauseAfter("extendLock", "a")
      for (let index = 0; index < 1_000; index++) yield* cluster.controls.forge({ _tag: "All" })
      yield* pause.arrived
      yield* settle
      assert.strictEqual(yield* cluster.statements("extendLock", "a"), 1)
      yield* pause.resume
      yield* settle
      assert.strictEqual(yield* cluster.statements("extendLock", "a"), 2)
      assert.isUndefined(holder.pollUnsafe())

      // What is said while the question is on its way may be newer than its answer.
      const again = yield* cluster.controls.pauseAfter("extendLock", "a")
      yield* cluster.controls.forge({ _tag: "All" })
      yield* again.arrived
      yield* storageIn(cluster).delete({ _tag: "Session", key: session, proof: undefined })
      yield* again.resume
      yield* settle
      assert.isDefined(holder.pollUnsafe())
    })
  )
})

describe("names without end", () => {
  it.effect("leave nothing in the node's memory, whatever became of their locks", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const kinds = [WaitQueue, LeaseImpl]
      for (let index = 0; index < 100; index++) {
        const name = `name ${index}`
        const scope = yield* Scope.make()
        yield* Scope.provide(a.acquire(name, { leaseTime: "1 minute" }), scope)
        const options = [
          forever,
          { wait: "10 millis" },
          { wait: "none" },
          { wait: "forever", session: SessionKey.make("A".repeat(22)) }
        ] as const
        const fibers = yield* Effect.forEach(options, (each) =>
          Effect.forkChild(Effect.result(b.withLock(name, () => Effect.void, each)))
        )
        const gone = yield* Effect.forkChild(b.withLock(name, () => Effect.void, forever))
        yield* settle
        yield* Fiber.interrupt(gone)
        if (index === 0) for (const kind of kinds) assert.isAtLeast(Number(queryObjects(kind)), 1, kind.name)
        if (index % 3 === 0) yield* cluster.controls.failNext("releaseLock", { node: "a" })
        if (index % 5 === 0) yield* elapse(10)
        if (index % 7 === 0) yield* elapse(70_000, 10_000)
        yield* Scope.close(scope, Exit.void)
        yield* elapse(20)
        yield* Fiber.joinAll(fibers)
      }
      yield* elapse(5_000, 500)
      for (const node of [a, b]) assert.deepStrictEqual(yield* node.health, { held: 0, waiting: 0 })
      assert.deepStrictEqual(
        (yield* cluster.controls.locks).filter(({ queue }) => queue.length > 0),
        []
      )
      // The last ones may still be on some stack.
      for (const kind of kinds) assert.isAtMost(Number(queryObjects(kind)), 5, kind.name)
    })
  )

  it.effect("leave rows that go when a node starts: processes may be shorter than the interval of removals", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster({ cleanupInterval: "7 days" })
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a"), scope)
      for (let index = 0; index < 20; index++) yield* a.withLock(`name ${index}`, () => Effect.void)
      yield* Scope.close(scope, Exit.void)
      yield* elapse(86_400_000, hour)
      yield* cluster.node("b")
      yield* settle
      assert.deepStrictEqual(yield* cluster.controls.locks, [])
    })
  )
})
