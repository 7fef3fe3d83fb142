/**
 * Locks: a cycle of acquire and release against two bare statements that change a
 * row, and the time from a release until a waiter on another node is awake, and has the
 * lock, against a bare NOTIFY round trip. Everything durable.
 */
import { SessionLocks, type LockService } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { measure, median, timeRatio } from "../Interleaved.ts"
import type { Suite } from "../Suite.ts"

const cyclesPerRound = 100
const wakeUpsPerRound = 20
/** Until a waiter has asked, been refused, and sleeps. */
const pause = "20 millis"

const node = (url: EmbeddedPostgres["Service"]["url"]) =>
  Effect.map(Layer.build(Layer.fresh(PgSession.layer({ url }))), (context) => Context.get(context, SessionLocks))

/** Notes when statements begin. */
const noting = (begun: Array<number>): Tracer.Tracer => ({
  span: (options) => {
    begun.push(performance.now())
    return new Tracer.NativeSpan(options)
  }
})

const cycle = (locks: LockService) =>
  Effect.gen(function* () {
    let right = 0
    let last = 0n
    for (let i = 0; i < cyclesPerRound; i++) {
      const token = yield* locks.withLock("cycle", (lease) => Effect.succeed(lease.token))
      if (token > last) right++
      last = token
    }
    return right
  })

const statements = (sql: PgClient.PgClient) =>
  Effect.gen(function* () {
    let right = 0
    for (let i = 0; i < cyclesPerRound; i++) {
      const [first] = yield* sql<{ n: number }>`update bench_bare set n = n + 1 where name = ${"cycle"} returning n`
      const [second] = yield* sql<{ n: number }>`update bench_bare set n = n + 1 where name = ${"cycle"} returning n`
      if (second !== undefined && second.n === (first?.n ?? 0) + 1) right++
    }
    return right
  })

/** From the release on one node until the waiter on the other is awake and asks, and until it has the lock, in milliseconds. */
const handOver = (holder: LockService, waiter: LockService, begun: Array<number>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const lease = yield* Scope.provide(holder.acquire("wake"), scope)
    const granted = yield* Deferred.make<number>()
    const fiber = yield* Effect.forkChild(
      waiter.withLock("wake", () => Deferred.succeed(granted, performance.now()), { wait: "forever" })
    )
    while ((yield* waiter.health).waiting === 0) yield* Effect.yieldNow
    // It has asked, been refused, and waits.
    yield* Effect.sleep(pause)
    const start = performance.now()
    yield* lease.release
    const end = yield* Deferred.await(granted)
    yield* Fiber.join(fiber)
    yield* Scope.close(scope, Exit.void)
    return { awake: (begun.find((time) => time > start) ?? Number.NaN) - start, granted: end - start }
  })

export const suite: Suite = {
  name: "locks",
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
        const begun: Array<number> = []
        const a = yield* node(url)
        const b = yield* Effect.withTracer(node(url), noting(begun))
        const sql = Context.get(yield* Layer.build(PgClient.layer({ url })), PgClient.PgClient)
        yield* sql`create table bench_bare (name text primary key, n int not null) with (fillfactor = 50)`
        yield* sql`insert into bench_bare values ('cycle', 0)`

        const [locks, bare] = yield* measure(
          [
            { name: "withLock, free", operations: cyclesPerRound, run: cycle(a) },
            { name: "floor: two updates of a row by key", operations: cyclesPerRound, run: statements(sql) }
          ],
          rounds(21)
        )

        const heard = yield* sql.listen("bench")
        const wakeUps: Array<number> = []
        const handOvers: Array<number> = []
        const notifies: Array<number> = []
        for (let round = 0; round < rounds(10); round++) {
          for (let i = 0; i < wakeUpsPerRound; i++) {
            begun.length = 0
            const { awake, granted } = yield* handOver(a, b, begun)
            wakeUps.push(awake)
            handOvers.push(granted)
            // As cold as the other one: the machine's own sleep is no part of the comparison.
            yield* Effect.sleep(pause)
            const start = performance.now()
            yield* sql`select pg_notify('bench', 'x')`
            yield* Queue.take(heard)
            notifies.push(performance.now() - start)
          }
        }
        return {
          tables: [{ title: "Acquire and release a free lock", rows: [locks, bare] }],
          figures: {
            "lock.cycle.vsStatements": timeRatio(locks, bare),
            "lock.wakeup.vsNotify": median(wakeUps) / median(notifies),
            "lock.handover.vsNotify": median(handOvers) / median(notifies),
            "lock.wakeup.p50ms": median(wakeUps),
            "lock.handover.p50ms": median(handOvers),
            "lock.notify.p50ms": median(notifies)
          }
        }
      })
    )
}
