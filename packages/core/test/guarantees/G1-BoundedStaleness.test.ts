/** G1: no node serves a state of a session older than `maxStaleness`, whatever happens. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import { Session } from "../../src/Session.ts"
import { GroupId, SessionId } from "../../src/SessionId.ts"
import type { Notice } from "../../src/SessionNotifier.ts"
import {
  alice,
  begin,
  type Cluster,
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
  skewedClock,
  versionOn,
  writeNote
} from "../support/Coherence.ts"

const day = 24 * 60 * 60 * 1_000

/** Two nodes, and a session that was created on `a` and that `b` has not seen. */
const two = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const b = yield* cluster.node("b")
  const { id } = yield* createNoted(a)
  return { ...cluster, a, b, id, key: SessionId.key(id) }
})

/** The same, with the session in the memory of `b`. */
const cached = Effect.tap(two, ({ b, id }) => noteOn(b, id))

/** Reads on `node` without a statement. */
const fromMemory = <A, E, R>(cluster: Cluster, node: Node, read: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* cluster.statements("load", node.name)
    const answer = yield* read
    assert.strictEqual(yield* cluster.statements("load", node.name), before, "it was not in memory")
    return answer
  })

describe("a load that was overtaken", () => {
  it.effect("by a change is answered to whoever asked before, and is not cached", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      const pause = yield* controls.pauseAfter("load", "b")
      const reader = yield* begin(noteOn(b, id))
      yield* writeNote(a, id, "new")
      yield* settle
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual((yield* b.health).cache.size, 0)
      assert.strictEqual(yield* noteOn(b, id), "new")
      assert.strictEqual(b.cache.fills.size, 0)
    })
  )

  const ends: ReadonlyArray<readonly [string, (a: Node, id: SessionId) => Effect.Effect<unknown, unknown>]> = [
    ["by a deletion", (a, id) => a.delete(id)],
    ["by the end of all of the user's sessions", (a) => a.deleteAllForUser(alice)],
    ["by the end of all sessions", (a) => a.deleteAll],
    [
      "by the end of its group",
      (a, id) =>
        Effect.andThen(
          a.modify(id, Session.setGroup(Option.some(GroupId.make("g")))),
          a.deleteAllForGroup(GroupId.make("g"))
        )
    ]
  ]
  for (const [name, end] of ends) {
    it.effect(`${name} is not cached`, () =>
      Effect.gen(function* () {
        const { a, b, controls, id } = yield* two
        const pause = yield* controls.pauseAfter("load", "b")
        const reader = yield* begin(noteOn(b, id))
        yield* end(a, id)
        yield* settle
        yield* pause.resume
        assert.isUndefined(yield* Fiber.join(reader), "the answer from before is not even given")
        assert.strictEqual((yield* b.health).cache.size, 0)
        assert.isUndefined(yield* noteOn(b, id))
      })
    )
  }

  it.effect(
    "by a change whose notice came before the load's own transaction saw it, is cached: nothing is missing",
    () =>
      Effect.gen(function* () {
        const { a, b, controls, id } = yield* two
        const pause = yield* controls.pauseBefore("load", "b")
        const reader = yield* begin(noteOn(b, id))
        yield* writeNote(a, id, "new")
        yield* settle
        yield* pause.resume
        assert.strictEqual(yield* Fiber.join(reader), "new")
        assert.strictEqual((yield* b.health).cache.size, 1)
      })
  )

  it.effect("by a loss of the listener is not cached, for the notice may have been lost with it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, statements } = yield* two
      const pause = yield* controls.pauseAfter("load", "b")
      const reader = yield* begin(noteOn(b, id))
      yield* controls.cut("b")
      yield* settle
      yield* writeNote(a, id, "new")
      yield* pass(200)
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* statements("connect", "b"), 2)
      const late = yield* begin(noteOn(b, id))
      assert.isFalse(isHeldUp(late), "it takes no new readers")
      assert.strictEqual(yield* Fiber.join(late), "new")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("by a new listener is not cached, for notices were missed before it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      yield* controls.cut("b")
      yield* settle
      assert.isFalse((yield* b.health).synced)
      const pause = yield* controls.pauseAfter("load", "b")
      const reader = yield* begin(noteOn(b, id))
      yield* writeNote(a, id, "new")
      yield* pass(200)
      assert.isTrue((yield* b.health).synced, "the comparison, which could not know of the session, is over")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual((yield* b.health).cache.size, 0)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("by a loss of the listener, and by all that follows it, is not cached either", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      const pause = yield* controls.pauseAfter("load", "b")
      const reader = yield* begin(noteOn(b, id))
      yield* controls.cut("b")
      yield* settle
      yield* writeNote(a, id, "new")
      yield* pass(200)
      assert.isTrue((yield* b.health).synced, "the comparison, which could not know of the session, is over")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "old")
      assert.strictEqual((yield* b.health).cache.size, 0)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("takes no new readers", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, statements } = yield* two
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(noteOn(b, id))
      const joined = yield* begin(noteOn(b, id))
      assert.strictEqual(yield* statements("load", "b"), 1)
      yield* writeNote(a, id, "new")
      yield* settle
      assert.strictEqual(yield* noteOn(b, id), "new")
      assert.isTrue(isHeldUp(early))
      assert.strictEqual(yield* statements("load", "b"), 2)
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* Fiber.join(joined), "old")
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("by a bulk notice takes no new readers", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(noteOn(b, id))
      yield* a.deleteAllForUser(alice)
      yield* settle
      assert.isUndefined(yield* noteOn(b, id))
      yield* pause.resume
      yield* Fiber.join(early)
    })
  )

  it.effect("by a newer answer does not replace it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      yield* controls.hold("b")
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(noteOn(b, id))
      yield* writeNote(a, id, "new")
      assert.strictEqual(yield* noteOn(b, id, { refresh: true }), "new")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )
})

describe("an authoritative read", () => {
  it.effect("joins nothing that was sent before it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* two
      yield* controls.hold("b")
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(noteOn(b, id))
      yield* writeNote(a, id, "new")
      const ordinary = yield* begin(noteOn(b, id))
      assert.isTrue(isHeldUp(ordinary), "an ordinary read joins: the notice is on its way")
      assert.strictEqual(yield* noteOn(b, id, { refresh: true }), "new")
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* Fiber.join(ordinary), "old")
    })
  )

  it.effect("sees what was committed before it, whatever the cache and the listener know", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* cached
      yield* controls.hold()
      for (const text of ["1", "2", "3"]) {
        yield* writeNote(a, id, text)
        assert.strictEqual(yield* noteOn(b, id, { refresh: true }), text)
        assert.strictEqual(yield* noteOn(b, id), text, "what it found is in memory now")
      }
      yield* a.delete(id)
      assert.isUndefined(yield* noteOn(b, id, { refresh: true }))
      assert.isUndefined(yield* noteOn(b, id), "what it did not find is not in memory any more")
    })
  )
})

describe("an authoritative read that has to touch", () => {
  /** While it touches, its entry has to make room, and a load from before the last change is still under way. */
  const overtaken = Effect.gen(function* () {
    const cluster = yield* makeCluster({ cacheCapacity: 1 })
    const { controls } = cluster
    const a = yield* cluster.node("a")
    const b = yield* cluster.node("b")
    const { id } = yield* a.create(alice, { idleTimeout: "9 seconds" })
    const other = yield* a.createAnonymous()
    yield* controls.hold("b")
    const load = yield* controls.pauseAfter("load", "b")
    const early = yield* begin(versionOn(b, id))
    yield* writeNote(a, id, "new")
    const touch = yield* controls.pauseAfter("touch", "b")
    const reader = yield* begin(b.get(id, { refresh: true }))
    yield* touch.arrived
    yield* versionOn(b, other.id)
    return { early, load, reader, touch }
  })

  it.effect("does not fall back on a load that was sent before it", () =>
    Effect.gen(function* () {
      const { early, load, reader, touch } = yield* overtaken
      yield* touch.resume
      yield* settle
      yield* load.resume
      assert.strictEqual((yield* Fiber.join(reader)).version, 2n)
      assert.strictEqual(yield* Fiber.join(early), 1n)
    })
  )

  it.effect("does not fall back on what such a load has put into memory meanwhile", () =>
    Effect.gen(function* () {
      const { early, load, reader, touch } = yield* overtaken
      yield* load.resume
      assert.strictEqual(yield* Fiber.join(early), 1n)
      yield* settle
      yield* touch.resume
      assert.strictEqual((yield* Fiber.join(reader)).version, 2n)
    })
  )
})

describe("a listener that falls silent", () => {
  it.effect(
    "is noticed: memory is served for maxStaleness at most, then the database is asked, and health says so",
    () =>
      Effect.gen(function* () {
        const { a, b, controls, id, statements } = yield* cached
        const loadsBefore = yield* statements("load", "b")
        yield* controls.hold("b")
        yield* writeNote(a, id, "new")
        const changedAt = yield* TestClock.testClockWith((clock) => clock.currentTimeMillis)
        let servedOldFor = 0
        for (let elapsed = 0; elapsed <= 2 * maxStaleness; elapsed += 100) {
          const note = yield* noteOn(b, id)
          if (note === "old") {
            servedOldFor = elapsed
            assert.isTrue((yield* b.health).synced)
          } else {
            assert.isFalse((yield* b.health).synced)
          }
          yield* pass(100)
        }
        assert.strictEqual(changedAt, 0)
        assert.isAtMost(servedOldFor, maxStaleness)
        assert.isAtLeast(servedOldFor, maxStaleness - 1_100, "memory is still served while that is allowed")
        const health = yield* b.health
        assert.isAbove(Duration.toMillis(health.staleness), maxStaleness)
        assert.include(Option.getOrThrow(health.listener.problem), "beats are sent but do not come back")
        assert.isAbove((yield* statements("load", "b")) - loadsBefore, 40, "every read asks the database")

        yield* controls.release("b")
        yield* pass(maxStaleness)
        const after = yield* b.health
        assert.isTrue(after.synced)
        assert.deepStrictEqual(after.listener.problem, Option.none())
        const loads = yield* statements("load", "b")
        assert.strictEqual(yield* noteOn(b, id), "new")
        assert.strictEqual(yield* noteOn(b, id), "new")
        assert.isAtMost((yield* statements("load", "b")) - loads, 1)
      })
  )

  it.effect("is noticed by reads without options, too, which take the shortest path", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, statements } = yield* cached
      const got = Effect.flatMap(b.get(id), Session.get(Note))
      const found = Effect.flatMap(b.find(id), (session) => Session.get(Option.getOrThrow(session), Note))
      yield* controls.hold("b")
      yield* writeNote(a, id, "new")
      const loads = yield* statements("load", "b")
      yield* pass(maxStaleness / 2)
      assert.deepStrictEqual([yield* got, yield* found], ["old", "old"])
      assert.strictEqual(yield* statements("load", "b"), loads, "memory is still served")
      yield* pass(maxStaleness / 2 + 100)
      assert.deepStrictEqual([yield* got, yield* found], ["new", "new"])
      assert.strictEqual(yield* statements("load", "b"), loads + 2)
    })
  )

  it.effect("never lets a read answer from memory while its statements are unanswered, too", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* cached
      yield* controls.hold("b")
      yield* controls.reach("Hanging", "b")
      yield* writeNote(a, id, "new")
      yield* pass(maxStaleness + 100)
      const reader = yield* begin(noteOn(b, id))
      assert.isTrue(isHeldUp(reader))
      yield* controls.reach("Up", "b")
      assert.strictEqual(yield* Fiber.join(reader), "new")
    })
  )

  it.effect("and refused statements: reads fail rather than answer something old", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* cached
      yield* controls.hold("b")
      yield* controls.reach("Refusing", "b")
      yield* writeNote(a, id, "new")
      assert.strictEqual(yield* noteOn(b, id), "old")
      yield* pass(maxStaleness + 100)
      const error = yield* Effect.flip(noteOn(b, id))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "Unreachable", outcome: "NotApplied" })
      assert.isTrue(Option.isSome((yield* b.health).listener.problem))
      yield* controls.reach("Up", "b")
      yield* controls.release("b")
      yield* pass("10 seconds")
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("and speaks again: a late beat confirms what was committed before it was sent, not before it came", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      yield* cluster.controls.hold("a")
      yield* pass(3_000)
      for (const staleness of [2_000, 1_000, 0]) {
        yield* cluster.controls.step(1, "a")
        yield* settle
        assert.strictEqual(Duration.toMillis((yield* a.health).staleness), staleness)
      }
    })
  )

  it.effect("is given up for a new one", () =>
    Effect.gen(function* () {
      const { b, controls, statements } = yield* cached
      yield* controls.hold("b")
      yield* pass(3 * maxStaleness, 500)
      assert.isAtLeast(yield* statements("connect", "b"), 2)
      assert.isAtLeast((yield* b.health).listener.reconnects, 1)
      assert.strictEqual(yield* controls.connections("b"), 1)
    })
  )

  it.effect("is not believed because of notices that arrive without beats", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* cached
      yield* controls.failNext("beat", { node: "b", times: 1_000 })
      yield* pass(maxStaleness + 1_100)
      yield* writeNote(a, id, "new")
      yield* settle
      assert.isFalse((yield* b.health).synced)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )
})

describe("a listener that is cut", () => {
  it.effect("is replaced; what changed meanwhile is dropped, and nothing else, before memory is served again", () =>
    Effect.gen(function* () {
      const { a, b, controls, cost, id, statements } = yield* cached
      const kept = yield* Effect.forEach([1, 2, 3, 4, 5], (n) =>
        Effect.map(a.createAnonymous(), ({ id }) => ({ id, n }))
      )
      const changed = yield* Effect.forEach([1, 2, 3], () => Effect.map(a.createAnonymous(), ({ id }) => id))
      for (const { id } of kept) yield* versionOn(b, id)
      for (const id of changed) yield* versionOn(b, id)
      assert.strictEqual((yield* b.health).cache.size, 9)
      const { invalidations } = (yield* b.health).cache

      yield* controls.cut("b")
      yield* settle
      assert.isFalse((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1, "without a listener the database is asked")
      for (const id of changed.slice(1)) yield* writeNote(a, id, "new")
      yield* a.delete(changed[0] ?? assert.fail())

      const pause = yield* controls.pauseAfter("revalidate", "b")
      yield* pass(200)
      yield* pause.arrived
      assert.strictEqual((yield* b.health).listener.state, "Revalidating")
      assert.isFalse((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1, "not before everything is compared")
      yield* pause.resume
      yield* settle
      const { cache, synced } = yield* b.health
      assert.isTrue(synced)
      assert.strictEqual(cache.size, 6)
      assert.strictEqual(cache.invalidations - invalidations, 3)
      const loads = yield* statements("load", "b")
      for (const { id } of kept) assert.strictEqual(yield* versionOn(b, id), 1n)
      assert.strictEqual(yield* noteOn(b, id), "old")
      assert.strictEqual(yield* statements("load", "b"), loads)
      assert.deepStrictEqual(yield* Effect.forEach(changed, (id) => noteOn(b, id)), [undefined, "new", "new"])
    })
  )

  it.effect("a change between its subscription and its comparison is not lost", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* cached
      yield* controls.cut("b")
      const pause = yield* controls.pauseAfter("revalidate", "b")
      yield* pass(200)
      yield* pause.arrived
      yield* writeNote(a, id, "new")
      yield* settle
      yield* pause.resume
      yield* settle
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("serves nothing from memory as long as the comparison fails", () =>
    Effect.gen(function* () {
      const { a, b, controls, cost, id } = yield* cached
      yield* controls.failNext("revalidate", { node: "b", times: 3 })
      yield* controls.cut("b")
      yield* settle
      yield* writeNote(a, id, "new")
      for (let elapsed = 0; elapsed < 1_500; elapsed += 50) {
        assert.strictEqual(yield* noteOn(b, id), "new")
        yield* pass(50)
      }
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 0)
    })
  )

  it.effect("because its buffer overflowed, is one that was cut", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({}, { bufferCapacity: 20 })
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { id } = yield* createNoted(a)
      yield* noteOn(b, id)
      yield* cluster.controls.hold("b")
      for (let n = 0; n < 30; n++) yield* writeNote(a, id, `${n}`)
      yield* cluster.controls.release("b")
      yield* settle
      assert.isFalse((yield* b.health).synced)
      assert.strictEqual(yield* noteOn(b, id), "29")
      yield* pass(500)
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* noteOn(b, id), "29")
    })
  )
})

describe("another server", () => {
  it.effect("met by the listener: everything is dropped, whatever the versions say", () =>
    Effect.gen(function* () {
      const { b, controls, cost, id } = yield* cached
      yield* controls.setServer({ identity: "memory-2" })
      yield* controls.cut("b")
      yield* pass(200)
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual((yield* b.health).cache.size, 0)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1)
    })
  )

  it.effect("met by the queries alone: nothing is served from memory, and health says what to do", () =>
    Effect.gen(function* () {
      const { b, controls, cost, id } = yield* cached
      yield* controls.setServer({ identity: "memory-2" }, "queries")
      yield* pass(1_100)
      assert.isFalse((yield* b.health).synced)
      assert.include(Option.getOrThrow((yield* b.health).listener.problem), "different servers")
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1)
      yield* controls.setServer({ identity: "memory-2" }, "subscriptions")
      yield* pass("10 seconds")
      assert.isTrue((yield* b.health).synced)
    })
  )
})

describe("a server that the queries reached for a while", () => {
  it.effect("leaves nothing in memory: the same version may be another state there", () =>
    Effect.gen(function* () {
      const { b, controls, cost, id } = yield* cached
      yield* controls.setServer({ identity: "memory-2" }, "queries")
      yield* pass(1_100)
      yield* noteOn(b, id)
      yield* controls.setServer({ identity: "memory-1" }, "queries")
      yield* pass("10 seconds")
      assert.isTrue((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1)
    })
  )
})

describe("forged notices", () => {
  it.effect("a beat that nobody sent, or one that has returned, confirms nothing", () =>
    Effect.gen(function* () {
      const { b, controls, database } = yield* cached
      const link = database.listen("spy")
      yield* pass(3_000)
      const replayed = (yield* link.take).filter((notice) => notice._tag === "Beat")
      assert.isAtLeast(replayed.length, 4)
      yield* controls.failNext("beat", { node: "b", times: 1_000 })
      const before = Duration.toMillis((yield* b.health).staleness)
      const { beatsReturned } = (yield* b.health).listener
      for (let elapsed = 1_000; elapsed <= 4_000; elapsed += 1_000) {
        yield* pass(1_000)
        for (const notice of replayed) yield* controls.forge(notice)
        yield* controls.forge({ _tag: "Beat", nonce: "made up" })
        yield* settle
        assert.strictEqual(Duration.toMillis((yield* b.health).staleness), before + elapsed)
      }
      assert.strictEqual((yield* b.health).listener.beatsReturned, beatsReturned)
      yield* pass(2_100)
      assert.isFalse((yield* b.health).synced)
    })
  )

  it.effect("a beat that was given up, and committed all the same, confirms nothing when it arrives", () =>
    Effect.gen(function* () {
      const { b, controls } = yield* cached
      yield* controls.hold("b")
      yield* controls.failNext("beat", { node: "b", applied: true, times: 3 })
      yield* pass(3_500)
      const { beatsReturned } = (yield* b.health).listener
      yield* controls.step(1_000, "b")
      yield* settle
      const { listener, staleness } = yield* b.health
      assert.strictEqual(listener.beatsReturned, beatsReturned)
      assert.strictEqual(Duration.toMillis(staleness), 3_500)
    })
  )

  it.effect(
    "a beat of a connection that was lost confirms nothing on the next one before memory has been compared",
    () =>
      Effect.gen(function* () {
        const { a, b, controls, database, id } = yield* cached
        const link = database.listen("spy")
        yield* controls.hold("b")
        yield* pass(1_100)
        const outstanding = (yield* link.take).filter((notice) => notice._tag === "Beat")
        assert.isAtLeast(outstanding.length, 2)
        yield* controls.cut("b")
        yield* settle
        yield* writeNote(a, id, "new")
        yield* controls.release("b")
        const comparison = yield* controls.pauseBefore("revalidate", "b")
        yield* pass(200)
        yield* comparison.arrived
        for (const notice of outstanding) yield* controls.forge(notice)
        yield* settle
        assert.isFalse((yield* b.health).synced)
        assert.strictEqual(yield* noteOn(b, id), "new")
        yield* comparison.resume
      })
  )

  it.effect("cost cache entries, and no read is wrong", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, key } = yield* cached
      const notices: ReadonlyArray<Notice> = [
        { _tag: "Changes", changes: [{ key, kind: "Updated", version: 9_999n }] },
        { _tag: "Changes", changes: [{ key, kind: "Updated", version: -1n }] },
        { _tag: "Changes", changes: [{ key, kind: "Deleted", version: undefined }] },
        { _tag: "User", userId: alice },
        { _tag: "Group", groupId: GroupId.make("nobody") },
        { _tag: "All" },
        { _tag: "Unreadable" }
      ]
      for (const notice of notices) {
        const pause = yield* controls.pauseAfter("load", "b")
        yield* b.clearLocalCache
        const reader = yield* begin(noteOn(b, id))
        yield* controls.forge(notice)
        yield* settle
        yield* pause.resume
        assert.strictEqual(yield* Fiber.join(reader), "old")
        assert.strictEqual(yield* noteOn(b, id), "old")
        yield* controls.forge(notice)
        yield* settle
        assert.strictEqual(yield* noteOn(b, id), "old")
        assert.strictEqual((yield* b.health).cache.size, 1, "a forged version does not keep the real one out for good")
      }
      yield* writeNote(a, id, "new")
      yield* settle
      assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )
})

describe("clocks", () => {
  for (const [name, ahead] of [
    ["forward", day],
    ["back", -day]
  ] as const) {
    it.effect(`the node's wall clock jumps a day ${name}: nothing old is served, and memory soon again`, () =>
      Effect.gen(function* () {
        const cluster = yield* makeCluster()
        const clock = yield* skewedClock
        const a = yield* cluster.node("a")
        const b = yield* cluster.node("b", { clock })
        const { id } = yield* createNoted(a)
        yield* noteOn(b, id)
        yield* clock.setWall(ahead)
        yield* pass(1)
        if (ahead > 0) assert.isFalse((yield* b.health).synced, "as if the node had slept for a day")
        assert.strictEqual(yield* noteOn(b, id), "old")
        yield* pass("10 seconds")
        assert.isTrue((yield* b.health).synced)
        yield* noteOn(b, id)
        assert.strictEqual(yield* fromMemory(cluster, b, noteOn(b, id)), "old")

        // The bound holds as before, now and after the clock was set right.
        for (const wall of [ahead, 0]) {
          yield* clock.setWall(wall)
          yield* pass("10 seconds")
          yield* noteOn(b, id)
          yield* cluster.controls.hold("b")
          yield* writeNote(a, id, `new ${wall}`)
          yield* pass(maxStaleness + 100)
          assert.strictEqual(yield* noteOn(b, id), `new ${wall}`)
          yield* cluster.controls.release("b")
        }
      })
    )
  }

  it.effect("a node whose wall clock is a day off from the start counts as everybody else does", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const clock = yield* skewedClock
      yield* clock.setWall(-day)
      const b = yield* cluster.node("b", { clock })
      const { id } = yield* a.create(alice, { expiresIn: "1 minute" })
      assert.strictEqual(yield* versionOn(b, id), 1n)
      assert.strictEqual(yield* fromMemory(cluster, b, versionOn(b, id)), 1n)
      yield* pass("59 seconds", 1_000)
      assert.strictEqual(yield* versionOn(b, id), 1n)
      yield* pass("2 seconds")
      assert.isUndefined(yield* versionOn(b, id))
    })
  )

  it.effect(
    "the database's clock jumps forward over a session's end: it is not served for longer than maxStaleness",
    () =>
      Effect.gen(function* () {
        const { a, b, controls } = yield* cached
        const { id } = yield* a.create(alice, { expiresIn: "1 hour" })
        yield* versionOn(b, id)
        yield* controls.setClockOffset(2 * 60 * 60 * 1_000)
        yield* pass(maxStaleness)
        assert.isUndefined(yield* versionOn(b, id))
        assert.isUndefined(yield* versionOn(a, id))
        assert.isTrue((yield* b.health).synced)
      })
  )

  it.effect("the database's clock jumps back: sessions live on, and are served from memory", () =>
    Effect.gen(function* () {
      const cluster = yield* cached
      const { b, controls, id } = cluster
      yield* controls.setClockOffset(-day)
      yield* pass(maxStaleness)
      assert.isTrue((yield* b.health).synced)
      yield* noteOn(b, id)
      assert.strictEqual(yield* fromMemory(cluster, b, noteOn(b, id)), "old")
    })
  )

  it.effect("nothing is served from memory between a jump of the database's clock and the new deadlines", () =>
    Effect.gen(function* () {
      const { b, controls, cost, id } = yield* cached
      const pause = yield* controls.pauseBefore("revalidate", "b")
      yield* controls.setClockOffset(60_000)
      yield* pass(1_000)
      yield* pause.arrived
      assert.isFalse((yield* b.health).synced)
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1)
      yield* pause.resume
    })
  )
})

describe("slow answers", () => {
  it.effect("an answer older than maxStaleness is discarded and asked for again", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, statements } = yield* two
      yield* controls.hold("b")
      const pause = yield* controls.pauseAfter("load", "b")
      const reader = yield* begin(noteOn(b, id))
      yield* writeNote(a, id, "new")
      yield* pass(maxStaleness + 100)
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(reader), "new")
      assert.strictEqual(yield* statements("load", "b"), 2)
    })
  )

  it.effect("three of them in a row: the read fails, and says why", () =>
    Effect.gen(function* () {
      const { b, controls, id, statements } = yield* two
      const pauses = yield* Effect.replicateEffect(controls.pauseAfter("load", "b"), 3)
      const reader = yield* begin(Effect.flip(noteOn(b, id)))
      for (const pause of pauses) {
        yield* pause.arrived
        yield* pass(maxStaleness + 100)
        yield* pause.resume
      }
      const error = yield* Fiber.join(reader)
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "Timeout", outcome: "NotApplied" })
      assert.strictEqual(yield* statements("load", "b"), 3)
    })
  )

  it.effect("a touch that takes long: the session is not answered as it was before it", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* two
      const { id } = yield* a.create(alice, { idleTimeout: "9 seconds" })
      yield* versionOn(b, id)
      yield* controls.hold("b")
      const pause = yield* controls.pauseAfter("touch", "b")
      const reader = yield* begin(b.get(id))
      yield* pause.arrived
      yield* writeNote(a, id, "new")
      yield* pass(maxStaleness + 100)
      yield* pause.resume
      const answered = yield* Fiber.join(reader)
      assert.strictEqual(answered.version, 2n)
    })
  )
})

describe("what bounds an unannounced change", () => {
  it.effect("cacheMaxAge bounds how long a session in constant use is served without being loaded again", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ cacheMaxAge: "1 minute", lastAccessFlushInterval: "20 seconds" })
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { id } = yield* createNoted(a)
      yield* b.get(id)
      yield* a.modify(id, Session.set(Note, "unannounced"), { notify: false })
      yield* settle
      assert.strictEqual(yield* noteOn(b, id), "old")
      for (let elapsed = 0; elapsed < 61; elapsed++) {
        yield* b.get(id)
        yield* pass(1_000, 1_000)
      }
      assert.isAtLeast(yield* cluster.statements("touch", "b"), 2, "its activity is written meanwhile")
      assert.strictEqual(yield* noteOn(b, id), "unannounced")
    })
  )

  it.effect("an unannounced change that shortens a limit is announced all the same", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* cached
      yield* a.modify(id, Session.setExpiresIn("1 minute"), { notify: false })
      yield* settle
      const found = yield* b.get(id, quiet)
      assert.strictEqual(Duration.toMillis(yield* Session.remaining(found)), 60_000)
    })
  )
})
