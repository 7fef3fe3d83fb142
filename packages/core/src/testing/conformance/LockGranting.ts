/** Leases: granted to one, extended and released by their owner only, over when their time is. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionLockStorage } from "../../SessionLockStorage.ts"
import { observed, type Harness } from "./Harness.ts"
import {
  asked,
  assertGrowing,
  granted,
  lockRequest,
  newLock,
  newOwner,
  refused,
  released,
  turnsOf
} from "./LockHarness.ts"

const unbounded = { concurrency: "unbounded" } as const

/** Registers the tests. */
export const lockGranting = ({ it, passed, tolerance }: Harness<SessionLockStorage>): void => {
  it.effect("a free lock is granted for as long as was asked for", () =>
    Effect.gen(function* () {
      const { expiresAt, now, token } = yield* granted(newLock(), { leaseTime: 30_000 })
      assert.isTrue(token > 0n)
      assert.isAtMost(Math.abs(expiresAt - now - 30_000), tolerance)
    })
  )

  it.effect("a held lock is refused, and the answer says who holds it until when", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const { expiresAt } = yield* granted(lock, { node: "node-a" })
      const held = yield* refused(lock, { node: "node-b", turn: 200 })
      expect(held).toMatchObject({ node: "node-a", until: expiresAt, retryAt: expiresAt + 200 })
    })
  )

  it.effect("locks of different names have nothing to do with each other", () =>
    Effect.gen(function* () {
      yield* granted(newLock())
      yield* granted(newLock())
    })
  )

  it.effect("tokens only grow: over all locks, releases and removals", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const [first, second] = [newLock(), newLock()]
      const tokens: Array<bigint> = []
      for (let round = 0; round < 5; round++) {
        for (const lock of [first, second]) {
          const grant = yield* granted(lock)
          tokens.push(grant.token)
          assert.isTrue(yield* released(lock, grant.owner))
        }
        // Other locks may go with these; whoever holds one keeps it.
        if (round === 2) yield* locks.sweep({ unusedFor: 0, limit: 1_000_000 })
      }
      assertGrowing(tokens)
    })
  )

  it.effect("asking again as the same owner answers the same grant", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const owner = newOwner()
      const first = yield* granted(lock, { owner })
      const again = yield* granted(lock, { owner, leaseTime: 1_000_000 })
      expect([again.token, again.expiresAt]).toEqual([first.token, first.expiresAt])
    })
  )

  it.effect("of 16 who ask at once exactly one is granted the lock", () =>
    Effect.gen(function* () {
      const lock = newLock()
      for (let round = 0; round < 5; round++) {
        const answers = yield* Effect.all(
          Array.from({ length: 16 }, () => asked(lock)),
          unbounded
        )
        const winners = answers.filter(({ outcome }) => outcome._tag === "Granted")
        expect(winners).toHaveLength(1)
        for (const { request } of winners) assert.isTrue(yield* released(lock, request.owner))
      }
    })
  )

  it.effect("of 16 who ask at once for one of three permits three are granted one", () =>
    Effect.gen(function* () {
      const lock = newLock()
      for (let round = 0; round < 5; round++) {
        const answers = yield* Effect.all(
          Array.from({ length: 16 }, () => asked(lock, { permits: 3 })),
          unbounded
        )
        const winners = answers.filter(({ outcome }) => outcome._tag === "Granted")
        expect(winners).toHaveLength(3)
        expect(new Set(winners.map(({ outcome }) => outcome._tag === "Granted" && outcome.token)).size).toBe(3)
        for (const { request } of winners) assert.isTrue(yield* released(lock, request.owner))
      }
    })
  )

  it.effect("whoever asks for fewer permits than are held is refused, for more is granted one", () =>
    Effect.gen(function* () {
      const lock = newLock()
      yield* granted(lock, { permits: 2, leaseTime: 20_000 })
      yield* granted(lock, { permits: 2, leaseTime: 10_000, node: "node-b" })
      expect(yield* refused(lock, { permits: 1 })).toMatchObject({ node: "node-b" })
      yield* granted(lock, { permits: 3 })
    })
  )

  it.effect("an expired lease is over, whether or not anybody noticed", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const lock = newLock()
      const first = yield* granted(lock, { leaseTime: 100 })
      yield* passed(first.expiresAt)
      expect((yield* locks.extend({ ...first, leaseTime: 60_000 }))._tag).toBe("Lost")
      assert.isFalse(yield* released(lock, first.owner))
      const second = yield* granted(lock)
      assertGrowing([first.token, second.token])
    })
  )

  it.effect("only its owner, with its token, extends a lease", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const lock = newLock()
      const grant = yield* granted(lock)
      const extend = (overrides: Partial<typeof grant>) => locks.extend({ ...grant, ...overrides, leaseTime: 120_000 })
      expect((yield* extend({ owner: newOwner() }))._tag).toBe("Lost")
      expect((yield* extend({ token: grant.token - 1n }))._tag).toBe("Lost")
      expect((yield* extend({ lock: newLock() }))._tag).toBe("Lost")
      const extended = yield* extend({})
      assert(extended._tag === "Extended")
      assert.isAtMost(Math.abs(extended.expiresAt - extended.now - 120_000), tolerance)
      expect(yield* refused(lock)).toMatchObject({ until: extended.expiresAt })
    })
  )

  it.effect("extending never shortens", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const grant = yield* granted(newLock())
      expect(yield* locks.extend({ ...grant, leaseTime: 1 })).toMatchObject({ expiresAt: grant.expiresAt })
    })
  )

  it.effect("a release can be repeated and never frees a successor's lock", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const first = yield* granted(lock)
      assert.isTrue(yield* released(lock, first.owner))
      assert.isFalse(yield* released(lock, first.owner))
      yield* granted(lock)
      assert.isFalse(yield* released(lock, first.owner))
      yield* refused(lock)
      assert.isFalse(yield* released(newLock(), first.owner))
    })
  )

  it.effect("a released lease is over for its owner, too", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const grant = yield* granted(newLock())
      yield* released(grant.lock, grant.owner)
      expect((yield* locks.extend({ ...grant, leaseTime: 60_000 }))._tag).toBe("Lost")
    })
  )

  it.effect("who does not wait, and a lock that nobody waits for, cause no notice", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const { notices } = yield* observed(
        Effect.gen(function* () {
          const locks = yield* SessionLockStorage
          const grant = yield* granted(lock)
          yield* refused(lock)
          yield* locks.extend({ ...grant, leaseTime: 60_000 })
          yield* released(lock, grant.owner)
        })
      )
      expect(turnsOf(notices, lock)).toEqual([])
    })
  )

  it.effect("only locks that were not used for as long as said are removed", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const [unused, used, held] = [newLock(), newLock(), newLock()]
      const first = yield* granted(unused)
      yield* released(unused, first.owner)
      const { expiresAt } = yield* granted(newLock(), { leaseTime: 100 })
      yield* passed(expiresAt)
      const second = yield* granted(used)
      yield* released(used, second.owner)
      const third = yield* granted(held)
      const { removed } = yield* locks.sweep({ unusedFor: 90, limit: 1_000_000 })
      assert.isAtLeast(removed, 1)
      // What is still there can be seen by fences only: `LockFencing`. Here: a held lock stays held.
      expect(yield* refused(held)).toMatchObject({ until: third.expiresAt })
    })
  )

  it.effect("a removal takes no more than it is told to", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      for (let index = 0; index < 3; index++) {
        const grant = yield* granted(newLock())
        yield* released(grant.lock, grant.owner)
      }
      const { removed } = yield* locks.sweep({ unusedFor: 0, limit: 2 })
      assert.isAtMost(removed, 2)
    })
  )

  it.effect("names of every kind are kept apart", () =>
    Effect.gen(function* () {
      const prefix = newLock()
      for (const name of ["", "é", "e\u0301", " ", "a\nb", "'; drop table sessions", "🐘", "x".repeat(200)]) {
        // Only the length of a name is limited, at 278 characters.
        const lock = `${prefix}${name}` as typeof prefix
        const grant = yield* granted(lock)
        yield* refused(lock)
        yield* released(lock, grant.owner)
      }
      const request = lockRequest(prefix, { node: `${"n".repeat(95)}#` })
      const locks = yield* SessionLockStorage
      yield* locks.acquire(request)
      expect(yield* refused(prefix)).toMatchObject({ node: request.node })
    })
  )
}
