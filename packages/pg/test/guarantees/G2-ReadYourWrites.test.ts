/** G2 on a real PostgreSQL: what was acknowledged is served where it was written, while no notification arrives anywhere. */
import { Session, SessionId, type SessionOptions } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import {
  alice,
  bob,
  Cluster,
  Color,
  createNoted,
  fromMemory,
  heldUp,
  Note,
  noteOn,
  versionOn,
  writeNote
} from "../support/Coherence.ts"
import { eventually } from "../support/Faults.ts"
import { proxyTo } from "../support/Nodes.ts"
import { databaseUrl } from "../support/TestDatabase.ts"

/** Two nodes with the session in memory, whose listeners have just fallen silent, with time enough not to notice. */
const deafWith = Effect.fnUntraced(function* (own: SessionOptions) {
  const { node } = yield* Cluster
  const proxy = yield* proxyTo()
  const options = { listenUrl: proxy.url(databaseUrl), maxStaleness: "1 minute", ...own } as const
  const a = yield* node("a", options)
  const b = yield* node("b", options)
  const session = yield* createNoted(a)
  yield* noteOn(b, session.id)
  yield* Effect.acquireRelease(proxy.pause, () => proxy.resume)
  return { a, b, session, id: session.id, key: SessionId.key(session.id) }
})

const deaf = deafWith({})

layer(Cluster.layer, { excludeTestServices: true })("G2 on PostgreSQL: read your writes", (it) => {
  it.effect("a node that hears nothing serves its own writes from memory, and others do not yet", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      for (const text of ["1", "2"]) {
        yield* writeNote(a, id, text)
        assert.strictEqual(yield* fromMemory(a, noteOn(a, id)), text)
      }
      assert.strictEqual(yield* fromMemory(b, noteOn(b, id)), "old")
      const written = yield* b.modify(id, Session.set(Color, "blue"))
      assert.strictEqual(yield* Session.get(written, Note), "2")
      assert.strictEqual(yield* fromMemory(b, noteOn(b, id)), "2")
    })
  )

  it.effect("a new id is served, and the old one, or an ended session, is not", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      const rotated = yield* a.rotate(id, { userId: bob })
      assert.strictEqual(yield* fromMemory(a, versionOn(a, rotated.id)), 2n)
      assert.isUndefined(yield* versionOn(a, id))
      assert.strictEqual(yield* versionOn(b, rotated.id), 2n)
      yield* a.delete(rotated.id)
      assert.isUndefined(yield* versionOn(a, rotated.id))
      const other = yield* createNoted(a)
      yield* a.deleteAllForUser(alice)
      assert.isUndefined(yield* versionOn(a, other.id))
    })
  )

  it.effect("a carried version is never undercut, and one that is too high is answered with what there is", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      const { version } = yield* writeNote(a, id, "new")
      assert.strictEqual(yield* fromMemory(b, versionOn(b, id)), 1n)
      assert.strictEqual(yield* versionOn(b, id, { minVersion: version }), version)
      assert.strictEqual(yield* fromMemory(b, versionOn(b, id)), version)
      assert.strictEqual(yield* versionOn(b, id, { minVersion: 99n }), version)
    })
  )

  it.effect("a load in flight during an acknowledged write does not bring the old state back", () =>
    Effect.gen(function* () {
      const { a, id, session } = yield* deafWith({ cacheCapacity: 1 })
      const evict = a.createAnonymous()
      yield* evict
      const pause = yield* a.pauseAfter("load sessions")
      const early = yield* heldUp(pause, noteOn(a, id))
      yield* a.update(Session.set(session, Note, "new"))
      yield* evict
      assert.strictEqual(yield* noteOn(a, id), "new")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* fromMemory(a, noteOn(a, id)), "new")
    })
  )

  it.effect("the answer to a write is not cached when a newer change was announced before it", () =>
    Effect.gen(function* () {
      const { node } = yield* Cluster
      const a = yield* node("a")
      const b = yield* node("b")
      const session = yield* createNoted(a)
      const pause = yield* a.pauseAfter("update the session")
      const writing = yield* heldUp(pause, a.update(Session.set(session, Note, "by a")))
      yield* writeNote(b, session.id, "by b")
      yield* a.heard
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(writing)).version, 2n)
      assert.strictEqual(yield* noteOn(a, session.id), "by b")
    })
  )

  it.effect("a new id is accepted on a node where a request with the old one is loading the session", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      yield* b.clearLocalCache
      const pause = yield* b.pauseAfter("load sessions")
      const early = yield* heldUp(pause, versionOn(b, id))
      const rotated = yield* a.rotate(id)
      const late = yield* Effect.forkChild(versionOn(b, rotated.id), { startImmediately: true })
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), 1n)
      assert.strictEqual(yield* Fiber.join(late), 2n)
    })
  )

  it.effect(
    "a write whose connection breaks before the answer: unknown, applied once, never resent, read from the database",
    () =>
      Effect.gen(function* () {
        const { node, query } = yield* Cluster
        const proxy = yield* proxyTo()
        const a = yield* node("breaking", {
          url: proxy.url(databaseUrl),
          listenUrl: databaseUrl,
          maxStaleness: "1 minute"
        })
        const session = yield* createNoted(a)
        const version = () =>
          Effect.map(query("select version::int from @sessions where key = $1", [session.key]), ([row]) => row?.[0])
        yield* proxy.pauseAnswers
        const writing = yield* Effect.forkChild(Effect.flip(a.update(Session.set(session, Note, "new"))), {
          startImmediately: true
        })
        yield* eventually(Effect.map(version(), (is) => is === 2))
        yield* proxy.reset
        yield* proxy.resume
        const error = yield* Fiber.join(writing)
        assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "Unreachable", outcome: "Unknown" })
        const loads = a.statements("load sessions")
        assert.strictEqual(yield* noteOn(a, session.id), "new")
        assert.strictEqual(a.statements("load sessions") - loads, 1)
        assert.strictEqual(yield* version(), 2)
        assert.strictEqual(a.statements("update the session"), 1)
      })
  )

  it.effect("a deletion whose connection breaks before the answer: unknown, and the session is not served", () =>
    Effect.gen(function* () {
      const { node, query } = yield* Cluster
      const proxy = yield* proxyTo()
      const a = yield* node("losing", { url: proxy.url(databaseUrl), listenUrl: databaseUrl, maxStaleness: "1 minute" })
      const session = yield* createNoted(a)
      yield* proxy.pauseAnswers
      const deleting = yield* Effect.forkChild(Effect.flip(a.delete(session.id)), { startImmediately: true })
      yield* eventually(
        Effect.map(query("select 1 from @sessions where key = $1", [session.key]), (rows) => rows.length === 0)
      )
      yield* proxy.reset
      yield* proxy.resume
      assert.deepInclude(yield* Fiber.join(deleting), { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.isUndefined(yield* versionOn(a, session.id))
    })
  )
})
