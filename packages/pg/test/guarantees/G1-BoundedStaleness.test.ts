/** G1 on a real PostgreSQL: real snapshots, real notifications, real network failures. */
import { Session } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import { PgSession } from "../../src/PgSession.ts"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import {
  alice,
  Cluster,
  createNoted,
  fromMemory,
  heldUp,
  Note,
  noteOn,
  quiet,
  versionOn,
  writeNote
} from "../support/Coherence.ts"
import { eventually } from "../support/Faults.ts"
import { build, proxyTo } from "../support/Nodes.ts"
import { databaseUrl } from "../support/TestDatabase.ts"

const two = Effect.gen(function* () {
  const { node } = yield* Cluster
  const a = yield* node("a")
  const b = yield* node("b")
  const { id, key } = yield* createNoted(a)
  return { a, b, id, key }
})

layer(Cluster.layer, { excludeTestServices: true })("G1 on PostgreSQL: bounded staleness", (it) => {
  it.effect("a load whose answer was overtaken by a notification is not cached", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* two
      const pause = yield* b.pauseAfter("load sessions")
      const reader = yield* heldUp(pause, noteOn(b, id))
      yield* writeNote(a, id, "new")
      yield* b.heard
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual((yield* b.health).cache.size, 0)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("a load whose answer was overtaken by the end of all of the user's sessions is asked for again", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* two
      const pause = yield* b.pauseAfter("load sessions")
      const reader = yield* heldUp(pause, noteOn(b, id))
      yield* a.deleteAllForUser(alice)
      yield* b.heard
      yield* pause.resume
      assert.isUndefined(yield* Fiber.join(reader))
      assert.isUndefined(yield* noteOn(b, id))
    })
  )

  it.effect("a load whose answer is stuck in the network while its notification passes is not cached", () =>
    Effect.gen(function* () {
      const { node, query } = yield* Cluster
      const proxy = yield* proxyTo()
      const a = yield* node("a")
      const b = yield* node("behind", {
        url: proxy.url(databaseUrl),
        listenUrl: databaseUrl,
        maxStaleness: "4 seconds"
      })
      const { id, key } = yield* createNoted(a)
      const { invalidations } = (yield* b.health).cache
      yield* b.find((yield* createNoted(a)).id)
      yield* proxy.pauseAnswers
      const reader = yield* Effect.forkChild(noteOn(b, id), { startImmediately: true })
      // PostgreSQL has answered it: its backend is idle after that very statement.
      yield* eventually(
        Effect.map(
          query(
            `select 1 from pg_stat_activity where application_name like '% behind'
              and state = 'idle' and query like '%former_hash%' and state_change > clock_timestamp() - interval '5 seconds'
              and query_start > (select created_at from @sessions where key = $1)`,
            [key]
          ),
          (rows) => rows.length > 0
        )
      )
      // Another session, which is cached, tells when the notification has been applied.
      const cachedKey = (yield* a.listForUser(alice)).find((summary) => summary.key !== key)?.key ?? assert.fail()
      yield* writeNote(a, id, "new")
      yield* a.deleteByKey(cachedKey)
      yield* eventually(Effect.map(b.health, ({ cache }) => cache.invalidations > invalidations))
      yield* proxy.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("a marked load takes no new readers, and an authoritative read joins nothing that was sent before it", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* two
      const pause = yield* b.pauseAfter("load sessions")
      const early = yield* heldUp(pause, noteOn(b, id))
      yield* writeNote(a, id, "1")
      yield* b.heard
      const loads = b.statements("load sessions")
      assert.strictEqual(yield* noteOn(b, id), "1")
      assert.strictEqual(b.statements("load sessions") - loads, 1)
      yield* writeNote(a, id, "2")
      assert.strictEqual(yield* noteOn(b, id, { refresh: true }), "2")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* noteOn(b, id), "2")
    })
  )

  it.effect(
    "a listener that falls silent: memory for maxStaleness at most, then the database; health says so; it recovers",
    () =>
      Effect.gen(function* () {
        const { node } = yield* Cluster
        const proxy = yield* proxyTo()
        const a = yield* node("a")
        const b = yield* node("silent", {
          listenUrl: proxy.url(databaseUrl),
          maxStaleness: "400 millis",
          statementTimeout: "1 second"
        })
        const { id } = yield* createNoted(a)
        yield* noteOn(b, id)
        yield* b.heard
        assert.strictEqual(yield* fromMemory(b, noteOn(b, id)), "old")
        yield* proxy.pause
        yield* writeNote(a, id, "new")
        const changedAt = performance.now()
        let lastOld = 0
        yield* eventually(
          Effect.map(noteOn(b, id), (note) => {
            if (note === "old") lastOld = performance.now() - changedAt
            return note === "new"
          })
        )
        assert.isBelow(lastOld, 400)
        const health = yield* b.health
        assert.isFalse(health.synced)
        assert.isAbove(Duration.toMillis(health.staleness), 399)
        yield* eventually(Effect.map(b.health, ({ listener }) => Option.isSome(listener.problem)))
        const before = b.statements("load sessions")
        for (let n = 0; n < 5; n++) assert.strictEqual(yield* noteOn(b, id), "new")
        assert.strictEqual(b.statements("load sessions") - before, 5)
        yield* proxy.resume
        yield* eventually(Effect.map(b.health, ({ synced }) => synced))
        yield* noteOn(b, id)
        assert.strictEqual(yield* fromMemory(b, noteOn(b, id)), "new")
      })
  )

  it.effect("a whole network that falls silent: reads fail in time rather than answer something old", () =>
    Effect.gen(function* () {
      const { node } = yield* Cluster
      const proxy = yield* proxyTo()
      const a = yield* node("a")
      const b = yield* node("cut off", {
        url: proxy.url(databaseUrl),
        maxStaleness: "400 millis",
        statementTimeout: "300 millis"
      })
      const { id } = yield* createNoted(a)
      yield* noteOn(b, id)
      yield* proxy.pause
      yield* writeNote(a, id, "new")
      const changedAt = performance.now()
      const answers: Array<string> = []
      while (performance.now() - changedAt < 1_200) {
        const note = yield* Effect.result(noteOn(b, id))
        answers.push(note._tag === "Success" ? `${note.success}` : note.failure._tag)
        if (note._tag === "Success" && note.success === "old") assert.isBelow(performance.now() - changedAt, 500)
        yield* Effect.yieldNow
      }
      assert.include(answers, "SessionStoreUnavailable")
      yield* proxy.resume
      yield* eventually(Effect.map(Effect.result(noteOn(b, id)), (note) => note._tag === "Success"))
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("a listener that is cut: the changed entries are dropped, the others are served from memory again", () =>
    Effect.gen(function* () {
      const { cut } = yield* Cluster
      const { a, b, id } = yield* two
      const kept = yield* Effect.replicateEffect(
        Effect.map(a.createAnonymous(), ({ id }) => id),
        5
      )
      const ended = yield* a.createAnonymous()
      for (const each of [id, ended.id, ...kept]) yield* versionOn(b, each)
      const pause = yield* b.pauseAfter("revalidate sessions")
      yield* cut("b")
      yield* eventually(Effect.map(b.health, ({ synced }) => !synced))
      // From here on nothing reaches this node but what it reads itself.
      yield* a.delete(ended.id)
      yield* writeNote(a, id, "new")
      const before = b.statements("load sessions")
      assert.strictEqual(yield* noteOn(b, id), "new")
      assert.strictEqual(b.statements("load sessions") - before, 1)
      yield* pause.arrived
      assert.strictEqual((yield* b.health).listener.state, "Revalidating")
      yield* writeNote(a, id, "newer")
      assert.isFalse((yield* b.health).synced)
      yield* pause.resume
      yield* b.heard
      for (const id of kept) assert.strictEqual(yield* fromMemory(b, versionOn(b, id)), 1n)
      assert.isUndefined(yield* versionOn(b, ended.id))
      assert.strictEqual(yield* noteOn(b, id), "newer")
      assert.strictEqual((yield* b.health).listener.reconnects, 1)
    })
  )

  it.effect("forged and garbled notifications, replayed beats among them, confirm nothing and break nothing", () =>
    Effect.gen(function* () {
      const { names, query, sql } = yield* Cluster
      const { a, b, id, key } = yield* two
      yield* noteOn(b, id)
      const notify = (payload: string) => query("select pg_notify($1, $2)", [names.channel, payload])
      const recorded = yield* Effect.scoped(
        Effect.gen(function* () {
          const queue = yield* sql.listen(names.channel)
          const { payload } = yield* Effect.repeat(Queue.take(queue), {
            until: ({ payload }) => payload.startsWith("1B")
          })
          return payload
        })
      )
      for (const payload of [
        "",
        "1",
        "1C",
        "{}",
        "1A",
        `1CD${key}-`,
        `1CU${key}9999`,
        "x".repeat(7_999),
        recorded,
        "1Bmade up"
      ]) {
        yield* notify(payload)
      }
      yield* b.heard
      assert.strictEqual(yield* noteOn(b, id), "old")
      // Without beats of its own, no replayed one keeps it in sync.
      const pause = yield* b.pauseBefore("send a beat")
      yield* pause.arrived
      for (let n = 0; n < 15; n++) {
        yield* notify(recorded)
        yield* Effect.sleep(100)
      }
      assert.isFalse((yield* b.health).synced)
      yield* pause.resume
      yield* writeNote(a, id, "new")
      yield* b.heard
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("a touch that takes long: the session is not answered as it was before it", () =>
    Effect.gen(function* () {
      const { node } = yield* Cluster
      const proxy = yield* proxyTo()
      const a = yield* node("a")
      const b = yield* node("touching", { listenUrl: proxy.url(databaseUrl), maxStaleness: "300 millis" })
      const { id } = yield* a.create(alice, { idleTimeout: "9 seconds" })
      yield* versionOn(b, id)
      yield* b.heard
      const pause = yield* b.pauseAfter("record last accesses")
      const reader = yield* heldUp(pause, b.get(id))
      yield* proxy.pause
      yield* writeNote(a, id, "new")
      yield* eventually(Effect.map(b.health, ({ staleness }) => Duration.toMillis(staleness) > 400))
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(reader)).version, 2n)
      yield* proxy.resume
    })
  )

  it.effect("a statement of the application's own transaction neither sees nor delays what the library reads", () =>
    Effect.gen(function* () {
      const { sql } = yield* Cluster
      const { a, b, id } = yield* two
      yield* Effect.gen(function* () {
        yield* sql`set transaction isolation level repeatable read`
        yield* sql`select 1`
        yield* writeNote(a, id, "new")
        assert.strictEqual(yield* noteOn(b, id, { refresh: true }), "new")
      }).pipe(sql.withTransaction)
    })
  )

  it.effect("a server that was started again is another one: nothing from before is served from memory", () =>
    Effect.gen(function* () {
      const postgres = yield* EmbeddedPostgres.make()
      const sessions = yield* build(PgSession.layer({ url: postgres.url, maxStaleness: "500 millis" }))
      const created = yield* sessions.create(alice)
      const { id } = yield* sessions.update(Session.set(created, Note, "kept"))
      yield* sessions.get(id, quiet)
      yield* eventually(Effect.map(sessions.health, ({ synced }) => synced))
      yield* postgres.kill
      yield* eventually(Effect.map(sessions.health, ({ synced }) => !synced))
      const error = yield* Effect.flip(sessions.get(id, quiet))
      assert.strictEqual(error._tag, "SessionStoreUnavailable")
      assert.strictEqual((yield* sessions.health).cache.size, 1)
      yield* postgres.start
      yield* eventually(Effect.map(sessions.health, ({ synced }) => synced))
      assert.strictEqual((yield* sessions.health).cache.size, 0)
      assert.strictEqual(yield* noteOn(sessions, id), "kept")
    })
  )
})
