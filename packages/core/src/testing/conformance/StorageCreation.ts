/** How sessions come into being, and the limit of sessions per user. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionLimit } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  createRequest,
  hour,
  loaded,
  newHash,
  newUser,
  stands,
  tagged,
  unlimited,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

const evict = (max: number): SessionLimit => ({ max, onLimit: "evictOldest" })
const reject = (max: number): SessionLimit => ({ max, onLimit: "reject" })

/** Registers the tests. */
export const storageCreation = ({ it, passed, tolerance }: Harness): void => {
  /** Sessions of one user, each younger than the one before. */
  const inOrder = Effect.fnUntraced(function* (count: number) {
    const userId = newUser()
    const rows: Array<Effect.Success<ReturnType<typeof created>>> = []
    for (let index = 0; index < count; index++) {
      const row = yield* created({ userId })
      rows.push(row)
      yield* passed(row.createdAt)
    }
    return { userId, rows }
  })

  it.effect("a key that exists is refused, and what stands there stays", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ attributes: [attribute("cart")] })
      const error = yield* Effect.flip(storage.create(createRequest({ key: row.key, userId: newUser() })))
      assert.instanceOf(error, SessionStoreUnavailable)
      expect(error).toMatchObject({ outcome: "NotApplied", reason: "DatabaseError" })
      expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("the oldest sessions of a user make room for a new one", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* inOrder(3)
      const { evicted, row } = tagged(yield* storage.create(createRequest({ userId, limit: evict(3) })), "Created")
      expect(evicted).toEqual([{ key: rows[0]?.key, userId }])
      expect((yield* storage.list(userId)).rows).toEqual([row, rows[2], rows[1]])
    })
  )

  it.effect("a lowered limit evicts as many as it takes", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* inOrder(5)
      const { evicted, row } = tagged(yield* storage.create(createRequest({ userId, limit: evict(2) })), "Created")
      expect(new Set(evicted.map(({ key }) => key))).toEqual(new Set(rows.slice(0, 4).map(({ key }) => key)))
      assert.isTrue(evicted.every((session) => session.userId === userId))
      expect((yield* storage.list(userId)).rows).toEqual([row, rows[4]])
      const last = tagged(yield* storage.create(createRequest({ userId, limit: evict(1) })), "Created")
      expect((yield* storage.list(userId)).rows).toEqual([last.row])
    })
  )

  it.effect("who logged in again is not the oldest", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* inOrder(2)
      const [first, second] = rows
      assert(first !== undefined && second !== undefined)
      tagged(
        yield* storage.rotate({
          key: first.key,
          proof: first.secretHash,
          secretHash: newHash(),
          grace: 0,
          login: { userId, lifetime: hour, idleTimeout: undefined, limit: unlimited },
          set: [],
          maxBytes: 1_000
        }),
        "Rotated"
      )
      const { evicted } = tagged(yield* storage.create(createRequest({ userId, limit: evict(2) })), "Created")
      expect(evicted).toEqual([{ key: second.key, userId }])
    })
  )

  it.effect("activity does not protect from eviction", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* inOrder(2)
      const [first] = rows
      assert(first !== undefined)
      yield* storage.touch([{ key: first.key, age: 0 }])
      tagged(yield* written(first, { set: [attribute("cart")] }), "Accepted")
      const { evicted } = tagged(yield* storage.create(createRequest({ userId, limit: evict(2) })), "Created")
      expect(evicted).toEqual([{ key: first.key, userId }])
    })
  )

  it.effect("where the limit rejects, nothing is created and nobody evicted", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { rows, userId } = yield* inOrder(2)
      const request = createRequest({ userId, limit: reject(2) })
      tagged(yield* storage.create(request), "TooManySessions")
      expect(yield* loaded(request.key)).toBeUndefined()
      expect((yield* storage.list(userId)).rows).toEqual(rows.toReversed())
      assert(rows[0] !== undefined)
      yield* storage.delete({ _tag: "Session", key: rows[0].key, proof: undefined })
      tagged(yield* storage.create(request), "Created")
      tagged(yield* storage.create(createRequest({ userId, limit: reject(2) })), "TooManySessions")
    })
  )

  it.effect("expired sessions count neither for the limit nor as evicted", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const absolute = yield* created({ userId })
      const idle = yield* created({ userId })
      tagged(yield* written(absolute, { lifetime: 1 }), "Accepted")
      const { now } = tagged(yield* written(idle, { idleTimeout: 1 }), "Accepted")
      yield* passed(now + 1 + tolerance)
      tagged(yield* storage.create(createRequest({ userId, limit: reject(1) })), "Created")
      const { evicted, row } = tagged(yield* storage.create(createRequest({ userId, limit: evict(1) })), "Created")
      expect(evicted).toHaveLength(1)
      expect((yield* storage.list(userId)).rows).toEqual([row])
    })
  )

  it.effect("guests are not limited", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      for (const limit of [reject(1), evict(1)]) {
        const rows = yield* Effect.all([created({ limit }), created({ limit }), created({ limit })])
        expect((yield* storage.load(rows.map(({ key }) => key))).rows).toHaveLength(3)
      }
    })
  )

  it.effect("the limit of one user ends no session of another", () =>
    Effect.gen(function* () {
      const bystander = yield* created({ userId: newUser() })
      const { rows, userId } = yield* inOrder(2)
      yield* created({ userId, limit: evict(1) })
      expect(yield* stands(bystander.key)).toEqual(bystander)
      for (const row of rows) expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("sessions of the same moment are evicted in the order of their keys", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const rows = yield* Effect.all([created({ userId }), created({ userId }), created({ userId })])
      const order = rows.toSorted((left, right) => left.createdAt - right.createdAt || (left.key < right.key ? -1 : 1))
      const { evicted } = tagged(yield* storage.create(createRequest({ userId, limit: evict(2) })), "Created")
      expect(new Set(evicted.map(({ key }) => key))).toEqual(new Set(order.slice(0, 2).map(({ key }) => key)))
    })
  )
}
