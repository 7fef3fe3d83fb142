/** Expired means absent: deadlines hold at every operation, whether or not anybody has swept. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import { GroupId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionRow, WriteRequest } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  hour,
  loaded,
  newHash,
  newUser,
  observed,
  stands,
  tagged,
  uniqueName,
  unlimited,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Registers the tests. */
export const storageExpiry = ({ it, passed, tolerance }: Harness): void => {
  /** Ends a session by its limits, and waits until that has happened. */
  const expired = Effect.fnUntraced(function* (
    row: SessionRow,
    limits: Pick<Partial<WriteRequest>, "lifetime" | "idleTimeout">
  ) {
    const outcome = tagged(yield* written(row, limits), "Accepted")
    assert(outcome.row !== undefined)
    yield* passed(outcome.now + 1 + tolerance)
    return outcome.row
  })

  const kinds: ReadonlyArray<[name: string, limits: Pick<Partial<WriteRequest>, "lifetime" | "idleTimeout">]> = [
    ["absolute", { lifetime: 1 }],
    ["idle", { idleTimeout: 1 }]
  ]

  for (const [name, limits] of kinds) {
    it.effect(`a session beyond its ${name} limit is absent for every operation`, () =>
      Effect.gen(function* () {
        const storage = yield* SessionStorage
        const userId = newUser()
        const groupId = GroupId.make(uniqueName())
        const row = yield* expired(yield* created({ userId, groupId, attributes: [attribute("cart")] }), limits)
        const { key, secretHash: proof } = row

        expect((yield* storage.load([key])).rows).toEqual([])
        expect((yield* storage.list(userId)).rows).toEqual([])
        expect((yield* storage.revalidate([key])).sessions).toEqual([])
        expect((yield* storage.touch([{ key, age: 0 }])).touched).toEqual([])
        tagged(yield* written(row, { lifetime: hour, idleTimeout: null }), "Gone")
        const rotate = { key, proof, secretHash: newHash(), grace: 0, set: [], maxBytes: 1_000 }
        tagged(yield* storage.rotate({ ...rotate, login: undefined }), "Gone")
        const login = { userId, lifetime: hour, idleTimeout: undefined, limit: unlimited }
        tagged(yield* storage.rotate({ ...rotate, login }), "Gone")
        expect((yield* storage.deleteAttribute(userId, "cart")).changed).toEqual([])
        expect((yield* storage.delete({ _tag: "Session", key, proof: undefined })).keys).toEqual([])
        expect((yield* storage.delete({ _tag: "User", userId, except: undefined })).keys).toEqual([])
        expect((yield* storage.delete({ _tag: "Group", groupId, except: undefined })).keys).toEqual([])
        expect(yield* loaded(key)).toBeUndefined()
      })
    )

    it.effect(`a touch of an earlier moment does not revive a session beyond its ${name} limit`, () =>
      Effect.gen(function* () {
        const storage = yield* SessionStorage
        const row = yield* expired(yield* created(), limits)
        const { now, touched } = yield* storage.touch([{ key: row.key, age: 0 }])
        expect(touched).toEqual([])
        const before = yield* storage.touch([{ key: row.key, age: now - row.lastAccessedAt }])
        expect(before.touched).toEqual([])
        expect(yield* loaded(row.key)).toBeUndefined()
      })
    )
  }

  it.effect("a session is live exactly until its deadline", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const absolute = yield* created({ lifetime: 60 })
      const idle = yield* created({ idleTimeout: 60 })
      const deadline = new Map([
        [absolute.key, absolute.expiresAt],
        [idle.key, idle.lastAccessedAt + 60]
      ])
      for (let step = 1; step <= 7; step++) {
        const keys = Array.from(deadline.keys())
        let latest = 0
        // Together, and each by itself.
        for (const asked of [keys, ...keys.map((key) => [key])]) {
          const { now, rows } = yield* storage.load(asked)
          const live = new Set(rows.map(({ key }) => key))
          for (const key of asked) {
            const end = deadline.get(key) ?? 0
            if (live.has(key)) assert.isBelow(now, end + tolerance)
            // Not `else`: both may be true within the tolerance.
            if (!live.has(key)) assert.isAtLeast(now, end - tolerance)
          }
          latest = Math.max(latest, now)
        }
        yield* passed(latest + 9)
      }
      yield* passed(Math.max(...deadline.values()) + tolerance)
      expect((yield* storage.load(Array.from(deadline.keys()))).rows).toEqual([])
      for (const key of deadline.keys()) expect((yield* storage.load([key])).rows).toEqual([])
    })
  )

  it.effect("a touch moves the idle deadline, and not the absolute one", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ idleTimeout: 400, lifetime: hour })
      yield* passed(row.createdAt + 100)
      const { touched } = yield* storage.touch([{ key: row.key, age: 0 }])
      const last = touched[0]?.lastAccessedAt
      if (last === undefined) assert.fail("the session was live")
      assert.isAbove(last, row.lastAccessedAt)
      yield* passed(row.createdAt + 400 + tolerance)
      const { now, rows } = yield* storage.load([row.key])
      // A machine that stood still for long enough proves nothing.
      if (now < last + 400 - tolerance) expect(rows).toEqual([{ ...row, lastAccessedAt: last }])
      yield* passed(last + 400 + tolerance)
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("a write counts as activity", () =>
    Effect.gen(function* () {
      const row = yield* created({ idleTimeout: hour })
      yield* passed(row.createdAt + 5)
      const outcome = tagged(yield* written(row, { set: [attribute("cart")] }), "Accepted")
      const { lastAccessedAt } = yield* stands(row.key)
      assert.isAbove(lastAccessedAt, row.lastAccessedAt)
      assert.isAtMost(Math.abs(lastAccessedAt - outcome.now), tolerance)
    })
  )

  it.effect("limits can be shortened, extended and taken away, and count from the change", () =>
    Effect.gen(function* () {
      const row = yield* created({ lifetime: hour, idleTimeout: hour })
      yield* passed(row.createdAt + 5)
      const shortened = tagged(yield* written(row, { lifetime: 60_000, idleTimeout: 30_000 }), "Accepted")
      assert(shortened.row !== undefined)
      assert.isAtMost(Math.abs(shortened.row.expiresAt - (shortened.now + 60_000)), tolerance)
      expect(shortened.row.idleTimeout).toBe(30_000)
      const extended = tagged(yield* written(shortened.row, { lifetime: 2 * hour, idleTimeout: null }), "Accepted")
      assert(extended.row !== undefined)
      assert.isAtMost(Math.abs(extended.row.expiresAt - (extended.now + 2 * hour)), tolerance)
      expect(extended.row.idleTimeout).toBeUndefined()
      tagged(yield* written(extended.row, { set: [attribute("cart")] }), "Accepted")
      expect(yield* stands(row.key)).toMatchObject({ expiresAt: extended.row.expiresAt, idleTimeout: undefined })
    })
  )

  it.effect("an idle limit that already passed ends the session when it is set", () =>
    Effect.gen(function* () {
      const row = yield* created({ idleTimeout: undefined })
      yield* passed(row.createdAt + 20)
      // The write itself is activity, so the limit counts from it.
      const outcome = tagged(yield* written(row, { idleTimeout: 10 }), "Accepted")
      assert(outcome.row !== undefined)
      assert.isAtLeast(outcome.row.lastAccessedAt + 10, outcome.now)
      yield* passed(outcome.row.lastAccessedAt + 10 + tolerance)
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("nothing that is refused because of a passed deadline is announced", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* expired(yield* created({ userId, attributes: [attribute("cart")] }), { lifetime: 1 })
      const refused: Effect.Effect<unknown, SessionStoreUnavailable, SessionStorage> = Effect.all([
        written(row, { lifetime: hour }),
        storage.touch([{ key: row.key, age: 0 }]),
        storage.delete({ _tag: "Session", key: row.key, proof: undefined }),
        storage.deleteAttribute(userId, "cart")
      ])
      const { notices } = yield* observed(refused)
      expect(
        notices.filter((notice) => notice._tag === "Changes" && notice.changes.some((c) => c.key === row.key))
      ).toEqual([])
    })
  )

  it.effect("an attribute beyond its time counts as absent, and its session goes on", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("kept"), attribute("elevated", "true", 1)] })
      yield* passed(row.createdAt + 1 + tolerance)
      const mismatch = tagged(
        yield* written(row, { expectedAttributes: [["elevated", 1n]], set: [attribute("elevated")] }),
        "AttributeVersionMismatch"
      )
      expect(mismatch).toMatchObject({ attribute: "elevated", actual: 0n })
      expect(mismatch.row.version).toBe(1n)
      const again = tagged(
        yield* written(row, {
          expectedAttributes: [
            ["elevated", 0n],
            ["kept", 1n]
          ],
          set: [attribute("elevated", "2", hour)]
        }),
        "Accepted"
      )
      const { attributes } = yield* stands(row.key)
      expect(attributes.get("kept")).toEqual({ value: "1", version: 1n, expiresAt: undefined })
      expect(attributes.get("elevated")).toMatchObject({ value: "2", version: 2n })
      assert.isAtMost(Math.abs((attributes.get("elevated")?.expiresAt ?? 0) - (again.now + hour)), tolerance)
    })
  )

  it.effect("writing an attribute without a time makes it last as long as its session", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("elevated", "true", hour)] })
      tagged(yield* written(row, { set: [attribute("elevated", "false")] }), "Accepted")
      expect((yield* stands(row.key)).attributes.get("elevated")).toEqual({
        value: "false",
        version: 2n,
        expiresAt: undefined
      })
    })
  )
}
