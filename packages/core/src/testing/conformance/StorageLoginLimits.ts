/** The limit of sessions per user where sessions are created together. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { SessionKey, UserId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionLimit } from "../../SessionStorage.ts"
import { createRequest, loaded, newUser, tagged, written } from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { allCreated, evict, keysOf, reject, times, userWith } from "./StorageLogins.ts"

/** Registers the tests. */
export const storageLoginLimits = ({ it, passed, tolerance }: Harness): void => {
  it.effect("each user has a limit of their own: some have room, some lose their oldest, some are refused", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const roomy = yield* userWith(passed, 1)
      const full = yield* userWith(passed, 3)
      const strict = yield* userWith(passed, 2)
      const lowered = yield* userWith(passed, 4)
      const requests = [
        createRequest({ userId: strict.userId, limit: reject(2) }),
        createRequest({ userId: full.userId, limit: evict(3) }),
        createRequest({ userId: roomy.userId, limit: reject(2) }),
        createRequest({ limit: reject(1) }),
        createRequest({ userId: lowered.userId, limit: evict(2) })
      ]
      const { outcomes } = yield* storage.tryCreate(requests)
      expect(outcomes.map(({ _tag }) => _tag)).toEqual(["TooManySessions", "Created", "Created", "Created", "Created"])
      const evicted = outcomes.map((outcome) => (outcome._tag === "Created" ? outcome.evicted : []))
      expect(evicted).toEqual([
        [],
        [{ key: full.rows[0]?.key, userId: full.userId }],
        [],
        [],
        lowered.rows.slice(0, 3).map(({ key }) => ({ key, userId: lowered.userId }))
      ])
      const listed = Effect.fnUntraced(function* (userId: UserId) {
        return keysOf((yield* storage.list(userId)).rows)
      })
      const keyOf = (index: number) => ({ key: requests[index]?.key ?? assert.fail("no request") })
      expect(yield* listed(strict.userId)).toEqual(keysOf(strict.rows))
      expect(yield* listed(full.userId)).toEqual(keysOf([...full.rows.slice(1), keyOf(1)]))
      expect(yield* listed(roomy.userId)).toEqual(keysOf([...roomy.rows, keyOf(2)]))
      expect(yield* listed(lowered.userId)).toEqual(keysOf([...lowered.rows.slice(3), keyOf(4)]))
      expect(yield* loaded(keyOf(0).key)).toBeUndefined()
    })
  )

  const twice: ReadonlyArray<
    [name: string, before: number, limit: SessionLimit, evicted: ReadonlyArray<number | string>]
  > = [
    ["one takes the last place of the other", 1, evict(1), [0, "first"]],
    ["both need room", 2, evict(2), [0, 1]],
    ["one needs room", 1, evict(2), ["none", 0]],
    ["one is refused", 1, reject(2), ["none", "refused"]],
    ["both are refused", 2, reject(2), ["refused", "refused"]],
    ["both fit", 1, reject(3), ["none", "none"]]
  ]
  it.effect.each(twice)("two logins of one user are like one after the other: %s", ([, before, limit, expected]) =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* userWith(passed, before)
      const requests = [
        createRequest({ userId, limit }),
        createRequest({ userId: newUser() }),
        createRequest({ userId, limit })
      ]
      const [first, other, second] = yield* allCreated(requests)
      assert(first !== undefined && second !== undefined && other !== undefined)
      tagged(other, "Created")
      const known = new Map<SessionKey, number | string>([
        ...rows.map(({ key }, index) => [key, index] as const),
        ...requests.map(({ key }, index) => [key, index === 0 ? "first" : "another"] as const)
      ])
      const seen = [first, second].flatMap((outcome): ReadonlyArray<number | string | undefined> => {
        if (outcome._tag === "TooManySessions") return ["refused"]
        return outcome.evicted.length === 0 ? ["none"] : outcome.evicted.map(({ key }) => known.get(key))
      })
      expect(seen).toEqual(expected)
      const ended = [first, second].flatMap((outcome) => (outcome._tag === "Created" ? outcome.evicted : []))
      const begun = [first, second].flatMap((outcome) => (outcome._tag === "Created" ? [outcome.row] : []))
      const left = keysOf([...rows, ...begun])
      for (const { key } of ended) left.delete(key)
      expect(keysOf((yield* storage.list(userId)).rows)).toEqual(left)
    })
  )

  it.effect("expired sessions count neither for the limit nor as evicted", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const users = yield* Effect.all([userWith(passed, 2), userWith(passed, 2)])
      let until = 0
      for (const { rows } of users) {
        const [first, second] = rows
        assert(first !== undefined && second !== undefined)
        tagged(yield* written(first, { lifetime: 1 }), "Accepted")
        until = tagged(yield* written(second, { idleTimeout: 1 }), "Accepted").now
      }
      yield* passed(until + 1 + tolerance)
      const outcomes = yield* allCreated(
        users.map(({ userId }, index) => createRequest({ userId, limit: index === 0 ? reject(1) : evict(1) }))
      )
      for (const [index, outcome] of outcomes.entries()) {
        const { evicted, row } = tagged(outcome, "Created")
        expect(evicted).toEqual([])
        expect((yield* storage.list(users[index]?.userId ?? newUser())).rows).toEqual([row])
      }
    })
  )

  for (const limit of [evict(3), reject(3)]) {
    it.effect(`batches over the same users never leave one with too many sessions: ${limit.onLimit}`, () =>
      Effect.gen(function* () {
        const storage = yield* SessionStorage
        const users = times(6, () => newUser())
        let done = false
        const watch = Effect.gen(function* () {
          for (;;) {
            for (const userId of users) assert.isAtMost((yield* storage.list(userId)).rows.length, 3)
            if (done) return
            yield* Effect.yieldNow
          }
        })
        const race = Effect.all(
          times(12, (index) => {
            const order = index % 2 === 0 ? users : users.toReversed()
            return allCreated([...order.slice(index % 3), newUser()].map((userId) => createRequest({ userId, limit })))
          }),
          { concurrency: "unbounded" }
        ).pipe(Effect.ensuring(Effect.sync(() => void (done = true))))
        const [batches] = yield* Effect.all([race, watch], { concurrency: "unbounded" })
        const outcomes = batches.flat()
        const begun = outcomes.flatMap((outcome) => (outcome._tag === "Created" ? [outcome.row] : []))
        const ended = outcomes.flatMap((outcome) => (outcome._tag === "Created" ? outcome.evicted : []))
        expect(keysOf(ended).size).toBe(ended.length)
        const left = keysOf(begun)
        for (const { key } of ended) left.delete(key)
        const { rows } = yield* storage.load(begun.map(({ key }) => key))
        expect(keysOf(rows)).toEqual(left)
        for (const userId of users) expect((yield* storage.list(userId)).rows).toHaveLength(3)
      })
    )
  }
}
