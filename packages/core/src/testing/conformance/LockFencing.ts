/** Session writes that present a lease: refused once anybody else was granted the lock. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionLockStorage } from "../../SessionLockStorage.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import { attribute, created, only, stands, tagged, writeRequest, written, type Harness } from "./Harness.ts"
import { granted, newLock, released } from "./LockHarness.ts"

/** Registers the tests. */
export const lockFencing = ({ it, passed }: Harness<SessionLockStorage>): void => {
  it.effect("the latest grant passes, while it runs, when it has expired and when it was released", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const fence = yield* granted(newLock(), { leaseTime: 100 })
      tagged(yield* written(row, { fence }), "Accepted")
      yield* passed(fence.expiresAt)
      tagged(yield* written(row, { fence }), "Accepted")
      const again = yield* granted(newLock())
      yield* released(again.lock, again.owner)
      tagged(yield* written(row, { fence: again }), "Accepted")
    })
  )

  it.effect("an earlier grant is refused, even before the new holder has written, and nothing changes", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const lock = newLock()
      const first = yield* granted(lock)
      yield* released(lock, first.owner)
      const second = yield* granted(lock)
      tagged(yield* written(row, { fence: first, set: [attribute("late")] }), "Fenced")
      expect(yield* stands(row.key)).toEqual(row)
      tagged(yield* written(row, { fence: second }), "Accepted")
    })
  )

  it.effect("an expired grant is refused once somebody else was granted the lock", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const lock = newLock()
      const first = yield* granted(lock, { leaseTime: 100 })
      yield* passed(first.expiresAt)
      yield* granted(lock)
      tagged(yield* written(row, { fence: first }), "Fenced")
    })
  )

  it.effect("tokens that were never granted, of other locks, or of removed locks are refused", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const row = yield* created()
      const [first, second] = [yield* granted(newLock()), yield* granted(newLock())]
      for (const fence of [
        { lock: first.lock, token: second.token },
        { lock: first.lock, token: first.token + 1_000_000n },
        { lock: newLock(), token: first.token }
      ]) {
        tagged(yield* written(row, { fence }), "Fenced")
      }
      yield* released(first.lock, first.owner)
      yield* locks.sweep({ unusedFor: 0, limit: 1_000_000 })
      tagged(yield* written(row, { fence: first }), "Fenced")
      tagged(yield* written(row, { fence: second }), "Accepted")
    })
  )

  it.effect("each permit has its own latest grant", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const lock = newLock()
      const first = yield* granted(lock, { permits: 2 })
      const second = yield* granted(lock, { permits: 2 })
      yield* released(lock, first.owner)
      const third = yield* granted(lock, { permits: 2 })
      tagged(yield* written(row, { fence: first }), "Fenced")
      tagged(yield* written(row, { fence: second }), "Accepted")
      tagged(yield* written(row, { fence: third }), "Accepted")
    })
  )

  it.effect("where there were more permits once, only the present holders pass", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const lock = newLock()
      const former = yield* Effect.forEach(Array.from({ length: 3 }), () => granted(lock, { permits: 3 }))
      for (const { owner } of former) yield* released(lock, owner)
      const fence = yield* granted(lock)
      for (const late of former) tagged(yield* written(row, { fence: late }), "Fenced")
      tagged(yield* written(row, { fence }), "Accepted")
    })
  )

  it.effect("an ended session comes before the fence, a version after it", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const [row, ended] = [yield* created(), yield* created()]
      yield* storage.delete({ _tag: "Session", key: ended.key, proof: undefined })
      const lock = newLock()
      const fence = yield* granted(lock)
      yield* released(lock, fence.owner)
      yield* granted(lock)
      tagged(yield* written(ended, { fence }), "Gone")
      tagged(yield* written(row, { fence, expectedVersion: 17n }), "Fenced")
      tagged(yield* written(row, { fence, expectedAttributes: [["x", 3n]] }), "Fenced")
    })
  )

  it.effect("in a batch each change is fenced by its own lease, also where nobody waits for locked sessions", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const lock = newLock()
      const late = yield* granted(lock)
      yield* released(lock, late.owner)
      const fence = yield* granted(lock)
      const [first, second, third] = [yield* created(), yield* created(), yield* created()]
      const requests = [writeRequest(first, { fence: late }), writeRequest(second, { fence }), writeRequest(third)]
      for (const write of [storage.tryWrite, storage.write]) {
        const { outcomes } = yield* write(requests)
        expect(outcomes.map(({ _tag }) => _tag)).toEqual(["Fenced", "Accepted", "Accepted"])
      }
    })
  )

  it.effect(
    "a grant that races with a fenced write: whoever is granted the lock sees the write, or it is refused",
    () =>
      Effect.gen(function* () {
        const lock = newLock()
        for (let round = 0; round < 20; round++) {
          const row = yield* created()
          const fence = yield* granted(lock)
          const [outcome, seen] = yield* Effect.all(
            [
              written(row, { fence, set: [attribute("late")] }),
              Effect.gen(function* () {
                yield* released(lock, fence.owner)
                const next = yield* granted(lock)
                const { attributes } = yield* stands(row.key)
                yield* released(lock, next.owner)
                return attributes.has("late")
              })
            ],
            { concurrency: 2 }
          )
          assert.strictEqual(outcome._tag === "Accepted", seen, `round ${round}: ${outcome._tag}`)
        }
      })
  )

  it.effect("one batch may present the leases of many locks", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const requests = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.gen(function* () {
          return writeRequest(yield* created(), { fence: yield* granted(newLock()) })
        })
      )
      const { outcomes } = yield* storage.write(requests)
      expect(outcomes.every(({ _tag }) => _tag === "Accepted")).toBe(true)
      const { outcomes: single } = yield* storage.write(requests.slice(0, 1))
      tagged(only(single), "Accepted")
    })
  )
}
