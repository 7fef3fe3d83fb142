/**
 * G6: idle limit, absolute limit and attribute expiry are enforced on every read,
 * not when a sweeper comes by; time is the database's; an active session is never
 * taken for idle. Here to the millisecond, on the in-process database.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Session } from "../../src/Session.ts"
import { SessionAttribute } from "../../src/SessionAttribute.ts"
import type { SessionOptions } from "../../src/SessionConfig.ts"
import type { SessionEvent } from "../../src/SessionEvent.ts"
import { type SessionId, UserId } from "../../src/SessionId.ts"
import type { FindOptions, Sessions } from "../../src/SessionStore.ts"
import { alice, begin, makeCluster, Note, pass, quiet, settle, skewedClock } from "../support/Coherence.ts"

const minute = 60_000
const day = 24 * 60 * minute

/** Nothing is swept, and what is gathered is written when an idle limit demands it only. */
const settings: SessionOptions = {
  cleanupInterval: "7 days",
  idleTimeout: "1 minute",
  sessionLifetime: "1 hour",
  lastAccessFlushInterval: "10 minutes",
  statementTimeout: "1 second"
}

/** Twice the statement timeout: from here on a read touches synchronously. */
const margin = 2_000

const isLive = (node: Sessions, id: SessionId, options?: FindOptions) =>
  Effect.map(node.find(id, options), Option.isSome)

/** Moves the database's clock to a point in time, counted from the beginning of the test. */
const until = (time: number) => Effect.andThen(TestClock.setTime(time), settle)

const peeks: ReadonlyArray<readonly [name: string, options: FindOptions]> = [
  ["from memory", quiet],
  ["from the database", { ...quiet, refresh: true }],
  ["by version", { ...quiet, minVersion: 1n }]
]

describe("limits, to the millisecond and without a sweep", () => {
  it.effect.each(peeks)("the idle limit, read %s", ([, options]) =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const start = yield* TestClock.testClockWith((clock) => clock.currentTimeMillis)
      const { id } = yield* a.create(alice)
      assert.isTrue(yield* isLive(b, id, options))
      yield* until(start + minute - 1)
      assert.deepStrictEqual([yield* isLive(a, id, options), yield* isLive(b, id, options)], [true, true])
      yield* until(start + minute)
      assert.deepStrictEqual([yield* isLive(a, id, options), yield* isLive(b, id, options)], [false, false])
      assert.isFalse(yield* isLive(a, id))
      assert.strictEqual((yield* Effect.flip(a.get(id)))._tag, "SessionNotFound")
    })
  )

  it.effect.each(peeks)("the absolute limit, whatever the activity, read %s", ([, options]) =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const { id } = yield* a.create(alice)
      for (let time = 50_000; time < 60 * minute; time += 50_000) {
        yield* until(time)
        assert.isTrue(yield* isLive(a, id), `after ${time} ms`)
      }
      yield* until(60 * minute - 1)
      assert.isTrue(yield* isLive(a, id))
      assert.isTrue(yield* isLive(a, id, options))
      yield* until(60 * minute)
      assert.isFalse(yield* isLive(a, id, options))
      assert.isFalse(yield* isLive(a, id))
    })
  )

  it.effect("the absolute limit, also for whoever joins a load from before it that takes its time", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const start = yield* TestClock.testClockWith((clock) => clock.currentTimeMillis)
      const { id } = yield* a.create(alice, { expiresIn: "10 seconds" })
      yield* until(start + 9_999)
      const pause = yield* controls.pauseAfter("load", "b")
      const before = yield* begin(isLive(b, id, quiet))
      yield* pause.arrived
      yield* until(start + 10_000)
      const after = yield* begin(isLive(b, id, quiet))
      yield* pause.resume
      yield* Fiber.join(before)
      assert.isFalse(yield* Fiber.join(after))
    })
  )

  it.effect("an attribute's, even in a session that was read before", () =>
    Effect.gen(function* () {
      const Elevated = SessionAttribute.make("elevated", Schema.Boolean, { timeToLive: "10 seconds" })
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const created = yield* a.create(alice, {
        attributes: [
          SessionAttribute.value(Elevated, true),
          SessionAttribute.value(Note, "n", { timeToLive: "5 seconds" })
        ]
      })
      const held = yield* a.get(created.id, quiet)
      yield* until(4_999)
      assert.deepStrictEqual(held.attributeNames, ["elevated", "note"])
      yield* until(5_000)
      assert.deepStrictEqual(held.attributeNames, ["elevated"])
      assert.strictEqual(yield* Session.get(held, Note), "")
      yield* until(9_999)
      for (const session of [
        held,
        yield* a.get(created.id, quiet),
        yield* a.get(created.id, { ...quiet, refresh: true })
      ]) {
        assert.isTrue(yield* Session.get(session, Elevated))
      }
      yield* until(10_000)
      for (const session of [
        held,
        yield* a.get(created.id, quiet),
        yield* a.get(created.id, { ...quiet, refresh: true })
      ]) {
        assert.strictEqual((yield* Effect.flip(Session.get(session, Elevated)))._tag, "AttributeNotFound")
        assert.deepStrictEqual(yield* Session.getOption(session, Elevated), Option.none())
        assert.deepStrictEqual(session.attributeNames, [])
      }
      // It counts as absent in checks, too, and its size does not count.
      const saved = yield* a.update(Session.set(held, Elevated, false))
      assert.isFalse(yield* Session.get(saved, Elevated))
      yield* until(19_999)
      assert.isFalse(yield* Session.get(yield* a.get(created.id), Elevated))
    })
  )

  it.effect("a guest's own", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ ...settings, anonymousLifetime: "30 seconds" })
      const a = yield* node("a")
      const { id } = yield* a.createAnonymous()
      yield* until(29_999)
      assert.isTrue(yield* isLive(a, id))
      yield* until(30_000)
      assert.isFalse(yield* isLive(a, id))
    })
  )

  it.effect("an infinite idle limit is none", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ ...settings, maxStaleness: "10 minutes" })
      const a = yield* node("a")
      const { id } = yield* a.create(alice, { idleTimeout: "Infinity", expiresIn: "10 hours" })
      yield* until(10 * 60 * minute - 1)
      assert.isTrue(yield* isLive(a, id, quiet))
      yield* until(10 * 60 * minute)
      assert.isFalse(yield* isLive(a, id, quiet))
    })
  )

  it.effect("a watched session ends when its limit has passed", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const { id } = yield* a.create(alice)
      const fiber = yield* begin(Stream.runCollect(a.watch(id)))
      yield* until(minute - 1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* until(minute + 1)
      assert.lengthOf(yield* Fiber.join(fiber), 1)
    })
  )
})

describe("activity", () => {
  it.effect("a use early enough is gathered, and written just before the session would be idle", () =>
    Effect.gen(function* () {
      const { controls, node, statements } = yield* makeCluster(settings)
      const a = yield* node("a")
      const { id, key } = yield* a.create(alice)
      yield* until(minute - margin - 1)
      assert.isTrue(yield* isLive(a, id))
      assert.strictEqual(yield* statements("touch"), 0)
      yield* until(minute - margin)
      assert.strictEqual(yield* statements("touch"), 1)
      const [row] = yield* controls.rows
      assert.strictEqual(row?.key, key)
      assert.strictEqual(row?.lastAccessedAt, minute - margin - 1)
      // The confirmed use counts from when it was made.
      yield* until(minute - margin - 1 + minute - 1)
      assert.isTrue(yield* isLive(a, id, quiet))
      yield* until(minute - margin - 1 + minute)
      assert.isFalse(yield* isLive(a, id, quiet))
    })
  )

  it.effect(
    "inside the margin a use is written before it is answered, and a refusal means that the session has ended",
    () =>
      Effect.gen(function* () {
        const { controls, node, statements } = yield* makeCluster(settings)
        const a = yield* node("a")
        const { id } = yield* a.create(alice)
        yield* until(minute - margin)
        const pause = yield* controls.pauseBefore("touch")
        const reading = yield* begin(isLive(a, id))
        assert.isUndefined(reading.pollUnsafe())
        yield* pause.resume
        assert.isTrue(yield* Fiber.join(reading))
        assert.strictEqual(yield* statements("touch"), 1)
        yield* until(2 * minute - margin - 1)
        assert.isTrue(yield* isLive(a, id, quiet))

        yield* until(2 * minute - margin - 1)
        const late = yield* controls.pauseBefore("touch")
        yield* until(2 * minute - margin)
        const tooLate = yield* begin(isLive(a, id))
        yield* until(2 * minute)
        yield* late.resume
        yield* settle
        assert.isFalse(yield* Fiber.join(tooLate), "a passed deadline is final")
        assert.isFalse(yield* isLive(a, id, { refresh: true }))
      })
  )

  it.effect("a flush that arrives after the deadline does not revive the session, on any node", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const { id } = yield* a.create(alice)
      yield* until(minute - margin - 1)
      assert.isTrue(yield* isLive(a, id))
      const pause = yield* controls.pauseBefore("touch", "a")
      yield* until(minute)
      assert.isFalse(yield* isLive(b, id, quiet))
      yield* pause.resume
      yield* settle
      assert.isFalse(yield* isLive(a, id, quiet))
      assert.isFalse(yield* isLive(a, id))
      assert.isFalse(yield* isLive(b, id, { refresh: true }))
    })
  )

  it.effect("neither does a write", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const session = yield* a.create(alice)
      yield* until(minute - 1)
      const pause = yield* controls.pauseBefore("write")
      const writing = yield* begin(Effect.flip(a.update(Session.set(session, Note, "late"))))
      yield* until(minute)
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(writing))._tag, "SessionNotFound")
      assert.strictEqual((yield* Effect.flip(a.rotate(session.id)))._tag, "SessionNotFound")
      assert.isFalse(yield* isLive(a, session.id))
    })
  )

  it.effect("on one node keeps the session alive on another, which never heard of it", () =>
    Effect.gen(function* () {
      const { node, statements } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const { id } = yield* a.create(alice, { expiresIn: "10 hours" })
      assert.isTrue(yield* isLive(b, id, quiet))
      let last = 0
      for (let time = 5_000; time <= 12 * minute; time += 5_000) {
        yield* until(time)
        assert.isTrue(yield* isLive(a, id), `on a after ${time} ms`)
        assert.isTrue(yield* isLive(b, id, quiet), `on b after ${time} ms`)
        last = time
      }
      // It was gathered, not written each time.
      assert.isBelow(yield* statements("touch"), 16)
      yield* until(last + minute - 1)
      assert.isTrue(yield* isLive(b, id, quiet))
      yield* until(last + minute)
      assert.isFalse(yield* isLive(b, id, quiet))
      assert.isFalse(yield* isLive(a, id, quiet))
    })
  )

  it.effect("that could not be written is written again, in time", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster({ ...settings, statementTimeout: "3 seconds" })
      const a = yield* node("a")
      const { id } = yield* a.create(alice)
      yield* until(30_000)
      assert.isTrue(yield* isLive(a, id))
      yield* controls.failNext("touch", { times: 4 })
      yield* pass("40 seconds")
      assert.isTrue(yield* isLive(a, id, { ...quiet, refresh: true }))
      assert.strictEqual((yield* a.health).activity.failures, 4)
    })
  )

  it.effect("survives the eviction of its session from memory", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ ...settings, cacheCapacity: 1 })
      const a = yield* node("a")
      const first = yield* a.create(alice)
      yield* until(30_000)
      assert.isTrue(yield* isLive(a, first.id))
      yield* a.create(UserId.make("bob"))
      yield* until(89_999)
      assert.isTrue(yield* isLive(a, first.id, { ...quiet, refresh: true }))
      yield* until(90_000)
      assert.isFalse(yield* isLive(a, first.id, { ...quiet, refresh: true }))
    })
  )

  it.effect("does not come from touch: false, from watching, from lists or from health", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const { id } = yield* a.create(alice)
      yield* begin(Stream.runDrain(a.watch(id)))
      for (let time = 5_000; time < minute; time += 5_000) {
        yield* until(time)
        for (const [, options] of peeks) assert.isTrue(yield* isLive(a, id, options))
        assert.lengthOf(yield* a.listForUser(alice), 1)
        yield* a.health
        yield* a.flushActivity
        yield* a.modify(id, (session) => session, quiet)
      }
      yield* until(minute)
      assert.isFalse(yield* isLive(a, id, quiet))
    })
  )
})

describe("changed limits", () => {
  it.effect.each([true, false])("a shortened one holds on the other node, notify: %j", (notify) =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const session = yield* a.create(alice)
      const other = yield* a.create(UserId.make("bob"))
      assert.isTrue(yield* isLive(b, session.id, quiet))
      assert.isTrue(yield* isLive(b, other.id, quiet))
      yield* a.update(Session.setIdleTimeout(session, "5 seconds"), { notify })
      yield* a.update(Session.setExpiresIn(other, "5 seconds"), { notify })
      yield* until(4_999)
      for (const { id } of [session, other]) assert.isTrue(yield* isLive(b, id, quiet))
      yield* until(5_000)
      for (const { id } of [session, other]) {
        assert.isFalse(yield* isLive(b, id, quiet))
        assert.isFalse(yield* isLive(a, id, quiet))
      }
    })
  )

  it.effect("a prolonged one holds on the other node, told or not", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const session = yield* a.create(alice)
      assert.isTrue(yield* isLive(b, session.id, quiet))
      yield* a.update(session.pipe(Session.setIdleTimeout("Infinity"), Session.setExpiresIn("2 hours")), {
        notify: false
      })
      yield* until(90 * minute)
      assert.isTrue(yield* isLive(b, session.id, quiet))
      yield* until(120 * minute)
      assert.isFalse(yield* isLive(b, session.id, quiet))
    })
  )

  it.effect("a use that is gathered under a long limit is written in time under a short one", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const session = yield* a.create(alice, { idleTimeout: "30 minutes" })
      // Waits on b, to be written in ten minutes.
      assert.isTrue(yield* isLive(b, session.id))
      yield* a.update(Session.setIdleTimeout(session, "1 minute"))
      yield* settle
      yield* until(45_000)
      assert.isTrue(yield* isLive(b, session.id))
      yield* until(minute)
      assert.isTrue(yield* isLive(b, session.id, quiet), "it was active 15 seconds ago")
      assert.strictEqual((yield* controls.rows)[0]?.lastAccessedAt, 45_000)
    })
  )

  it.effect("a login starts the limits anew", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const guest = yield* a.createAnonymous({ expiresIn: "40 seconds" })
      yield* until(30_000)
      const rotated = yield* a.rotate(guest.id, { userId: alice, expiresIn: "45 seconds" })
      yield* until(74_999)
      assert.isTrue(yield* isLive(a, rotated.id, quiet))
      yield* until(75_000)
      assert.isFalse(yield* isLive(a, rotated.id, quiet))
    })
  )
})

describe("clocks", () => {
  const skewed = (ahead: number) => Effect.tap(skewedClock, (clock) => clock.setWall(ahead))

  it.effect.each([day, -day, 0.5, -12_345_678])("a node whose wall clock is %d ms ahead behaves the same", (ahead) =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const clock: Clock.Clock = yield* skewed(ahead)
      const a = yield* node("a", { clock })
      const b = yield* node("b")
      const { id } = yield* a.create(alice)
      assert.isTrue(yield* isLive(b, id, quiet))
      const held = yield* a.get(id, quiet)
      yield* until(45_000)
      assert.strictEqual(Duration.toMillis(yield* Session.remaining(held)), 15_000)
      assert.deepStrictEqual(yield* Session.sinceAuthentication(held), Option.some(Duration.seconds(45)))
      assert.isTrue(yield* isLive(a, id))
      yield* until(104_999)
      assert.deepStrictEqual([yield* isLive(a, id, quiet), yield* isLive(b, id, quiet)], [true, true])
      yield* until(105_000)
      assert.deepStrictEqual([yield* isLive(a, id, quiet), yield* isLive(b, id, quiet)], [false, false])
    })
  )

  it.effect.each([day, -day])("a wall clock that jumps by %d ms neither ends nor prolongs a session", (jump) =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(settings)
      const clock = yield* skewedClock
      const a = yield* node("a", { clock })
      const { id } = yield* a.create(alice)
      yield* until(30_000)
      yield* clock.setWall(jump)
      assert.isTrue(yield* isLive(a, id, quiet))
      yield* until(minute - 1)
      assert.isTrue(yield* isLive(a, id, quiet))
      yield* until(minute)
      assert.isFalse(yield* isLive(a, id, quiet))
    })
  )

  it.effect("when the database's clock jumps ahead, what it ends is ended on the nodes with the next beat", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(settings)
      const a = yield* node("a")
      const session = yield* a.create(alice, { idleTimeout: "Infinity", expiresIn: "30 minutes" })
      const lasting = yield* a.create(UserId.make("bob"), { idleTimeout: "Infinity", expiresIn: "50 minutes" })
      yield* controls.setClockOffset(40 * minute)
      yield* pass("1 second")
      assert.isFalse(yield* isLive(a, session.id, quiet))
      assert.isTrue(yield* isLive(a, lasting.id, quiet))
      yield* until(10 * minute - 1)
      assert.isTrue(yield* isLive(a, lasting.id, quiet))
      yield* until(10 * minute)
      assert.isFalse(yield* isLive(a, lasting.id, quiet))
    })
  )
})

describe("sweeps", () => {
  /** What a node publishes, from now on. */
  const eventsOf = Effect.fnUntraced(function* (node: Sessions) {
    const seen: Array<SessionEvent> = []
    yield* Effect.forkScoped(
      Stream.runForEach(node.events, (event) => Effect.sync(() => seen.push(event))),
      {
        startImmediately: true
      }
    )
    yield* settle
    return seen
  })

  it.effect("exactly one Expired event per session, whoever of three nodes finds it", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster({
        ...settings,
        cleanupInterval: "90 seconds",
        maxSessionsPerUser: 100
      })
      const nodes = [yield* node("a"), yield* node("b"), yield* node("c")] as const
      const seen = yield* Effect.forEach(nodes, eventsOf)
      const ids = yield* Effect.forEach(Array.from({ length: 60 }), (_, n) => (nodes[n % 3] ?? nodes[0]).create(alice))
      const deleted = ids.slice(0, 5)
      yield* Effect.forEach(deleted, ({ id }) => nodes[1].delete(id))
      const kept = ids.slice(5, 10)
      for (let time = 30_000; time < 4 * minute; time += 30_000) {
        yield* until(time)
        for (const { id } of kept) assert.isTrue(yield* isLive(nodes[2], id))
        // Whoever reads an expired session neither removes nor reports it.
        for (const { id } of ids.slice(10)) yield* isLive(nodes[0], id, { ...quiet, refresh: true })
        yield* Effect.forEach(nodes, (each) => each.sweep, { concurrency: "unbounded" })
      }
      const expired = seen.flat().flatMap((event) => (event._tag === "Expired" ? [event.key] : []))
      assert.deepStrictEqual(
        expired.toSorted(),
        ids
          .slice(10)
          .map(({ key }) => key)
          .toSorted()
      )
      assert.lengthOf(yield* controls.rows, kept.length)
    })
  )

  it.effect("purged attributes give the session a new version, and every node notices", () =>
    Effect.gen(function* () {
      const { controls, node, statements } = yield* makeCluster(settings)
      const a = yield* node("a")
      const b = yield* node("b")
      const Secret = SessionAttribute.make("code", Schema.String, { timeToLive: "10 seconds" })
      const { id, version } = yield* a.create(alice, { attributes: [SessionAttribute.value(Secret, "1234")] })
      assert.strictEqual((yield* b.get(id, quiet)).version, version)
      yield* until(10_000)
      assert.strictEqual(yield* a.sweep, 0)
      yield* settle
      assert.strictEqual((yield* controls.rows)[0]?.attributes.size, 0)
      const before = yield* statements("load", "b")
      assert.strictEqual((yield* b.get(id, quiet)).version, version + 1n)
      assert.strictEqual((yield* a.get(id, quiet)).version, version + 1n)
      assert.strictEqual(yield* statements("load", "b"), before + 1)
      // Nobody's activity: the session still ends when it would have ended.
      yield* until(minute)
      assert.isFalse(yield* isLive(b, id, quiet))
    })
  )
})
