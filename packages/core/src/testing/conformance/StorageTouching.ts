/** Touches: activity that changes nothing else. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionStorage } from "../../SessionStorage.ts"
import {
  attribute,
  concerns,
  created,
  credential,
  hour,
  newUser,
  observed,
  only,
  stands,
  tagged,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Registers the tests. */
export const storageTouching = ({ it, passed, tolerance }: Harness): void => {
  it.effect("a touch sets the last access and nothing else", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser(), idleTimeout: hour, attributes: [attribute("cart")] })
      yield* passed(row.createdAt + 20)
      const answer = yield* storage.touch([{ key: row.key, age: 0 }])
      const { key, lastAccessedAt } = only(answer.touched)
      expect(key).toBe(row.key)
      assert.isAtMost(Math.abs(lastAccessedAt - answer.now), tolerance)
      assert.isAbove(lastAccessedAt, row.lastAccessedAt)
      expect(yield* stands(row.key)).toEqual({ ...row, lastAccessedAt })
      const { sessions } = yield* storage.revalidate([row.key])
      expect(only(sessions)).toMatchObject({ lastAccessedAt, version: 1n })
    })
  )

  it.effect("the age counts back from the database's clock", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      yield* passed(row.createdAt + 60)
      const answer = yield* storage.touch([{ key: row.key, age: 30 }])
      const { lastAccessedAt } = only(answer.touched)
      assert.isAtMost(Math.abs(lastAccessedAt - (answer.now - 30)), tolerance)
    })
  )

  it.effect("a last access never moves backwards", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      yield* passed(row.createdAt + 5)
      const { lastAccessedAt } = only((yield* storage.touch([{ key: row.key, age: 0 }])).touched)
      for (const age of [5_000, hour, 1_000 * hour]) {
        expect((yield* storage.touch([{ key: row.key, age }])).touched).toEqual([{ key: row.key, lastAccessedAt }])
      }
      expect((yield* stands(row.key)).lastAccessedAt).toBe(lastAccessedAt)
    })
  )

  it.effect("sessions that are not live are left out of the answer", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const live = yield* created()
      const ended = yield* created()
      const expired = yield* created()
      yield* storage.delete({ _tag: "Session", key: ended.key, proof: undefined })
      const { now } = tagged(yield* written(expired, { lifetime: 1 }), "Accepted")
      yield* passed(now + 1 + tolerance)
      const keys = [credential().key, ended.key, live.key, expired.key]
      const { touched } = yield* storage.touch(keys.map((key) => ({ key, age: 0 })))
      expect(touched.map(({ key }) => key)).toEqual([live.key])
    })
  )

  it.effect("an empty batch, and one of 500, are answered", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      expect((yield* storage.touch([])).touched).toEqual([])
      const rows = yield* Effect.all(
        Array.from({ length: 500 }, () => created()),
        { concurrency: 8 }
      )
      const { touched } = yield* storage.touch(rows.map(({ key }, index) => ({ key, age: index })))
      expect(new Set(touched.map(({ key }) => key))).toEqual(new Set(rows.map(({ key }) => key)))
    })
  )

  it.effect("a touch tells nobody", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser(), idleTimeout: hour })
      yield* passed(row.createdAt)
      const { notices } = yield* observed(storage.touch([{ key: row.key, age: 0 }]))
      assert.isFalse(concerns(notices, row))
    })
  )
}
