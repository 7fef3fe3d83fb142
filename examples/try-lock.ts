/** Three ways to ask for a lock that somebody else holds: not to wait, to wait for a while, to wait for one of several permits. */
import { SessionLocks } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect } from "effect"
import { strictEqual } from "node:assert/strict"

const program = Effect.gen(function* () {
  const locks = yield* SessionLocks

  // A lease ends with its scope, or when it is released.
  const lease = yield* locks.acquire("import:customers", { leaseTime: "30 seconds" })
  yield* Console.log(`We hold "${lease.resource}", token ${lease.token}.`)

  const held = yield* Effect.flip(locks.tryAcquire("import:customers"))
  yield* Console.log(`tryAcquire: ${held.message}`)

  const late = yield* Effect.flip(locks.acquire("import:customers", { wait: "200 millis" }))
  yield* Console.log(`wait: "200 millis": ${late.message}`)

  yield* lease.release
  yield* locks.withLock("import:customers", () => Console.log("Released: the next one has it at once."))

  // Ten jobs, at most three at a time, on however many nodes.
  let running = 0
  let most = 0
  const job = Effect.gen(function* () {
    most = Math.max(most, ++running)
    yield* Effect.sleep("20 millis")
    running--
  })
  yield* Effect.forEach(
    Array.range(1, 10),
    () => locks.withLock("thumbnails", () => job, { permits: 3, wait: "forever" }),
    { concurrency: "unbounded", discard: true }
  )
  yield* Console.log(`Ten jobs ran with three permits: at most ${most} at once.`)
  strictEqual(most <= 3, true)
}).pipe(Effect.scoped)

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
