import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Board } from "../src/internal/NoticeBoard.ts"
import { GroupId, type SessionId } from "../src/SessionId.ts"
import type { Notice } from "../src/SessionNotifier.ts"
import {
  alice,
  begin,
  bob,
  createNoted,
  isHeldUp,
  makeCluster,
  type Node,
  noteOn,
  pass,
  quiet,
  settle,
  versionOn,
  writeNote
} from "./support/Coherence.ts"

const isLiveOn = (node: Node, id: SessionId) => Effect.map(node.find(id, quiet), Option.isSome)

const isSynced = (node: Node) => Effect.map(node.health, ({ synced }) => synced)

const reconnects = (node: Node) => Effect.map(node.health, ({ listener }) => listener.reconnects)

/** A node that has a session in memory which ends by its absolute limit only. */
const withSession = Effect.fnUntraced(function* (expiresIn: Duration.Input) {
  const cluster = yield* makeCluster({ idleTimeout: "Infinity" })
  const a = yield* cluster.node("a")
  const { id } = yield* a.create(alice, { expiresIn })
  yield* pass("2 seconds")
  return { ...cluster, a, id }
})

describe("a jump of the database's clock", () => {
  it.effect("is not forgotten because deadlines could not be computed anew at the first attempt", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* withSession("30 minutes")
      yield* controls.failNext("revalidate", { node: "a" })
      yield* controls.setClockOffset(60 * 60_000)
      yield* pass("10 seconds")
      assert.isTrue(yield* isSynced(a))
      assert.isFalse(yield* isLiveOn(a, id), "it ended half an hour ago")
      yield* pass("20 minutes", 60_000)
      assert.isFalse(yield* isLiveOn(a, id))
    })
  )

  it.effect(
    "that is followed by a failure gives the connection up, and nothing is served from memory until all is checked",
    () =>
      Effect.gen(function* () {
        const { a, controls, cost, id } = yield* withSession("1 day")
        yield* controls.failNext("revalidate", { node: "a" })
        yield* controls.setClockOffset(60 * 60_000)
        yield* pass("1 second", 20)
        assert.strictEqual(yield* reconnects(a), 1)
        yield* pass("1 second")
        assert.isTrue(yield* isSynced(a))
        assert.strictEqual(yield* cost("load", "a", isLiveOn(a, id)), 0)
      })
  )

  it.effect("stops serving from memory while deadlines are computed anew, whatever beat comes back meanwhile", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* withSession("30 minutes")
      // The beat that brings the new time along is answered, but is not back yet.
      yield* controls.hold("a")
      const revalidating = yield* controls.pauseBefore("revalidate", "a")
      yield* controls.setClockOffset(60 * 60_000)
      yield* pass("1 second")
      yield* revalidating.arrived
      assert.isFalse(yield* isSynced(a))
      yield* controls.release("a")
      yield* settle
      assert.isFalse(yield* isSynced(a))
      assert.isFalse(yield* isLiveOn(a, id))
      yield* revalidating.resume
      yield* pass("1 second")
      assert.isTrue(yield* isSynced(a))
    })
  )
})

describe("a drift of the database's clock", () => {
  it.effect("is made up for without a pause", () =>
    Effect.gen(function* () {
      const { a, controls, cost, id } = yield* withSession("10 seconds")
      yield* controls.setClockOffset(2_000)
      const revalidating = yield* controls.pauseBefore("revalidate", "a")
      yield* pass("1 second")
      yield* revalidating.arrived
      assert.isTrue(yield* isSynced(a))
      assert.strictEqual(yield* cost("load", "a", isLiveOn(a, id)), 0)
      yield* revalidating.resume
      yield* pass(4_900)
      assert.isTrue(yield* isLiveOn(a, id), "9 900 ms old")
      yield* pass(200)
      assert.isFalse(yield* isLiveOn(a, id), "10 100 ms old")
      assert.strictEqual(yield* reconnects(a), 0)
    })
  )

  it.effect("is not forgotten because deadlines could not be computed anew at the first attempt", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* withSession("10 seconds")
      yield* controls.failNext("revalidate", { node: "a" })
      yield* controls.setClockOffset(2_000)
      yield* pass(5_900)
      assert.isTrue(yield* isLiveOn(a, id), "9 900 ms old")
      assert.isTrue(yield* isSynced(a))
      yield* pass(200)
      assert.isFalse(yield* isLiveOn(a, id), "10 100 ms old")
    })
  )

  it.effect("is told to the locks of the node, whose leases may end earlier than they know", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster()
      const board = new Board()
      let told = 0
      board.add({ hear: () => {}, resume: () => void told++ })
      yield* node("a", { board })
      yield* pass("5 seconds")
      const before = told
      yield* controls.setClockOffset(2_000)
      yield* pass("2 seconds")
      assert.strictEqual(told, before + 1)
    })
  )

  it.effect("is measured against the last time that deadlines were computed", () =>
    Effect.gen(function* () {
      const { a, controls, id, statements } = yield* withSession("1 day")
      const before = yield* statements("revalidate", "a")
      for (let step = 1; step <= 8; step++) {
        yield* controls.setClockOffset(step * 200)
        yield* pass("1 second")
      }
      // 1 600 ms in all; every third step of 200 ms is beyond the tolerance of 500 ms.
      assert.strictEqual((yield* statements("revalidate", "a")) - before, 2)
      assert.isTrue(yield* isLiveOn(a, id))
    })
  )
})

describe("a listener that reaches another server than the queries", () => {
  const failover = Effect.gen(function* () {
    const cluster = yield* makeCluster()
    const a = yield* cluster.node("a")
    const session = yield* createNoted(a)
    yield* pass("2 seconds")
    yield* cluster.controls.setServer({ identity: "new" }, "subscriptions")
    yield* cluster.controls.cut("a")
    return { ...cluster, a, session }
  })

  it.effect("drops what was loaded from the old one, and does not serve from memory", () =>
    Effect.gen(function* () {
      const { a, controls, cost, session } = yield* failover
      yield* pass(300, 10)
      yield* versionOn(a, session.id)
      assert.strictEqual(a.cache.size, 1)
      yield* pass(1_000, 50)
      assert.strictEqual(a.cache.size, 0)
      assert.strictEqual(yield* cost("load", "a", versionOn(a, session.id)), 1)
      assert.isFalse(yield* isSynced(a))
      assert.isTrue(Option.isSome((yield* a.health).listener.problem))
      yield* pass(5_000, 50)
      yield* controls.setServer({ identity: "new" }, "queries")
      yield* pass(20_000)
      assert.isTrue(yield* isSynced(a))
      assert.isTrue(Option.isNone((yield* a.health).listener.problem))
    })
  )

  it.effect("drops also what was loaded from the old one between its last two attempts", () =>
    Effect.gen(function* () {
      const { a, controls, cost, session } = yield* failover
      yield* pass(300, 10)
      while ((yield* controls.connections("a")) > 0) yield* pass(5, 5)
      yield* versionOn(a, session.id)
      assert.strictEqual(a.cache.size, 1)
      yield* controls.setServer({ identity: "new" }, "queries")
      yield* pass("10 seconds")
      assert.isTrue(yield* isSynced(a))
      assert.strictEqual(yield* cost("load", "a", versionOn(a, session.id)), 1)
    })
  )

  it.effect("before the first connection: what was loaded without one is dropped", () =>
    Effect.gen(function* () {
      const { controls, cost, node } = yield* makeCluster()
      const a = yield* node("a")
      const { id } = yield* createNoted(a)
      yield* controls.failNext("connect", { node: "b", times: 10 })
      const starting = yield* begin(node("b"))
      yield* pass("3 seconds")
      const b = yield* Fiber.join(starting)
      assert.isFalse(yield* isSynced(b))
      yield* versionOn(b, id)
      assert.strictEqual(b.cache.size, 1)
      yield* controls.setServer({ identity: "new" })
      yield* pass("1 minute", 1_000)
      assert.isTrue(yield* isSynced(b))
      assert.strictEqual(yield* cost("load", "b", versionOn(b, id)), 1)
    })
  )
})

describe("a bulk notice", () => {
  const group = GroupId.make("team")
  const otherGroup = GroupId.make("others")

  /** How many loads two reads of alice's session of a group cause, where notices pass during the first one. */
  const loadsAcross = Effect.fnUntraced(function* (...passing: ReadonlyArray<Notice>) {
    const cluster = yield* makeCluster()
    const a = yield* cluster.node("a")
    const b = yield* cluster.node("b")
    const { id } = yield* a.create(alice, { groupId: group })
    const answered = yield* cluster.controls.pauseAfter("load", "b")
    const reading = yield* begin(versionOn(b, id))
    yield* answered.arrived
    for (const notice of passing) yield* cluster.controls.forge(notice)
    yield* settle
    yield* answered.resume
    assert.strictEqual(yield* Fiber.join(reading), 1n)
    assert.strictEqual(yield* versionOn(b, id), 1n)
    assert.strictEqual(b.cache.fills.size, 0)
    return yield* cluster.statements("load", "b")
  })

  it.effect("about another user or group lets what is in flight be cached", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* loadsAcross(), 1)
      assert.strictEqual(yield* loadsAcross({ _tag: "User", userId: bob }), 1)
      assert.strictEqual(yield* loadsAcross({ _tag: "Group", groupId: otherGroup }), 1)
      assert.strictEqual(yield* loadsAcross({ _tag: "User", userId: bob }, { _tag: "Group", groupId: otherGroup }), 1)
    })
  )

  it.effect("about its user, its group or everything does not", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* loadsAcross({ _tag: "User", userId: alice }), 2)
      assert.strictEqual(yield* loadsAcross({ _tag: "Group", groupId: group }), 2)
      assert.strictEqual(yield* loadsAcross({ _tag: "All" }), 2)
      assert.strictEqual(yield* loadsAcross({ _tag: "User", userId: alice }, { _tag: "User", userId: bob }), 2)
      assert.strictEqual(
        yield* loadsAcross({ _tag: "Group", groupId: otherGroup }, { _tag: "Group", groupId: group }),
        2
      )
    })
  )

  it.effect("of one kind does not mean the same name of the other kind", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* loadsAcross({ _tag: "Group", groupId: GroupId.make(alice) }), 1)
    })
  )

  it.effect("about others does not hold up readers: one load is enough, however many notices pass", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { id } = yield* createNoted(a)
      for (let round = 0; round < 20; round++) {
        const pause = yield* cluster.controls.pauseAfter("load", "b")
        const reading = yield* begin(versionOn(b, id))
        yield* cluster.controls.forge({ _tag: "User", userId: bob })
        yield* settle
        yield* pause.resume
        yield* Fiber.join(reading)
      }
      assert.strictEqual(yield* cluster.statements("load", "b"), 1)
    })
  )

  it.effect("takes new readers out of what is in flight: they are told the state after it", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { id } = yield* createNoted(a)
      const pause = yield* cluster.controls.pauseAfter("load", "b")
      const early = yield* begin(isLiveOn(b, id))
      yield* pause.arrived
      yield* a.deleteAllForUser(alice)
      yield* settle
      assert.isFalse(yield* isLiveOn(b, id))
      assert.isTrue(isHeldUp(early))
      yield* pause.resume
      yield* Fiber.join(early)
      assert.isFalse(yield* isLiveOn(b, id))
    })
  )

  it.effect("keeps an own write that is in flight out of memory only where it is about its user", () =>
    Effect.gen(function* () {
      for (const [userId, expected] of [
        [alice, 1],
        [bob, 0]
      ] as const) {
        const cluster = yield* makeCluster()
        const a = yield* cluster.node("a")
        const { id } = yield* createNoted(a)
        yield* cluster.controls.hold("a")
        const pause = yield* cluster.controls.pauseAfter("write", "a")
        const writing = yield* begin(writeNote(a, id, "new"))
        yield* pause.arrived
        yield* cluster.controls.forge({ _tag: "User", userId })
        yield* cluster.controls.release("a")
        yield* settle
        yield* pause.resume
        yield* Fiber.join(writing)
        assert.strictEqual(yield* cluster.cost("load", "a", noteOn(a, id)), expected)
      }
    })
  )

  it.effect("wakes those who follow a session that it is about, or that is not in memory, and nobody else", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ cacheCapacity: 2 })
      const a = yield* cluster.node("a")
      const sessions = [
        yield* a.create(alice, { groupId: group }),
        yield* a.create(alice, { groupId: otherGroup }),
        yield* a.create(bob)
      ]
      const woken = sessions.map(() => 0)
      sessions.forEach(({ key }, index) => {
        a.cache.watchers.add(key, () => {
          woken[index] = (woken[index] ?? 0) + 1
        })
      })
      const since = (notice: Notice) =>
        Effect.gen(function* () {
          woken.fill(0)
          yield* cluster.controls.forge(notice)
          yield* settle
          return [...woken]
        })
      // The first one had to make room for the third one.
      assert.deepStrictEqual(yield* since({ _tag: "Group", groupId: GroupId.make("nobody's") }), [1, 0, 0])
      assert.deepStrictEqual(yield* since({ _tag: "Group", groupId: otherGroup }), [1, 1, 0])
      assert.deepStrictEqual(yield* since({ _tag: "User", userId: bob }), [1, 1, 1])
      for (const { id } of sessions.slice(1)) yield* a.find(id, quiet)
      assert.deepStrictEqual(yield* since({ _tag: "User", userId: bob }), [1, 0, 1])
      assert.deepStrictEqual(yield* since({ _tag: "All" }), [1, 1, 1])
    })
  )
})
