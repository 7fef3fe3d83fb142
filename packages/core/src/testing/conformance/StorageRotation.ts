/** Rotation: a new secret, perhaps a new user, the same session. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { GroupId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { RotateRequest, SessionLimit, SessionRow } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  createRequest,
  credential,
  hour,
  loaded,
  newHash,
  newUser,
  stands,
  tagged,
  uniqueName,
  unlimited,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** A rotation without a login and without grace, unless said otherwise. */
export const rotateRequest = (row: SessionRow, overrides?: Partial<RotateRequest>): RotateRequest => ({
  key: row.key,
  proof: row.secretHash,
  secretHash: newHash(),
  grace: 0,
  login: undefined,
  set: [],
  maxBytes: 1_000_000,
  ...overrides
})

/** A login for an hour, without limits, unless said otherwise. */
export const loginOf = (
  userId: SessionRow["userId"],
  limit: SessionLimit = unlimited
): NonNullable<RotateRequest["login"]> => {
  assert(userId !== undefined)
  return { userId, lifetime: hour, idleTimeout: undefined, limit }
}

/** Rotates a session, which must succeed. */
export const rotated = Effect.fnUntraced(function* (row: SessionRow, overrides?: Partial<RotateRequest>) {
  const storage = yield* SessionStorage
  return tagged(yield* storage.rotate(rotateRequest(row, overrides)), "Rotated")
})

/** Registers the tests. */
export const storageRotation = ({ it, passed, tolerance }: Harness): void => {
  it.effect("a rotation replaces the secret, continues the version and keeps the rest", () =>
    Effect.gen(function* () {
      const groupId = GroupId.make(uniqueName("group"))
      const userId = newUser()
      const row = yield* created({ userId, groupId, idleTimeout: hour, attributes: [attribute("cart")] })
      yield* passed(row.createdAt + 5)
      const secretHash = newHash()
      const outcome = yield* rotated(row, { secretHash, set: [attribute("elevated", "true", hour)] })
      expect(outcome.evicted).toEqual([])
      expect(outcome.row).toMatchObject({
        key: row.key,
        secretHash,
        formerHash: row.secretHash,
        userId,
        groupId,
        version: 2n,
        createdAt: row.createdAt,
        authenticatedAt: row.authenticatedAt,
        expiresAt: row.expiresAt,
        idleTimeout: hour
      })
      assert.isAbove(outcome.row.lastAccessedAt, row.lastAccessedAt)
      expect(outcome.row.attributes.get("cart")).toEqual(row.attributes.get("cart"))
      expect(outcome.row.attributes.get("elevated")).toMatchObject({ value: "true", version: 2n })
      expect(yield* stands(row.key)).toEqual(outcome.row)
    })
  )

  it.effect("without a grace the former secret is refused at once, everywhere", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      const { row: current } = yield* rotated(row)
      assert.isAtMost(current.formerUntil ?? 0, current.lastAccessedAt)
      tagged(yield* written(row), "Gone")
      tagged(yield* storage.rotate(rotateRequest(row)), "Gone")
      expect((yield* storage.delete({ _tag: "Session", key: row.key, proof: row.secretHash })).keys).toEqual([])
      expect(yield* stands(row.key)).toEqual(current)
      tagged(yield* written(current), "Accepted")
    })
  )

  it.effect("within the grace both secrets are accepted", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      const { now, row: current } = yield* rotated(row, { grace: hour })
      expect(current.formerHash).toBe(row.secretHash)
      assert.isAtMost(Math.abs((current.formerUntil ?? 0) - (now + hour)), tolerance)
      tagged(yield* written(row, { set: [attribute("former")] }), "Accepted")
      tagged(yield* written(current, { set: [attribute("current")] }), "Accepted")
      expect(Array.from((yield* stands(row.key)).attributes.keys()).toSorted()).toEqual(["current", "former"])
      expect((yield* storage.delete({ _tag: "Session", key: row.key, proof: row.secretHash })).keys).toEqual([row.key])
    })
  )

  it.effect("after the grace only the new secret is accepted", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const { row: current } = yield* rotated(row, { grace: 10 })
      assert(current.formerUntil !== undefined)
      yield* passed(current.formerUntil + tolerance)
      tagged(yield* written(row), "Gone")
      tagged(yield* written(current), "Accepted")
      expect((yield* stands(row.key)).formerHash).toBe(row.secretHash)
    })
  )

  it.effect("of many secrets the last two count", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const first = yield* created()
      const { row: second } = yield* rotated(first, { grace: hour })
      // With the former secret, as a request that was under way would.
      const { row: third } = yield* rotated(first, { grace: hour })
      expect(third).toMatchObject({ version: 3n, formerHash: second.secretHash })
      tagged(yield* written(first), "Gone")
      tagged(yield* storage.rotate(rotateRequest(first)), "Gone")
      tagged(yield* written(second), "Accepted")
      tagged(yield* written(third), "Accepted")
    })
  )

  it.effect("an unknown key or a wrong secret rotates nothing", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      tagged(yield* storage.rotate(rotateRequest({ ...row, key: credential().key })), "Gone")
      tagged(yield* storage.rotate(rotateRequest(row, { proof: newHash(), login: loginOf(newUser()) })), "Gone")
      expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("a guest who logs in keeps what they had; the limits start anew; the old secret is dead", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ lifetime: 60_000, idleTimeout: 30_000, attributes: [attribute("cart", "[1]")] })
      yield* passed(row.createdAt + 5)
      const userId = newUser()
      const { now, row: current } = yield* rotated(row, {
        grace: hour,
        login: { userId, lifetime: 2 * hour, idleTimeout: hour, limit: unlimited }
      })
      expect(current).toMatchObject({ userId, version: 2n, idleTimeout: hour, createdAt: row.createdAt })
      assert.isAtMost(Math.abs((current.authenticatedAt ?? 0) - now), tolerance)
      assert.isAtMost(Math.abs(current.lastAccessedAt - now), tolerance)
      assert.isAtMost(Math.abs(current.expiresAt - (now + 2 * hour)), tolerance)
      expect(current.attributes).toEqual(row.attributes)
      tagged(yield* written(row), "Gone")
      tagged(yield* storage.rotate(rotateRequest(row)), "Gone")
      expect((yield* storage.list(userId)).rows).toEqual([current])
    })
  )

  it.effect("a login shortens limits as well as it extends them", () =>
    Effect.gen(function* () {
      const row = yield* created({ lifetime: 10 * hour })
      const { now, row: current } = yield* rotated(row, {
        login: { ...loginOf(newUser()), lifetime: 60_000, idleTimeout: 30_000 }
      })
      assert.isAtMost(Math.abs(current.expiresAt - (now + 60_000)), tolerance)
      expect(current.idleTimeout).toBe(30_000)
    })
  )

  it.effect("another user does not inherit attributes, and the old secret is dead", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const [alice, bob] = [newUser(), newUser()]
      const row = yield* created({ userId: alice, attributes: [attribute("cart"), attribute("address")] })
      const { row: current } = yield* rotated(row, {
        grace: hour,
        login: loginOf(bob),
        set: [attribute("cart", '"bob\'s"')]
      })
      expect(current.userId).toBe(bob)
      expect(current.attributes).toEqual(new Map([["cart", { value: '"bob\'s"', version: 2n, expiresAt: undefined }]]))
      tagged(yield* written(row), "Gone")
      expect((yield* storage.list(alice)).rows).toEqual([])
      expect((yield* storage.list(bob)).rows).toEqual([current])
    })
  )

  it.effect("a user who logs in again keeps the attributes, gets new limits and may have a grace", () =>
    Effect.gen(function* () {
      const userId = newUser()
      const row = yield* created({ userId, idleTimeout: 30_000, attributes: [attribute("cart")] })
      yield* passed(row.createdAt + 5)
      const { now, row: current } = yield* rotated(row, { grace: hour, login: loginOf(userId) })
      expect(current.attributes).toEqual(row.attributes)
      expect(current.idleTimeout).toBeUndefined()
      assert.isAbove(current.authenticatedAt ?? 0, row.authenticatedAt ?? 0)
      assert.isAtMost(Math.abs(current.expiresAt - (now + hour)), tolerance)
      tagged(yield* written(row), "Accepted")
    })
  )

  it.effect("a login counts for the new user's limit: the oldest make room", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const first = yield* created({ userId })
      yield* passed(first.createdAt)
      const second = yield* created({ userId })
      const guest = yield* created()
      const { evicted, row } = yield* rotated(guest, { login: loginOf(userId, { max: 2, onLimit: "evictOldest" }) })
      expect(evicted).toEqual([{ key: first.key, userId }])
      expect(new Set((yield* storage.list(userId)).rows)).toEqual(new Set([row, second]))
    })
  )

  it.effect("a login that the limit rejects changes nothing", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId })
      const guest = yield* created({ attributes: [attribute("cart")] })
      const login = loginOf(userId, { max: 1, onLimit: "reject" })
      tagged(yield* storage.rotate(rotateRequest(guest, { login })), "TooManySessions")
      expect(yield* stands(guest.key)).toEqual(guest)
      expect((yield* storage.list(userId)).rows).toEqual([row])
    })
  )

  it.effect("a user who logs in again, or merely gets a new secret, is not limited by the own session", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId })
      const other = yield* created({ userId })
      const login = loginOf(userId, { max: 1, onLimit: "reject" })
      const again = yield* rotated(row, { login })
      expect(again.evicted).toEqual([])
      yield* rotated(again.row)
      expect(yield* stands(other.key)).toEqual(other)
      expect((yield* storage.list(userId)).rows).toHaveLength(2)
    })
  )

  it.effect("what would be too large changes nothing and evicts nobody", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId })
      const guest = yield* created({ attributes: [attribute("cart", "123456")] })
      const refused = yield* storage.rotate(
        rotateRequest(guest, {
          login: loginOf(userId, { max: 1, onLimit: "evictOldest" }),
          set: [attribute("name", "1")],
          maxBytes: 14
        })
      )
      expect(tagged(refused, "TooLarge").bytes).toBe(15)
      expect(yield* stands(guest.key)).toEqual(guest)
      expect(yield* stands(row.key)).toEqual(row)
      yield* rotated(guest, { set: [attribute("name", "1")], maxBytes: 15 })
    })
  )

  it.effect("another user's attributes are dropped before the size is taken", () =>
    Effect.gen(function* () {
      const row = yield* created({ userId: newUser(), attributes: [attribute("cart", "123456")] })
      yield* rotated(row, { login: loginOf(newUser()), set: [attribute("a", "1")], maxBytes: 2 })
    })
  )

  it.effect("a rotation that replaces another user's session keeps the key's version counting", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      let row = tagged(yield* storage.create(createRequest()), "Created").row
      for (let version = 2n; version <= 6n; version++) {
        row = (yield* rotated(row, { login: loginOf(newUser()) })).row
        expect(row.version).toBe(version)
      }
      expect(yield* loaded(row.key)).toEqual(row)
    })
  )
}
