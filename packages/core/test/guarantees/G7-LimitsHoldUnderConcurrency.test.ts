/**
 * G7: `maxSessionsPerUser` is never exceeded. Here what the limit means, with exact
 * times; races between nodes are in the suite on PostgreSQL.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import type { SessionEvent } from "../../src/SessionEvent.ts"
import type { UserId } from "../../src/SessionId.ts"
import type { Sessions } from "../../src/SessionStore.ts"
import { alice, bob, makeCluster, Note, quiet, settle } from "../support/Coherence.ts"
import { SessionAttribute } from "../../src/SessionAttribute.ts"

const limit = { maxSessionsPerUser: 3, cleanupInterval: "7 days" } as const

/** So many logins, a second apart. */
const logins = (node: Sessions, userId: UserId, count: number) =>
  Effect.forEach(Array.from({ length: count }), () =>
    Effect.tap(node.create(userId), () => TestClock.adjust("1 second"))
  )

const keys = (sessions: ReadonlyArray<{ readonly key: string }>) => sessions.map(({ key }) => key)

describe("evictOldest", () => {
  it.effect("ends the session whose user logged in the longest ago, on every node, and says so", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(limit)
      const a = yield* node("a")
      const b = yield* node("b")
      const events: Array<SessionEvent> = []
      yield* Effect.forkScoped(
        Stream.runForEach(a.events, (event) => Effect.sync(() => events.push(event))),
        {
          startImmediately: true
        }
      )
      const [first, second, third] = yield* logins(a, alice, 3)
      if (first === undefined || second === undefined || third === undefined) return assert.fail()
      for (const { id } of [first, second, third]) yield* b.get(id)
      // Neither the last access nor the order on another node matters.
      yield* a.get(first.id)
      yield* a.flushActivity
      const [fourth] = yield* logins(a, alice, 1)
      yield* settle
      assert.isTrue(Option.isNone(yield* a.find(first.id)))
      assert.isTrue(Option.isNone(yield* b.find(first.id)))
      assert.deepStrictEqual(keys(yield* a.listForUser(alice)), keys([fourth ?? first, third, second]))
      assert.deepStrictEqual(
        events.filter(({ _tag }) => _tag === "Evicted"),
        [{ _tag: "Evicted", key: first.key, userId: alice }]
      )
      yield* a.create(bob)
      assert.lengthOf(yield* a.listForUser(alice), 3)
    })
  )

  it.effect("what has expired does not count, and is left to the sweep", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster(limit)
      const a = yield* node("a")
      const kept = yield* a.create(alice)
      for (let n = 0; n < 5; n++)
        yield* a.create(alice, { idleTimeout: "1 second" }).pipe(Effect.tap(TestClock.adjust("1 second")))
      assert.lengthOf(yield* controls.rows, 6)
      yield* a.create(alice)
      yield* a.create(alice)
      assert.isTrue(Option.isSome(yield* a.find(kept.id)))
      assert.lengthOf(yield* a.listForUser(alice), 3)
      assert.strictEqual(yield* a.sweep, 5)
    })
  )

  it.effect("a lower limit after a restart: the next login ends all that are too many", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ cleanupInterval: "7 days" })
      const a = yield* node("a", { maxSessionsPerUser: 10 })
      const before = yield* logins(a, alice, 10)
      const b = yield* node("b", { maxSessionsPerUser: 3 })
      const last = yield* b.create(alice)
      assert.deepStrictEqual(keys(yield* b.listForUser(alice)), keys([last, ...before.slice(8).toReversed()]))
    })
  )

  it.effect("a guest who logs in counts from then on; one who authenticates again stays", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster(limit)
      const a = yield* node("a")
      const [first] = yield* logins(a, alice, 3)
      if (first === undefined) return assert.fail()
      const guest = yield* a.createAnonymous({ attributes: [SessionAttribute.value(Note, "cart")] })
      for (let n = 0; n < 20; n++) yield* a.createAnonymous()
      assert.lengthOf(yield* a.listForUser(alice), 3)
      const rotated = yield* a.rotate(guest.id, { userId: alice })
      assert.deepStrictEqual(rotated.attributeNames, ["note"])
      assert.lengthOf(yield* a.listForUser(alice), 3)
      assert.isTrue(Option.isNone(yield* a.find(first.id, quiet)))
      assert.isTrue(Option.isNone(yield* a.find(guest.id, quiet)), "no grace where the user changes")
      // Again the same user: nobody has to go.
      const again = yield* a.rotate(rotated.id, { userId: alice })
      assert.lengthOf(yield* a.listForUser(alice), 3)
      // Another user takes it over: it does not count for the first one any more.
      yield* a.rotate(again.id, { userId: bob })
      assert.lengthOf(yield* a.listForUser(alice), 2)
    })
  )
})

describe("reject", () => {
  it.effect("refuses the login that is too much, creates nothing, and lets it in once there is room", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster({ ...limit, onSessionLimit: "reject" })
      const a = yield* node("a")
      const sessions = yield* logins(a, alice, 3)
      const guest = yield* a.createAnonymous()
      const error = yield* Effect.flip(a.create(alice))
      assert.strictEqual(error._tag, "TooManySessions")
      assert.include(error.message, "3 sessions")
      assert.strictEqual((yield* Effect.flip(a.rotate(guest.id, { userId: alice })))._tag, "TooManySessions")
      assert.isTrue(Option.isSome(yield* a.find(guest.id)), "the guest goes on")
      assert.lengthOf(yield* controls.rows, 4)
      const [first, second, third] = sessions
      if (first === undefined || second === undefined || third === undefined) return assert.fail()
      yield* a.rotate(second.id, { userId: alice })
      yield* a.delete(first.id)
      yield* a.create(alice)
      yield* Effect.flip(a.create(alice))
      // Nor does anybody else suffer.
      yield* a.create(bob)
    })
  )

  it.effect("what has expired makes room, swept or not", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ ...limit, onSessionLimit: "reject", idleTimeout: "1 minute" })
      const a = yield* node("a")
      for (let n = 0; n < 3; n++) yield* a.create(alice)
      yield* TestClock.adjust(59_999)
      yield* Effect.flip(a.create(alice))
      yield* TestClock.adjust(1)
      yield* a.create(alice)
    })
  )
})
