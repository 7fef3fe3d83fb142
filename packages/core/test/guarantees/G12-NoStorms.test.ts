/** G12: misses, reconnects, activity and made-up ids cost few statements, however many fibers ask. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { Session } from "../../src/Session.ts"
import { generate, hashOfToken, keyOfToken, SessionId, type SessionKey } from "../../src/SessionId.ts"
import {
  alice,
  begin,
  createNoted,
  isHeldUp,
  makeCluster,
  maxStaleness,
  type Node,
  Note,
  noteOn,
  pass,
  quiet,
  settle,
  versionOn
} from "../support/Coherence.ts"
import * as MemoryStorage from "../../src/internal/memory/MemoryStorage.ts"

const unbounded = { concurrency: "unbounded" } as const

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const two = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const b = yield* cluster.node("b")
  return { ...cluster, a, b }
})

const guests = (node: Node, count: number) =>
  Effect.map(
    Effect.forEach(times(count), () => node.createAnonymous(), unbounded),
    (sessions) => sessions.map(({ id }) => id)
  )

/** Ids that nobody has. */
const madeUp = (count: number): ReadonlyArray<SessionId> => times(count).map(() => generate())

const readAll = (node: Node, ids: ReadonlyArray<SessionId>) =>
  Effect.forEach(ids, (id) => node.find(id, quiet), unbounded)

describe("misses", () => {
  it.effect("100 fibers that miss one session cause one statement", () =>
    Effect.gen(function* () {
      const { a, b, controls, cost } = yield* two
      const { id } = yield* createNoted(a)
      const readers = Effect.gen(function* () {
        const pause = yield* controls.pauseAfter("load", "b")
        // Some ask before the statement is sent, and some while it is under way.
        const early = yield* Effect.forEach(times(50), () => Effect.forkChild(noteOn(b, id)))
        yield* settle
        const late = yield* Effect.forEach(times(50), () => begin(noteOn(b, id)))
        yield* pause.resume
        return yield* Effect.forEach([...early, ...late], Fiber.join)
      })
      assert.strictEqual(
        yield* cost(
          "load",
          "b",
          Effect.tap(readers, (notes) => Effect.sync(() => assert.deepStrictEqual([...new Set(notes)], ["old"])))
        ),
        1
      )
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 0)
    })
  )

  it.effect("1 000 sessions that are missed at once take a few statements", () =>
    Effect.gen(function* () {
      const { a, b, controls, statements } = yield* two
      const ids = yield* guests(a, 1_000)
      const before = yield* controls.count("load", "b")
      const found = yield* readAll(b, ids)
      assert.isTrue(found.every(Option.isSome))
      const after = yield* controls.count("load", "b")
      // Four may be in flight before the rest gathers.
      assert.isAtMost(after.statements - before.statements, 6)
      assert.strictEqual(after.items - before.items, 1_000)
      const loads = yield* statements("load", "b")
      yield* readAll(b, ids)
      assert.strictEqual(yield* statements("load", "b"), loads)
    })
  )

  it.effect("requests share statements also while the database is slow and memory cannot be served", () =>
    Effect.gen(function* () {
      const { a, b, controls, cost } = yield* two
      const ids = yield* guests(a, 100)
      yield* controls.reach("Refusing", "b")
      yield* controls.hold("b")
      yield* pass(maxStaleness + 1_000, 1_000)
      yield* controls.reach("Up", "b")
      assert.isFalse((yield* b.health).synced)
      const crowd = ids.flatMap((id) => times(10).map(() => id))
      assert.isAtMost(yield* cost("load", "b", readAll(b, crowd)), 10)
    })
  )

  it.effect("one slow statement does not hold up the misses of others", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* two
      const [slow, ...others] = yield* guests(a, 10)
      const pause = yield* controls.pauseAfter("load", "b")
      const waiting = yield* begin(versionOn(b, slow ?? assert.fail()))
      assert.isTrue((yield* readAll(b, others)).every(Option.isSome))
      assert.isTrue(isHeldUp(waiting))
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(waiting), 1n)
    })
  )

  it.effect("100 authoritative reads at once share what is not sent yet", () =>
    Effect.gen(function* () {
      const { a, b, cost } = yield* two
      const { id } = yield* createNoted(a)
      const crowd = Effect.forEach(times(100), () => noteOn(b, id, { refresh: true }), unbounded)
      assert.isAtMost(yield* cost("load", "b", crowd), 5)
    })
  )

  it.effect("a reader that is interrupted takes nobody else's answer with it", () =>
    Effect.gen(function* () {
      const { a, b, controls, statements } = yield* two
      const { id } = yield* createNoted(a)
      const pause = yield* controls.pauseAfter("load", "b")
      const [first, second] = [yield* begin(noteOn(b, id)), yield* begin(noteOn(b, id))]
      yield* Fiber.interrupt(first)
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(second), "old")
      assert.strictEqual(yield* statements("load", "b"), 1)
      assert.strictEqual(b.cache.fills.size, 0)
    })
  )

  it.effect("a failed statement fails its readers once, and the next reader asks anew", () =>
    Effect.gen(function* () {
      const { a, b, controls, statements } = yield* two
      const { id } = yield* createNoted(a)
      yield* controls.failNext("load", { node: "b" })
      const results = yield* Effect.forEach(times(20), () => Effect.result(noteOn(b, id)), unbounded)
      assert.isTrue(results.every(({ _tag }) => _tag === "Failure"))
      assert.strictEqual(yield* statements("load", "b"), 1)
      assert.strictEqual(yield* noteOn(b, id), "old")
      assert.strictEqual(b.cache.fills.size, 0)
    })
  )
})

describe("a reconnect", () => {
  it.effect("with 5 000 cached sessions compares them in batches, and empties nothing", () =>
    Effect.gen(function* () {
      const { a, b, controls, statements } = yield* two
      const ids = yield* guests(a, 5_000)
      yield* readAll(b, ids)
      const loads = yield* statements("load", "b")
      const revalidated = yield* controls.count("revalidate", "b")
      yield* controls.cut("b")
      yield* pass(500)
      assert.isTrue((yield* b.health).synced)
      const after = yield* controls.count("revalidate", "b")
      assert.isAtMost(after.statements - revalidated.statements, 5)
      assert.strictEqual(after.items - revalidated.items, 5_000)
      assert.strictEqual((yield* b.health).cache.size, 5_000)
      assert.isTrue((yield* readAll(b, ids)).every(Option.isSome))
      assert.strictEqual(yield* statements("load", "b"), loads)
    })
  )

  it.effect("keeps who was used: what goes first afterwards is what would have gone first before", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ cacheCapacity: 3 })
      const a = yield* cluster.node("a")
      const [first, second, third, fourth] = yield* guests(a, 4)
      assert(first !== undefined && second !== undefined && third !== undefined && fourth !== undefined)
      yield* a.clearLocalCache
      for (const id of [first, second, third]) yield* a.get(id)
      yield* a.get(first)
      yield* cluster.controls.cut("a")
      yield* pass(500)
      yield* versionOn(a, fourth)
      assert.strictEqual(yield* cluster.cost("load", "a", versionOn(a, first)), 0)
      assert.strictEqual(yield* cluster.cost("load", "a", versionOn(a, third)), 0)
      assert.strictEqual(yield* cluster.cost("load", "a", versionOn(a, second)), 1)
    })
  )

  it.effect("to a server that refuses is tried again with growing pauses", () =>
    Effect.gen(function* () {
      const { b, controls, statements } = yield* two
      yield* controls.reach("Refusing", "b")
      yield* controls.cut("b")
      const before = yield* statements("connect", "b")
      yield* pass("60 seconds", 1_000)
      const attempts = (yield* statements("connect", "b")) - before
      assert.isAtLeast(attempts, 10)
      assert.isAtMost(attempts, 35)
      yield* controls.reach("Up", "b")
      yield* pass("6 seconds", 1_000)
      assert.isTrue((yield* b.health).synced)
    })
  )
})

describe("activity", () => {
  it.effect("of 1 000 sessions, read 10 times each, is written in one statement and announced to nobody", () =>
    Effect.gen(function* () {
      const { a, b, controls, notices } = yield* two
      const ids = yield* guests(a, 1_000)
      yield* readAll(b, ids)
      const seen = yield* notices
      for (let round = 0; round < 10; round++) {
        yield* Effect.forEach(ids, (id) => b.get(id), { discard: true })
        yield* pass(1_000, 1_000)
      }
      assert.deepStrictEqual(yield* controls.count("touch", "b"), { statements: 0, items: 0 })
      assert.strictEqual((yield* b.health).activity.pending, 1_000)
      yield* b.flushActivity
      assert.deepStrictEqual(yield* controls.count("touch", "b"), { statements: 1, items: 1_000 })
      assert.strictEqual((yield* b.health).activity.pending, 0)
      assert.deepStrictEqual(yield* seen, [])
      for (const row of yield* controls.rows) assert.strictEqual(row.version, 1n)
    })
  )

  it.effect("is written in batches of the size that was set", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ lastAccessFlushBatchSize: 100 })
      const a = yield* cluster.node("a")
      const ids = yield* guests(a, 250)
      yield* Effect.forEach(ids, (id) => a.get(id))
      yield* a.flushActivity
      assert.deepStrictEqual(yield* cluster.controls.count("touch", "a"), { statements: 3, items: 250 })
    })
  )

  it.effect("close to an idle limit shares statements, too", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* two
      const sessions = yield* Effect.forEach(times(100), () => a.createAnonymous({ idleTimeout: "5 seconds" }))
      yield* readAll(
        b,
        sessions.map(({ id }) => id)
      )
      const crowd = sessions.flatMap(({ id }) => times(5).map(() => id))
      yield* Effect.forEach(crowd, (id) => b.get(id), unbounded)
      assert.isAtMost((yield* controls.count("touch", "b")).statements, 5)
    })
  )
})

describe("updates", () => {
  it.effect("of 500 sessions at once share a few statements and a few notices", () =>
    Effect.gen(function* () {
      const { a, b, cost, notices } = yield* two
      const sessions = yield* Effect.forEach(times(500), () => a.createAnonymous())
      const seen = yield* notices
      const updates = Effect.forEach(sessions, (session) => a.update(Session.set(session, Note, "new")), unbounded)
      assert.isAtMost(yield* cost("write", "a", updates), 4)
      const told = yield* seen
      assert.isAtMost(told.length, 4)
      const changes = told.flatMap((notice) => (notice._tag === "Changes" ? notice.changes : []))
      assert.strictEqual(new Set(changes.map(({ key }) => key)).size, 500)
      for (const { id } of sessions.slice(0, 5)) assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("with nothing recorded send nothing", () =>
    Effect.gen(function* () {
      const { a, cost } = yield* two
      const session = yield* createNoted(a)
      assert.strictEqual(yield* cost("write", "a", a.update(session)), 0)
    })
  )
})

describe("ids that nobody has", () => {
  it.effect("are asked for once, then remembered for two seconds", () =>
    Effect.gen(function* () {
      const { b, cost } = yield* two
      const [id] = madeUp(1)
      assert(id !== undefined)
      const crowd = Effect.forEach(times(100), () => b.find(id), unbounded)
      assert.strictEqual(yield* cost("load", "b", crowd), 1)
      yield* pass(1_900)
      assert.strictEqual(yield* cost("load", "b", crowd), 0)
      yield* pass(100)
      assert.strictEqual(yield* cost("load", "b", crowd), 1)
      assert.strictEqual((yield* Effect.flip(b.get(id)))._tag, "SessionNotFound")
    })
  )

  it.effect("are never remembered for longer than maxStaleness", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxStaleness: "500 millis" })
      const a = yield* cluster.node("a")
      const [id] = madeUp(1)
      assert(id !== undefined)
      yield* a.find(id)
      yield* pass(400, 50)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id)), 0)
      yield* pass(100, 50)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id)), 1)
    })
  )

  it.effect("are not believed absent while this node may be missing notices", () =>
    Effect.gen(function* () {
      const { b, controls, cost } = yield* two
      const [id] = madeUp(1)
      assert(id !== undefined)
      yield* b.find(id)
      yield* controls.cut("b")
      yield* settle
      assert.strictEqual(yield* cost("load", "b", b.find(id)), 1)
      yield* pass(500)
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", b.find(id)), 1)
      assert.strictEqual(yield* cost("load", "b", b.find(id)), 0)
    })
  )

  it.effect("are not believed absent while the listener is silent, either", () =>
    Effect.gen(function* () {
      const { b, controls, cost } = yield* two
      const [id] = madeUp(1)
      assert(id !== undefined)
      yield* controls.hold("b")
      yield* pass(maxStaleness + 1_000, 500)
      yield* b.find(id)
      assert.strictEqual(yield* cost("load", "b", b.find(id)), 1)
    })
  )

  it.effect("are remembered up to a bound, and never at the cost of a session", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ cacheCapacity: 10 })
      const a = yield* cluster.node("a")
      const ids = yield* guests(a, 10)
      yield* readAll(a, madeUp(12_000))
      const { cache } = yield* a.health
      assert.isTrue(cache.absent >= 5_000 && cache.absent <= 10_000, `${cache.absent} are remembered`)
      assert.strictEqual(cache.size, 10)
      assert.strictEqual(cache.evicted, 0)
      assert.strictEqual(yield* cluster.cost("load", "a", readAll(a, ids)), 0)
    })
  )

  it.effect("of a session that exists, with a wrong secret, are remembered and hide nothing", () =>
    Effect.gen(function* () {
      const { a, b, cost } = yield* two
      const { id, key } = yield* createNoted(a)
      const forged = generate(key)
      assert.deepStrictEqual(yield* b.find(forged), Option.none())
      assert.strictEqual(yield* noteOn(b, id), "old")
      const crowd = Effect.forEach(times(20), () => b.find(forged), unbounded)
      yield* crowd
      assert.strictEqual(yield* cost("load", "b", crowd), 0)
      assert.strictEqual(yield* noteOn(b, id), "old")
    })
  )

  /** What a rotation on another node does, with an id that somebody presented before it was issued. */
  const issue = (
    cluster: { readonly database: Parameters<typeof MemoryStorage.make>[0] },
    from: SessionId,
    to: SessionId
  ) =>
    MemoryStorage.make(cluster.database, "elsewhere").rotate({
      key: SessionId.key(from),
      proof: hashOfToken(Redacted.value(from)),
      secretHash: hashOfToken(Redacted.value(to)),
      grace: 0,
      login: undefined,
      set: [],
      maxBytes: 1_000_000
    })

  it.effect("but are issued a moment later are found at once", () =>
    Effect.gen(function* () {
      const cluster = yield* two
      const { a, b, cost } = cluster
      const { id, key } = yield* createNoted(a)
      const later = generate(key)
      assert.deepStrictEqual(yield* b.find(later), Option.none())
      assert.strictEqual(yield* cost("load", "b", b.find(later)), 0)
      yield* issue(cluster, id, later)
      yield* settle
      assert.strictEqual(yield* versionOn(b, later), 2n)
    })
  )

  it.effect("but are issued while they are being asked for are not remembered", () =>
    Effect.gen(function* () {
      const cluster = yield* two
      const { a, b, controls } = cluster
      const { id, key } = yield* createNoted(a)
      const later = generate(key)
      const pause = yield* controls.pauseAfter("load", "b")
      const asking = yield* begin(b.find(later))
      yield* issue(cluster, id, later)
      yield* settle
      yield* pause.resume
      yield* Fiber.join(asking)
      assert.strictEqual(yield* versionOn(b, later), 2n)
    })
  )

  it.effect("do not stop an authoritative read, nor one that carries a version", () =>
    Effect.gen(function* () {
      const cluster = yield* two
      const { a, b, controls } = cluster
      const { id, key } = yield* createNoted(a)
      const later = generate(key)
      assert.deepStrictEqual(yield* b.find(later), Option.none())
      yield* controls.hold("b")
      yield* issue(cluster, id, later)
      assert.strictEqual(yield* versionOn(b, later, { minVersion: 2n }), 2n)
      assert.strictEqual(yield* versionOn(b, later, { refresh: true }), 2n)
      assert.strictEqual(yield* versionOn(b, later), 2n)
    })
  )

  it.effect("of one key take the room of one", () =>
    Effect.gen(function* () {
      const { a } = yield* two
      const key: SessionKey = keyOfToken(Redacted.value(generate()))
      for (let n = 0; n < 100; n++) yield* a.find(generate(key))
      assert.strictEqual((yield* a.health).cache.absent, 1)
      assert.lengthOf(yield* a.listForUser(alice), 0)
    })
  )
})
