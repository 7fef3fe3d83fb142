/** Sweeps: what has expired is ended and told once, however many nodes sweep. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { SessionKey } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import {
  attribute,
  changesOf,
  created,
  hour,
  loaded,
  newUser,
  observed,
  stands,
  sweptAll,
  tagged,
  writeRequest,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Registers the tests. */
export const storageSweeping = ({ it, passed, tolerance }: Harness): void => {
  /** So many sessions beyond their absolute or idle limit. */
  const expiredSessions = Effect.fnUntraced(function* (count: number) {
    const storage = yield* SessionStorage
    const rows = yield* Effect.all(
      Array.from({ length: count }, () => created({ userId: newUser() })),
      { concurrency: 8 }
    )
    const { now } = yield* storage.write(
      rows.map((row, index) => writeRequest(row, index % 2 === 0 ? { lifetime: 1 } : { idleTimeout: 1 }))
    )
    yield* passed(now + 1 + tolerance)
    return rows
  })

  it.effect("expired sessions are ended, reported with their users, and announced", () =>
    Effect.gen(function* () {
      const rows = yield* expiredSessions(4)
      const live = yield* created({ idleTimeout: hour })
      const { notices, result } = yield* observed(sweptAll(100))
      for (const { key, userId } of rows) {
        expect(result.expired.filter((ended) => ended.key === key)).toEqual([{ key, userId }])
        expect(changesOf(notices, key)).toEqual([{ key, kind: "Expired", version: undefined }])
      }
      assert.isFalse(result.expired.some(({ key }) => key === live.key))
      assert.isFalse(result.purged.some(({ key }) => key === live.key))
      expect(changesOf(notices, live.key)).toEqual([])
      expect(yield* stands(live.key)).toEqual(live)
      const again = yield* sweptAll(100)
      for (const { key } of rows) assert.isFalse(again.expired.some((ended) => ended.key === key))
    })
  )

  it.effect("a guest's session ends without a user", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const { now } = tagged(yield* written(row, { lifetime: 1 }), "Accepted")
      yield* passed(now + 1 + tolerance)
      const { expired } = yield* sweptAll(100)
      expect(expired.filter(({ key }) => key === row.key)).toEqual([{ key: row.key, userId: undefined }])
    })
  )

  it.effect.each([1, 3, 7, 1_000])("a sweep in batches of %i misses nobody and reports nobody twice", (limit) =>
    Effect.gen(function* () {
      const gone = yield* expiredSessions(12)
      const live = yield* Effect.all(Array.from({ length: 6 }, () => created()))
      const { expired } = yield* sweptAll(limit)
      const reported = expired.map(({ key }) => key)
      expect(new Set(reported).size).toBe(reported.length)
      for (const { key } of gone) assert.include(reported, key)
      for (const { key } of live) assert.notInclude(reported, key)
    })
  )

  it.effect("a batch looks at no more rows than it is allowed to, after the key given", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = (yield* expiredSessions(5)).toSorted((left, right) => (left.key < right.key ? -1 : 1))
      const middle = rows[2]
      assert(middle !== undefined)
      const outcome = tagged(yield* storage.sweep({ after: middle.key, limit: 2 }), "Swept")
      assert.isAtMost(outcome.expired.length + outcome.purged.length, 2)
      for (const { key } of outcome.expired) assert.isTrue(key > middle.key)
      const last: SessionKey = rows.at(-1)?.key ?? middle.key
      const rest = new Set((yield* sweptAll(2)).expired.map(({ key }) => key))
      for (const row of rows.slice(0, 3)) assert.isTrue(rest.has(row.key))
      assert.isTrue(rest.has(last) || outcome.expired.some(({ key }) => key === last))
    })
  )

  it.effect("expired attributes are purged: a new version, announced, and nobody's activity", () =>
    Effect.gen(function* () {
      const row = yield* created({
        attributes: [
          attribute("kept"),
          attribute("later", "1", hour),
          attribute("now", "1", 1),
          attribute("too", "1", 1)
        ]
      })
      yield* passed(row.createdAt + 1 + tolerance)
      const { notices, result } = yield* observed(sweptAll(100))
      expect(result.purged.filter(({ key }) => key === row.key)).toEqual([{ key: row.key, version: 2n }])
      expect(changesOf(notices, row.key)).toEqual([{ key: row.key, kind: "Updated", version: 2n }])
      expect(yield* stands(row.key)).toEqual({
        ...row,
        version: 2n,
        attributes: new Map([...row.attributes].filter(([name]) => name === "kept" || name === "later"))
      })
      const again = yield* sweptAll(100)
      assert.isFalse(again.purged.some(({ key }) => key === row.key))
    })
  )

  it.effect("an expired session is ended, not purged", () =>
    Effect.gen(function* () {
      const row = yield* created({ lifetime: 2, attributes: [attribute("now", "1", 1)] })
      yield* passed(row.createdAt + 2 + tolerance)
      const { expired, purged } = yield* sweptAll(100)
      expect(expired.filter(({ key }) => key === row.key)).toHaveLength(1)
      expect(purged.filter(({ key }) => key === row.key)).toEqual([])
    })
  )

  it.effect("a deletion leaves expired sessions to the sweep, which reports them", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const [row] = yield* expiredSessions(1)
      assert(row !== undefined)
      expect((yield* storage.delete({ _tag: "Session", key: row.key, proof: undefined })).keys).toEqual([])
      const { expired } = yield* sweptAll(100)
      expect(expired.filter(({ key }) => key === row.key)).toHaveLength(1)
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("however many sweep at once, each expired session is reported once", () =>
    Effect.gen(function* () {
      const rows = yield* expiredSessions(40)
      const sweeps = yield* Effect.all(
        Array.from({ length: 4 }, () => sweptAll(7)),
        { concurrency: "unbounded" }
      )
      const reported = sweeps.flatMap(({ expired }) => expired.map(({ key }) => key))
      expect(new Set(reported).size).toBe(reported.length)
      for (const { key } of rows) assert.include(reported, key)
    })
  )

  it.effect("a sweep does not end a session that is touched meanwhile, nor deadlock with those who use it", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all(
        Array.from({ length: 40 }, () => created({ idleTimeout: hour })),
        { concurrency: 8 }
      )
      const use = Effect.all(
        rows.map((row) =>
          Effect.all([storage.touch([{ key: row.key, age: 0 }]), written(row, { set: [attribute("cart")] })])
        ),
        { concurrency: 8 }
      )
      const [{ expired }] = yield* Effect.all([sweptAll(5), use], { concurrency: 2 })
      for (const { key } of rows) assert.isFalse(expired.some((ended) => ended.key === key))
      expect((yield* storage.load(rows.map(({ key }) => key))).rows).toHaveLength(40)
    })
  )
}
