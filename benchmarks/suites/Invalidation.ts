/**
 * How soon one node has dropped what another has changed, over a bare NOTIFY round trip through the same server. The
 * beginning is PostgreSQL's own time of the commit, from before it is written to disk; the end, when the other node has
 * applied the notice and asks for the next one. Nothing polls, which would take the processor from what is measured.
 *
 * Then under load: 1 000 updates a second at fixed times, whether or not earlier ones are done, from when each was due.
 */
import {
  Session,
  SessionConfig,
  type SessionKey,
  SessionNotifier,
  type Sessions,
  SessionStore
} from "@effect-pg-session/core"
import { PgSessionDatabase, PgSessionNotifier, PgSessionStorage } from "@effect-pg-session/pg"
import type { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import { median, NotMeasured, quantile } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Rows from "../Rows.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const perRound = 20
const perSecond = 1_000
/** Both sides begin with a machine that is as cold. */
const pause = "5 millis"
const [attribute] = Workload.one.attributes

/** A node that says when it has applied what was announced of a session. */
const observed = Effect.fnUntraced(function* (
  url: Node.Url,
  cacheCapacity: number,
  onApplied: (key: SessionKey) => void
) {
  const observing = Layer.effect(
    SessionNotifier,
    Effect.map(SessionNotifier, (notifier) => ({
      ...notifier,
      connect: Effect.map(notifier.connect, (connection) => {
        let taken: ReadonlyArray<SessionKey> = []
        return {
          ...connection,
          take: Effect.suspend(() => {
            // Who asks for the next ones has applied these.
            for (const key of taken) onApplied(key)
            return Effect.map(connection.take, (notices) => {
              taken = notices.flatMap((notice) =>
                notice._tag === "Changes" ? notice.changes.map(({ key }) => key) : []
              )
              return notices
            })
          })
        }
      })
    }))
  )
  const layer = SessionStore.layer.pipe(
    Layer.provide(observing),
    Layer.provide([PgSessionStorage.layer, PgSessionNotifier.layer({ connection: { url } })]),
    Layer.provide(PgSessionDatabase.layer({ connection: { url } })),
    Layer.provide(SessionConfig.layer({ cacheCapacity }))
  )
  const sessions = Context.get(yield* Layer.build(Layer.fresh(layer)), SessionStore)
  yield* Workload.synced(sessions)
  return sessions
})

/** By how much PostgreSQL's clock is ahead of ours, by the quickest of many questions, in milliseconds. */
const clockOffset = Effect.fnUntraced(function* (sql: PgClient.PgClient) {
  let best = { took: Infinity, offset: 0 }
  for (let i = 0; i < 50; i++) {
    const start = performance.now()
    const [row] = yield* sql<{ at: number }>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as at`
    const took = performance.now() - start
    if (row !== undefined && took < best.took) best = { took, offset: row.at - (start + took / 2) }
  }
  return best.offset
})

export const suite: Suite = {
  name: "invalidation",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable({ track_commit_timestamp: "on" })
        const count = perSecond * (1 + (quick ? 2 : 10))
        const a = yield* Node.node({ url, cacheCapacity: count })
        const sql = yield* Node.client(url)
        yield* Rows.insert(sql, Workload.one, 0, count)
        const waiting = new Map<SessionKey, (now: number) => void>()
        const b = yield* observed(url, count, (key) => waiting.get(key)?.(performance.now()))
        const ids = Array.from({ length: count }, (_, i) => Rows.idOf(i))
        const read = Effect.forEach(ids, (id) => Effect.all([a.get(id), b.get(id)]), { concurrency: 64 })
        const change = (session: Session, value: string) => a.update(Session.set(session, attribute, value))

        yield* read
        const offset = yield* clockOffset(sql)
        const heard = yield* sql.listen("bench")
        const fromCall: Array<number> = []
        const fromCommit: Array<number> = []
        const notifies: Array<number> = []
        for (let i = -perRound; i < perRound * rounds(20); i++) {
          const session = yield* a.get(ids[(i + perRound) % count] as Session["id"])
          const dropped = yield* Deferred.make<number>()
          waiting.set(session.key, (now) => Deferred.doneUnsafe(dropped, Effect.succeed(now)))
          const before = (yield* b.health).cache.invalidations
          yield* Effect.sleep(pause)
          const start = performance.now()
          const saved = yield* change(session, `value${i}`)
          const end = yield* Deferred.await(dropped)
          waiting.delete(session.key)
          const [row] = yield* sql<{ at: number }>`
            select (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000)::float8 as at from sessions where key = ${session.key}`
          const wasDropped = (yield* b.health).cache.invalidations === before + 1
          if (row === undefined || !wasDropped || (yield* b.get(session.id)).version !== saved.version) {
            return yield* new NotMeasured({ message: "The other node has not dropped what was changed" })
          }
          yield* Effect.sleep(pause)
          const asked = performance.now()
          yield* Effect.forkChild(sql`select pg_notify('bench', 'x')`, { startImmediately: true })
          yield* Queue.take(heard)
          // The first ones warm up.
          if (i < 0) continue
          notifies.push(performance.now() - asked)
          fromCall.push(end - start)
          fromCommit.push(end - (row.at - offset))
        }

        yield* read
        const latencies = yield* underLoad(a, b, ids, change, waiting)
        return {
          tables: [],
          figures: {
            "invalidation.p50vsNotify": median(fromCommit) / median(notifies),
            "invalidation.p50ms": median(fromCommit),
            "invalidation.fromCall.p50ms": median(fromCall),
            "invalidation.notify.p50ms": median(notifies),
            "invalidation.loaded.p50ms": median(latencies),
            "invalidation.p99ms": quantile(latencies, 0.99)
          }
        }
      })
    )
}

/** From the time at which an update was due until the other node has dropped the session, in milliseconds, for each. */
const underLoad = Effect.fnUntraced(function* <E>(
  a: Sessions,
  b: Sessions,
  ids: ReadonlyArray<Session["id"]>,
  change: (session: Session, value: string) => Effect.Effect<Session, E>,
  waiting: Map<SessionKey, (now: number) => void>
) {
  const sessions = yield* Effect.forEach(ids, (id) => a.get(id))
  const before = (yield* b.health).cache.invalidations
  const latencies: Array<number> = []
  const all = yield* Deferred.make<void>()
  const begin = performance.now() + 10
  const due = (n: number) => begin + (n * 1_000) / perSecond
  const fibers = []
  for (const [n, session] of sessions.entries()) {
    waiting.set(session.key, (now) => {
      waiting.delete(session.key)
      // The first second compiles, plans and connects.
      if (n >= perSecond) latencies.push(now - due(n))
      if (waiting.size === 0) Deferred.doneUnsafe(all, Effect.void)
    })
  }
  for (const [n, session] of sessions.entries()) {
    while (performance.now() < due(n)) yield* Effect.sleep("1 millis")
    fibers.push(yield* Effect.forkChild(change(session, `value${n}`), { startImmediately: true }))
  }
  for (const fiber of fibers) yield* Fiber.join(fiber)
  yield* Effect.timeout(Deferred.await(all), "10 seconds")
  const dropped = (yield* b.health).cache.invalidations - before
  if (dropped !== ids.length) {
    return yield* new NotMeasured({ message: `${dropped} of ${ids.length} sessions were in the other node's memory` })
  }
  return latencies
})
