/** Leases, waiting and releasing, in an in-process database under a test clock. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { SessionLocks } from "../src/SessionLocks.ts"
import { SessionStore } from "../src/SessionStore.ts"
import { skewedClock } from "./support/Coherence.ts"
import { elapse, makeLockCluster, settle } from "./support/Locking.ts"

const failureOf = <A, E>(effect: Effect.Effect<A, E>) => Effect.flip(effect)

/** Acquires in a scope of its own, which the result closes. */
const held = (locks: SessionLocks["Service"], resource: string, options = {}) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const lease = yield* Scope.provide(locks.acquire(resource, options), scope)
    return { lease, close: Scope.close(scope, Exit.void) }
  })

describe("acquiring", () => {
  it.effect("takes one statement when the lock is free, one to release it, and hands out growing tokens", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const first = yield* locks.withLock("x", (lease) => Effect.succeed(lease.token))
      const second = yield* locks.withLock("x", (lease) => Effect.succeed(lease.token), { wait: "forever" })
      assert.isTrue(second > first)
      assert.strictEqual(yield* cluster.statements("acquireLock"), 2)
      assert.strictEqual(yield* cluster.statements("releaseLock"), 2)
      assert.strictEqual(yield* cluster.statements("leaveLock"), 0)
      assert.strictEqual(yield* cluster.statements("extendLock"), 0)
    })
  )

  it.effect("fails at once when another node holds it, and says which one, and for how long", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      yield* held(a, "x", { leaseTime: "30 seconds" })
      yield* TestClock.adjust("1 second")
      const error = yield* Effect.flip(Effect.scoped(b.tryAcquire("x")))
      assert(error._tag === "LockAlreadyHeld")
      assert.strictEqual(error.node, "a")
      assert.strictEqual(Duration.toMillis(error.remaining), 29_000)
      assert.include(error.message, "29s")
    })
  )

  it.effect("is not re-entrant", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const error = yield* failureOf(locks.withLock("x", () => locks.withLock("x", () => Effect.void)))
      assert.strictEqual(error._tag, "LockAlreadyHeld")
    })
  )

  it.effect("any text is a name, and different names are different locks", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const names = ["", "x", "x\u0000", "\ud800", "\udfff", "x".repeat(300), "x".repeat(301), "#x", ".x"]
      yield* Effect.scoped(
        Effect.gen(function* () {
          for (const name of names) yield* locks.acquire(name)
          for (const name of names) {
            assert.strictEqual((yield* Effect.flip(locks.acquire(name)))._tag, "LockAlreadyHeld")
          }
        })
      )
      for (const { key } of yield* cluster.controls.locks) assert.isAtMost(key.length, 278)
    })
  )

  it.effect("permits let so many hold it at once", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const [first] = [yield* held(locks, "x", { permits: 2 }), yield* held(locks, "x", { permits: 2 })]
      assert.strictEqual((yield* failureOf(Effect.scoped(locks.acquire("x", { permits: 2 }))))._tag, "LockAlreadyHeld")
      yield* first.close
      yield* Effect.scoped(locks.acquire("x", { permits: 2 }))
    })
  )

  it.effect("a lost answer is asked for again, and the grant is the same", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      yield* cluster.controls.failNext("acquireLock", { applied: true, times: 2 })
      const fiber = yield* Effect.forkChild(locks.withLock("x", (lease) => Effect.succeed(lease.token)))
      yield* elapse(50, 1)
      assert.strictEqual(yield* Fiber.join(fiber), 1n)
      assert.strictEqual(yield* cluster.statements("acquireLock"), 3)
    })
  )

  it.effect("after maxRetries the failure is the caller's, and what may have been granted is freed", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      yield* cluster.controls.failNext("acquireLock", { applied: true, times: 3 })
      const fiber = yield* Effect.forkChild(Effect.flip(locks.withLock("x", () => Effect.void)))
      yield* elapse(50, 1)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "SessionStoreUnavailable")
      yield* settle
      yield* locks.withLock("x", () => Effect.void)
    })
  )

  it.effect("an interrupted caller leaves no lock behind, before, while and after the database grants it", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      for (const when of ["pauseBefore", "pauseAfter"] as const) {
        for (const wait of ["none", "forever"] as const) {
          const pause = yield* cluster.controls[when]("acquireLock", "a")
          const fiber = yield* Effect.forkChild(a.withLock("x", () => Effect.never, { wait }))
          yield* pause.arrived
          yield* Fiber.interrupt(fiber)
          yield* pause.resume
          yield* settle
          yield* b.withLock("x", () => Effect.void)
          const [lock] = yield* cluster.controls.locks
          assert.deepStrictEqual(lock?.queue, [])
        }
      }
      const fiber = yield* Effect.forkChild(a.withLock("x", () => Effect.never))
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* b.withLock("x", () => Effect.void)
    })
  )
})

describe("a lease", () => {
  it.effect("is kept by heartbeats for as long as its holder works, and then released", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const done = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        a.withLock("x", () => Deferred.await(done), { leaseTime: "3 seconds", heartbeatInterval: "1 second" })
      )
      yield* settle
      for (let round = 0; round < 20; round++) {
        yield* elapse(1_000)
        assert.strictEqual((yield* failureOf(Effect.scoped(b.tryAcquire("x"))))._tag, "LockAlreadyHeld")
      }
      assert.strictEqual(yield* cluster.statements("extendLock"), 20)
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(fiber)
      yield* Effect.scoped(b.tryAcquire("x"))
    })
  )

  it.effect("is released however the work ends", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const end = (work: Effect.Effect<never, string>) => Effect.exit(locks.withLock("x", () => work))
      for (const work of [Effect.fail("no"), Effect.die("bug"), Effect.interrupt]) {
        assert.isTrue(Exit.isFailure(yield* end(work)))
      }
      yield* Effect.exit(
        locks.withLock("x", (): Effect.Effect<void> => {
          throw new Error("before there is an effect")
        })
      )
      yield* locks.withLock("x", () => Effect.void)
    })
  )

  it.effect("says for how long it can be relied upon, can be extended, and never becomes shorter", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const { lease } = yield* held(locks, "x", { leaseTime: "10 seconds", heartbeatInterval: "Infinity" })
      const remaining = Effect.map(lease.remaining, Duration.toMillis)
      assert.strictEqual(yield* remaining, 9_900)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* remaining, 5_900)
      yield* lease.extend("60 seconds")
      assert.strictEqual(yield* remaining, 59_400)
      yield* lease.extend("1 second")
      assert.isAtLeast(yield* remaining, 59_400)
    })
  )

  it.effect("counts an extension from before it was asked for, however long the answer takes", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const locks = yield* cluster.node("a")
      const { lease } = yield* held(locks, "x", { leaseTime: "10 seconds", heartbeatInterval: "Infinity" })
      const pause = yield* cluster.controls.pauseAfter("extendLock", "a")
      const extension = yield* Effect.forkChild(lease.extend("60 seconds"))
      yield* pause.arrived
      yield* elapse(4_000)
      yield* pause.resume
      yield* Fiber.join(extension)
      assert.strictEqual(Duration.toMillis(yield* lease.remaining), 60_000 - 600 - 4_000)
    })
  )

  it.effect("can be released early, again and again, and then neither be extended nor lost", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { close, lease } = yield* held(a, "x")
      yield* lease.release
      yield* lease.release
      const other = yield* held(b, "x")
      yield* lease.release
      yield* close
      assert.strictEqual(yield* cluster.statements("releaseLock"), 1)
      assert.strictEqual((yield* failureOf(lease.extend("1 second")))._tag, "LockLost")
      assert.strictEqual(Duration.toMillis(yield* lease.remaining), 0)
      yield* other.lease.extend("1 minute")
    })
  )

  it.effect("is lost when the database is away for too long: the work is interrupted before the lease ends there", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      let stoppedAt: number | undefined
      const clock = yield* TestClock.testClockWith(Effect.succeed)
      const work = Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          stoppedAt = clock.currentTimeMillisUnsafe()
        })
      )
      const fiber = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => work, { leaseTime: "3 seconds", heartbeatInterval: "1 second" }))
      )
      yield* settle
      yield* elapse(2_500)
      yield* cluster.controls.reach("Hanging", "a")
      const [row] = yield* cluster.controls.locks
      const end = row?.slots[0]?.until ?? 0
      yield* elapse(4_000, 10)
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "LockLost")
      assert.strictEqual(error.reason, "Expired")
      assert.isBelow(stoppedAt ?? Infinity, end)
      assert.isAbove(stoppedAt ?? 0, end - 200)
      yield* cluster.controls.reach("Up", "a")
      yield* settle
    })
  )

  it.effect("that was lost because answers were lost is freed in the database, too", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      yield* cluster.controls.failNext("extendLock", { applied: true, times: 1_000 })
      const fiber = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => Effect.never, { leaseTime: "3 seconds", heartbeatInterval: "1 second" }))
      )
      yield* elapse(3_000)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
      // The last heartbeat had extended it by three seconds.
      yield* Effect.scoped(b.tryAcquire("x"))
    })
  )

  it.effect("heartbeats that fail are repeated in time", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const fiber = yield* Effect.forkChild(
        a.withLock("x", () => Effect.sleep("20 seconds"), { leaseTime: "3 seconds", heartbeatInterval: "1 second" })
      )
      yield* settle
      for (let round = 0; round < 7; round++) {
        yield* cluster.controls.reach("Refusing", "a")
        yield* elapse(1_800)
        yield* cluster.controls.reach("Up", "a")
        yield* elapse(1_200)
      }
      yield* Fiber.join(fiber)
    })
  )

  it.effect("is lost when the database says so, at the next heartbeat", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const fiber = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => Effect.never, { leaseTime: "30 seconds", heartbeatInterval: "1 second" }))
      )
      yield* settle
      yield* cluster.controls.setClockOffset(60_000)
      yield* elapse(1_000)
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "LockLost")
      assert.strictEqual(error.reason, "Ended")
    })
  )

  it.effect("is asked about as soon as notices are heard again, and need not wait for its heartbeat to be lost", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const fiber = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => Effect.never, { leaseTime: "1 hour", heartbeatInterval: "10 minutes" }))
      )
      yield* settle
      // As a server does that lacks the last commits.
      yield* cluster.controls.setClockOffset(7_200_000)
      yield* cluster.controls.cut("a")
      yield* elapse(200)
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
    })
  )

  it.effect("work that succeeds after the lease has ended has not succeeded", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const clock = yield* skewedClock
      const a = yield* cluster.node("a", { clock })
      // No timer fires in between, as in a machine that sleeps: only its clock says how late it is.
      const error = yield* Effect.flip(
        a.withLock("x", () => Effect.andThen(clock.setWall(2_000), TestClock.adjust(1)), { leaseTime: "1 second" })
      )
      assert.strictEqual(error._tag, "LockLost")
    })
  )

  it.effect("waits for the work to stop before it says that it is lost", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const events: Array<string> = []
      const work = Effect.onInterrupt(Effect.never, () =>
        Effect.andThen(
          Effect.yieldNow,
          Effect.sync(() => void events.push("stopped"))
        )
      )
      const fiber = yield* Effect.forkChild(
        Effect.flip(a.withLock("x", () => work, { leaseTime: "1 second", heartbeatInterval: "Infinity" })).pipe(
          Effect.tap(() => Effect.sync(() => void events.push("told")))
        )
      )
      yield* settle
      yield* elapse(1_000)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(events, ["stopped", "told"])
    })
  )
})

describe("waiting", () => {
  it.effect("is for so many of a node at once; one more is refused at once", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      yield* held(a, "x")
      const wait = a.withLock("x", () => Effect.void, { wait: "forever" })
      const fibers = yield* Effect.forEach(Array.from({ length: 10_000 }), () =>
        Effect.forkChild(wait, { startImmediately: true })
      )
      assert.strictEqual((yield* a.health).waiting, 10_000)
      const refused = yield* Effect.forkChild(Effect.flip(wait), { startImmediately: true })
      const outcome = refused.pollUnsafe()
      assert(outcome?._tag === "Success")
      assert.deepInclude(outcome.value, { reason: "Overloaded", outcome: "NotApplied" })
      yield* Fiber.interruptAll(fibers)
      assert.strictEqual((yield* a.health).waiting, 0)
    })
  )

  it.effect("for so long: LockTimeout says how long, and who held it", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      yield* held(a, "x")
      const fiber = yield* Effect.forkChild(Effect.flip(b.withLock("x", () => Effect.void, { wait: "2 seconds" })))
      yield* elapse(1_950)
      assert.isUndefined(fiber.pollUnsafe())
      yield* elapse(50)
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "LockTimeout")
      assert.strictEqual(error.node, "a")
      yield* settle
      assert.deepStrictEqual((yield* cluster.controls.locks)[0]?.queue, [])
      const soon = yield* failureOf(b.withLock("x", () => Effect.void, { wait: 0 }))
      assert.strictEqual(soon._tag, "LockTimeout")
      assert.strictEqual((yield* b.health).waiting, 0)
    })
  )

  it.effect("a release wakes the next at once, without polling", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x")
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* elapse(8_000)
      assert.strictEqual(yield* cluster.statements("acquireLock", "b"), 1)
      yield* first.close
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual(yield* cluster.statements("acquireLock", "b"), 2)
    })
  )

  it.effect("waiters of a node are served in the order of their arrival, and nodes take turns", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const nodes = [yield* cluster.node("a"), yield* cluster.node("b"), yield* cluster.node("c")]
      const order: Array<string> = []
      const fibers: Array<Fiber.Fiber<void, unknown>> = []
      const first = yield* held(nodes[0] ?? assert.fail(), "x")
      for (const [index, locks] of nodes.entries()) {
        for (let number = 0; number < 20; number++) {
          const work = Effect.andThen(
            Effect.sync(() => void order.push(`${index}:${number}`)),
            Effect.yieldNow
          )
          fibers.push(yield* Effect.forkChild(locks.withLock("x", () => work, { wait: "forever" })))
          yield* settle
        }
      }
      yield* first.close
      for (const fiber of fibers) yield* Fiber.join(fiber)
      const expected = Array.from({ length: 20 }, (_, number) => [`0:${number}`, `1:${number}`, `2:${number}`]).flat()
      assert.deepStrictEqual(order, expected)
      // Everybody asked once when it came first, and each hand-over took one statement more.
      assert.isAtMost(yield* cluster.statements("acquireLock"), 1 + 60 + 3)
    })
  )

  it.effect("who tries without waiting does not overtake the waiters of its node", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x")
      const waiter = yield* Effect.forkChild(b.withLock("x", () => Effect.never, { wait: "forever" }))
      yield* settle
      yield* cluster.controls.hold("b")
      yield* first.close
      assert.strictEqual((yield* failureOf(Effect.scoped(b.tryAcquire("x"))))._tag, "LockAlreadyHeld")
      yield* cluster.controls.release("b")
      yield* settle
      assert.strictEqual((yield* b.health).held, 1)
      yield* Fiber.interrupt(waiter)
    })
  )

  it.effect("the lock of a node that crashed is had when its lease ends", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      yield* held(a, "x", { leaseTime: "5 seconds" })
      yield* cluster.controls.reach("Hanging", "a")
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* elapse(4_950)
      assert.isUndefined(fiber.pollUnsafe())
      yield* elapse(200, 10)
      assert.isDefined(fiber.pollUnsafe())
      yield* cluster.controls.reach("Up", "a")
    })
  )

  it.effect("a node that crashed while it waited holds nobody up for longer than its turn", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const [a, b, c] = [yield* cluster.node("a"), yield* cluster.node("b"), yield* cluster.node("c")]
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      const fiber = yield* Effect.forkChild(c.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* cluster.controls.reach("Hanging", "b")
      yield* first.close
      yield* elapse(1_000)
      assert.isDefined(fiber.pollUnsafe())
      yield* cluster.controls.reach("Up", "b")
    })
  )

  it.effect("where notices are not heard the lock is asked for from time to time", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b", { listens: false })
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* elapse(60_000, 100)
      const asked = yield* cluster.statements("acquireLock", "b")
      assert.isAtLeast(asked, 50)
      assert.isAtMost(asked, 150)
      yield* first.close
      yield* elapse(1_100)
      assert.isDefined(fiber.pollUnsafe())
    })
  )

  it.effect("a listener that was cut hears again, and nothing is missed", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* cluster.controls.hold("b")
      yield* first.close
      yield* cluster.controls.cut("b")
      yield* cluster.controls.release("b")
      yield* elapse(200)
      assert.isDefined(fiber.pollUnsafe())
    })
  )

  it.effect("a notice that overtakes the answer is not forgotten", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const pause = yield* cluster.controls.pauseAfter("acquireLock", "b")
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* pause.arrived
      yield* first.close
      yield* settle
      yield* pause.resume
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
    })
  )

  it.effect("a waiter that goes away makes room, and leaves nothing", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const fibers = []
      for (let index = 0; index < 3; index++) {
        fibers.push(yield* Effect.forkChild(b.withLock("x", () => Effect.succeed(index), { wait: "forever" })))
        yield* settle
      }
      const [one, two, three] = fibers
      assert(one !== undefined && two !== undefined && three !== undefined)
      yield* Fiber.interrupt(two)
      yield* Fiber.interrupt(one)
      yield* first.close
      yield* settle
      assert.strictEqual(yield* Fiber.join(three), 2)
      const gone = yield* Effect.forkChild(b.withLock("y", () => Effect.void, { wait: "forever" }))
      yield* Fiber.join(gone)
      const other = yield* held(a, "x")
      const last = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* Fiber.interrupt(last)
      yield* settle
      assert.deepStrictEqual(
        (yield* cluster.controls.locks).flatMap(({ queue }) => queue),
        []
      )
      assert.deepStrictEqual(yield* b.health, { held: 0, waiting: 0 })
      yield* other.close
    })
  )

  it.effect("where the first one's question fails, the next one asks at once: it is still this node's turn", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b", { lockMaxRetries: 0 })
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const one = yield* Effect.forkChild(Effect.flip(b.withLock("x", () => Effect.void, { wait: "forever" })))
      yield* settle
      const two = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* cluster.controls.failNext("acquireLock", { node: "b" })
      yield* first.close
      yield* settle
      assert.strictEqual((yield* Fiber.join(one))._tag, "SessionStoreUnavailable")
      assert.isDefined(two.pollUnsafe())
    })
  )

  it.effect("whoever comes while the node's place is being given up does not lose its own", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const first = yield* held(a, "x", { leaseTime: "1 hour" })
      const one = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      const leaving = yield* cluster.controls.pauseBefore("leaveLock", "b")
      yield* Fiber.interrupt(one)
      yield* leaving.arrived
      const two = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* leaving.resume
      yield* settle
      yield* first.close
      yield* settle
      assert.isDefined(two.pollUnsafe())
    })
  )

  it.effect("forged notices cost a question at most", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      yield* held(a, "x", { leaseTime: "1 hour" })
      const fiber = yield* Effect.forkChild(b.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      const [lock] = yield* cluster.controls.locks
      assert(lock !== undefined)
      const [node] = lock.queue
      assert(node !== undefined)
      for (let index = 0; index < 100; index++) {
        yield* cluster.controls.forge({ _tag: "LockFreed", lock: lock.key, node })
      }
      yield* settle
      yield* cluster.controls.forge({ _tag: "LockFreed", lock: lock.key, node: "nobody" })
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      assert.isAtMost(yield* cluster.statements("acquireLock", "b"), 4)
    })
  )
})

describe("closing the layer", () => {
  it.effect("interrupts the work, waits for it to stop, releases the locks, and refuses waiters and newcomers", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a"), scope)
      const b = yield* cluster.node("b")
      const stopping = yield* Deferred.make<void>()
      const work = Effect.onInterrupt(Effect.never, () => Deferred.await(stopping))
      const working = yield* Effect.forkChild(Effect.flip(a.withLock("x", () => work)))
      const { lease } = yield* held(a, "y")
      yield* held(b, "z")
      const waiter = yield* Effect.forkChild(Effect.flip(a.withLock("z", () => Effect.void, { wait: "forever" })))
      const second = yield* Effect.forkChild(Effect.flip(a.withLock("z", () => Effect.void, { wait: "forever" })))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual((yield* failureOf(Effect.scoped(b.tryAcquire("x"))))._tag, "LockAlreadyHeld")
      assert.strictEqual((yield* failureOf(lease.lost))._tag, "LockLost")
      for (const fiber of [waiter, second]) {
        const error = yield* Fiber.join(fiber)
        assert(error._tag === "SessionStoreUnavailable")
        assert.strictEqual(error.reason, "Closed")
      }
      yield* Deferred.succeed(stopping, undefined)
      const error = yield* Fiber.join(working)
      assert(error._tag === "LockLost")
      assert.strictEqual(error.reason, "Closed")
      yield* Fiber.join(closing)
      yield* Effect.scoped(Effect.andThen(b.tryAcquire("x"), b.tryAcquire("y")))
      assert.strictEqual((yield* failureOf(Effect.scoped(a.tryAcquire("new"))))._tag, "SessionStoreUnavailable")
    })
  )

  it.effect("takes no longer than shutdownTimeout, whatever the database and the work do", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(cluster.node("a", { shutdownTimeout: "4 seconds" }), scope)
      const never = yield* Deferred.make<void>()
      yield* Effect.forkChild(a.withLock("x", () => Effect.uninterruptible(Deferred.await(never))))
      yield* held(a, "y")
      yield* settle
      yield* cluster.controls.reach("Hanging", "a")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* elapse(4_000)
      assert.isDefined(closing.pollUnsafe())
      yield* cluster.controls.reach("Up", "a")
      yield* Deferred.succeed(never, undefined)
    })
  )
})

describe("closing the layer while a question is on its way", () => {
  it.effect("what is granted meanwhile is freed, and nobody works under it", () =>
    Effect.gen(function* () {
      for (const wait of ["none", "forever"] as const) {
        const cluster = yield* makeLockCluster()
        const scope = yield* Scope.make()
        const a = yield* Scope.provide(cluster.node("a"), scope)
        const b = yield* cluster.node("b")
        const pause = yield* cluster.controls.pauseAfter("acquireLock", "a")
        let worked = false
        const work = Effect.sync(() => {
          worked = true
        })
        const fiber = yield* Effect.forkChild(Effect.flip(a.withLock("x", () => work, { wait })))
        yield* pause.arrived
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        yield* pause.resume
        const error = yield* Fiber.join(fiber)
        assert(error._tag === "SessionStoreUnavailable")
        assert.strictEqual(error.reason, "Closed")
        yield* Fiber.join(closing)
        assert.isFalse(worked)
        yield* Effect.scoped(b.tryAcquire("x"))
      }
    })
  )

  it.effect("nobody waits for an answer that never comes", () =>
    Effect.gen(function* () {
      for (const wait of ["none", "forever"] as const) {
        const cluster = yield* makeLockCluster()
        const scope = yield* Scope.make()
        const a = yield* Scope.provide(cluster.node("a", { shutdownTimeout: "4 seconds" }), scope)
        yield* cluster.controls.reach("Hanging", "a")
        const fiber = yield* Effect.forkChild(Effect.flip(a.withLock("x", () => Effect.void, { wait })))
        yield* settle
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* elapse(4_100)
        assert.isDefined(closing.pollUnsafe())
        const error = yield* Fiber.join(fiber)
        assert(error._tag === "SessionStoreUnavailable")
        assert.strictEqual(error.reason, "Closed")
        yield* cluster.controls.reach("Up", "a")
      }
    })
  )
})

describe("removal", () => {
  it.effect("nothing grows with the number of names ever used", () =>
    Effect.gen(function* () {
      const cluster = yield* makeLockCluster()
      const a = yield* cluster.node("a", { cleanupInterval: "1 hour" })
      for (let index = 0; index < 2_500; index++) yield* a.withLock(`name ${index}`, () => Effect.void)
      assert.strictEqual((yield* cluster.controls.locks).length, 2_500)
      yield* TestClock.adjust("23 hours")
      yield* settle
      assert.strictEqual((yield* cluster.controls.locks).length, 2_500)
      yield* a.withLock("name 7", () => Effect.void)
      yield* TestClock.adjust("3 hours")
      yield* settle
      assert.strictEqual((yield* cluster.controls.locks).length, 1)
    })
  )
})

describe("layerMemory", () => {
  const layer = Layer.mergeAll(SessionLocks.layerMemory(), SessionStore.layerMemory())

  it.effect("keeps locks and sessions in the same memory", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLocks
      const sessions = yield* SessionStore
      const session = yield* sessions.createAnonymous()
      const error = yield* Effect.flip(
        locks.withLock("x", () => Effect.andThen(sessions.delete(session.id), Effect.never), { session })
      )
      assert.strictEqual(error._tag, "LockLost")
      const gone = yield* Effect.flip(locks.withLock("x", () => Effect.void, { session: session.key }))
      assert.strictEqual(gone._tag, "SessionNotFound")
    }).pipe(Effect.provide(layer))
  )

  it.effect("keeps the lock of a session that gets another id, and lets go when it expires", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLocks
      const sessions = yield* SessionStore
      const session = yield* sessions.createAnonymous()
      const acquired = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Effect.flip(
          locks.withLock("x", () => Effect.andThen(Deferred.succeed(acquired, undefined), Effect.never), { session })
        )
      )
      yield* Deferred.await(acquired)
      const rotated = yield* sessions.rotate(session.id)
      yield* elapse(60_000, 5_000)
      const error = yield* Effect.flip(Effect.scoped(locks.tryAcquire("x", { session: rotated })))
      assert.strictEqual(error._tag, "LockAlreadyHeld")
      // An anonymous session lives for an hour.
      yield* elapse(3_540_000 + 10_000, 10_000)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
      const gone = yield* Effect.flip(Effect.scoped(locks.tryAcquire("x", { session: rotated })))
      assert.strictEqual(gone._tag, "SessionNotFound")
    }).pipe(Effect.provide(layer))
  )

  it.effect("waits and wakes without a store", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLocks
      const first = yield* held(locks, "x")
      const fiber = yield* Effect.forkChild(locks.withLock("x", () => Effect.void, { wait: "forever" }))
      yield* settle
      yield* first.close
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
    }).pipe(Effect.provide(SessionLocks.layerMemory()))
  )
})
