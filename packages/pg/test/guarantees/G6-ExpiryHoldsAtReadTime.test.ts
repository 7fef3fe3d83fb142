/**
 * G6 on PostgreSQL, whose clock decides: limits hold at every read without a sweep,
 * on nodes whose clocks are a day off, and whoever is active anywhere is not idle.
 */
import {
  Session,
  SessionAttribute,
  type SessionEvent,
  type SessionId,
  type SessionKey,
  type Sessions
} from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { eventually } from "../support/Faults.ts"
import { alice, lookAround, node, Note, quiet, shiftedClock, test } from "../support/Nodes.ts"

const day = 86_400_000

const isLive = (sessions: Sessions, id: SessionId) => Effect.map(sessions.find(id, quiet), Option.isSome)

/** Waits until the database's clock is beyond the session's deadline as it stands in the table. */
const deadlinePassed = (key: SessionKey) =>
  Effect.gen(function* () {
    const { number } = yield* lookAround
    const left = yield* number(
      `select ceil(extract(epoch from least(expires_at, last_accessed_at + coalesce(idle_timeout, '1 year')) - clock_timestamp()) * 1000)::int
       from @sessions where key = $1`,
      [key]
    )
    yield* Effect.sleep(Math.max(0, left) + 1)
  })

const clocks: ReadonlyArray<readonly [name: string, ahead: number]> = [
  ["right", 0],
  ["a day ahead", day],
  ["a day behind", -day]
]

describe("limits, without a sweep, on a node whose clock is", () => {
  for (const [name, ahead] of clocks) {
    test(
      name,
      Effect.gen(function* () {
        const { number } = yield* lookAround
        const a = yield* Effect.provideService(node(), Clock.Clock, shiftedClock(ahead))
        const b = yield* node()
        const Code = SessionAttribute.make("code", Schema.String, { timeToLive: "700 millis" })
        const idle = yield* a.create(alice, { idleTimeout: "800 millis" })
        const absolute = yield* b.create(alice, { expiresIn: "1 second", idleTimeout: "Infinity" })
        const lasting = yield* a.create(alice, { attributes: [SessionAttribute.value(Code, "1234")] })
        for (const sessions of [a, b]) {
          assert.isTrue(yield* isLive(sessions, idle.id))
          assert.isTrue(yield* isLive(sessions, absolute.id))
          const session = yield* sessions.get(lasting.id, quiet)
          assert.strictEqual(yield* Session.get(session, Code), "1234")
          const remaining = Duration.toMillis(yield* Session.remaining(session))
          assert.closeTo(remaining, 48 * 3_600_000, 2_000)
          const since = Option.getOrThrow(yield* Session.sinceAuthentication(session))
          assert.isBelow(Duration.toMillis(since), 2_000)
          assert.closeTo(session.createdAt.epochMilliseconds, Date.now(), 5_000, "shown times are the database's")
        }
        // Activity does not pass the absolute limit.
        while (
          yield* number("select (clock_timestamp() < expires_at)::int from @sessions where key = $1", [absolute.key])
        ) {
          yield* Effect.ignore(a.get(absolute.id))
          yield* Effect.sleep(20)
        }
        yield* deadlinePassed(idle.key)
        for (const sessions of [a, b]) {
          assert.isFalse(yield* isLive(sessions, idle.id))
          assert.isFalse(yield* isLive(sessions, absolute.id))
          assert.strictEqual((yield* Effect.flip(sessions.get(idle.id)))._tag, "SessionNotFound")
          const session = yield* sessions.get(lasting.id, quiet)
          assert.strictEqual((yield* Effect.flip(Session.get(session, Code)))._tag, "AttributeNotFound")
        }
        assert.strictEqual(yield* number("select count(*)::int from @sessions"), 3, "nobody has swept")
        // A passed deadline is final.
        assert.strictEqual((yield* Effect.flip(a.modify(idle.id, Session.set(Note, "x"))))._tag, "SessionNotFound")
        assert.strictEqual((yield* Effect.flip(a.rotate(idle.id)))._tag, "SessionNotFound")
        yield* a.flushActivity
        assert.isFalse(yield* isLive(b, idle.id))
      })
    )
  }
})

describe("activity", () => {
  test(
    "on one node keeps a session from being idle on another, although it is written far less often",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const options = { statementTimeout: "700 millis", lastAccessFlushInterval: "10 minutes" } as const
      const a = yield* Effect.provideService(node(options), Clock.Clock, shiftedClock(day))
      const b = yield* node(options)
      const { id, key } = yield* a.create(alice, { idleTimeout: "3 seconds" })
      yield* isLive(b, id)
      for (let n = 0; n < 60; n++) {
        assert.isTrue(Option.isSome(yield* a.find(id)), `on a, read ${n}`)
        assert.isTrue(yield* isLive(b, id), `on b, read ${n}`)
        yield* Effect.sleep(80)
      }
      assert.isBelow((yield* a.health).activity.written, 12)
      assert.strictEqual(yield* number("select version::int from @sessions where key = $1", [key]), 1)
      yield* eventually(Effect.map(isLive(b, id), (live) => !live))
      assert.isFalse(yield* isLive(a, id))
    })
  )

  test(
    "that does not count does not prolong",
    Effect.gen(function* () {
      const a = yield* node()
      const { id, key } = yield* a.create(alice, { idleTimeout: "500 millis" })
      const watching = yield* Effect.forkChild(Stream.runDrain(a.watch(id)))
      const peeking = yield* Effect.forkChild(Effect.forever(Effect.andThen(isLive(a, id), Effect.sleep(20))))
      yield* deadlinePassed(key)
      assert.isFalse(yield* isLive(a, id))
      yield* Fiber.interrupt(peeking)
      yield* Fiber.join(watching)
    })
  )
})

describe("changed limits", () => {
  test(
    "of a live session hold on the other node, announced or not",
    Effect.gen(function* () {
      const a = yield* node()
      const b = yield* node()
      for (const change of [Session.setIdleTimeout("300 millis"), Session.setExpiresIn("300 millis")]) {
        for (const notify of [true, false]) {
          const session = yield* a.create(alice)
          assert.isTrue(yield* isLive(b, session.id))
          yield* a.update(change(session), { notify })
          yield* deadlinePassed(session.key)
          assert.isFalse(yield* isLive(b, session.id))
        }
      }
      const prolonged = yield* a.create(alice, { idleTimeout: "800 millis" })
      assert.isTrue(yield* isLive(b, prolonged.id))
      yield* a.update(Session.setIdleTimeout(prolonged, "Infinity"), { notify: false })
      yield* Effect.sleep(801)
      assert.isTrue(yield* isLive(b, prolonged.id))
    })
  )
})

describe("sweeps", () => {
  test(
    "of three nodes at once: exactly one Expired event per session, and none for those in use",
    Effect.gen(function* () {
      const { number, query } = yield* lookAround
      const nodes = yield* Effect.forEach([1, 2, 3], () => node({ maxSessionsPerUser: 1_000 }))
      const [a] = nodes
      if (a === undefined) return assert.fail()
      const seen: Array<SessionEvent> = []
      for (const each of nodes) {
        yield* Effect.forkScoped(
          Stream.runForEach(each.events, (event) => Effect.sync(() => seen.push(event))),
          {
            startImmediately: true
          }
        )
      }
      const sessions = yield* Effect.forEach(Array.from({ length: 300 }), () => a.create(alice), { concurrency: 8 })
      yield* query("update @sessions set expires_at = clock_timestamp() - interval '1 second' where key = any($1)", [
        sessions.slice(0, 250).map(({ key }) => key)
      ])
      const sweeping = yield* Effect.forEach(Array.from({ length: 12 }), (_, n) => (nodes[n % 3] ?? a).sweep, {
        concurrency: "unbounded"
      })
      yield* a.sweep
      assert.isAtMost(
        sweeping.reduce((sum, count) => sum + count, 0),
        250
      )
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), 50)
      const expired = () => seen.flatMap((event) => (event._tag === "Expired" ? [String(event.key)] : []))
      yield* eventually(Effect.sync(() => expired().length >= 250))
      assert.deepStrictEqual(
        expired().sort(),
        sessions
          .slice(0, 250)
          .map(({ key }) => String(key))
          .sort()
      )
    })
  )

  test(
    "purge expired attributes under a new version, which every node notices",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const a = yield* node()
      const b = yield* node()
      const Code = SessionAttribute.make("code", Schema.String, { timeToLive: "50 millis" })
      const { id, key } = yield* a.create(alice, {
        attributes: [SessionAttribute.value(Code, "1234"), SessionAttribute.value(Note, "kept")]
      })
      assert.strictEqual((yield* b.get(id, quiet)).version, 1n)
      yield* eventually(
        Effect.andThen(
          a.sweep,
          Effect.map(number("select version::int from @sessions where key = $1", [key]), (v) => v === 2)
        )
      )
      yield* eventually(Effect.map(b.get(id, quiet), (session) => session.version === 2n))
      assert.deepStrictEqual((yield* b.get(id, quiet)).attributeNames, ["note"])
      assert.strictEqual(
        yield* number("select position('1234' in attributes::text) from @sessions where key = $1", [key]),
        0
      )
    })
  )
})
