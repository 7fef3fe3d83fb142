/** Deletion of sessions, by whatever names them, and of one attribute everywhere. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { GroupId, type SessionKey } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  credential,
  hour,
  loaded,
  newHash,
  newUser,
  stands,
  tagged,
  uniqueName,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { rotated } from "./StorageRotation.ts"

/** Registers the tests. */
export const storageDeletion = ({ it, passed, tolerance }: Harness): void => {
  it.effect("a session is ended once, by its key", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser() })
      const target = { _tag: "Session", key: row.key, proof: undefined } as const
      expect((yield* storage.delete({ ...target, key: credential().key })).keys).toEqual([])
      expect((yield* storage.delete(target)).keys).toEqual([row.key])
      expect((yield* storage.delete(target)).keys).toEqual([])
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("nothing brings an ended session back", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser(), attributes: [attribute("cart")] })
      yield* storage.delete({ _tag: "Session", key: row.key, proof: row.secretHash })
      tagged(yield* written(row, { set: [attribute("cart")], lifetime: hour }), "Gone")
      expect((yield* storage.touch([{ key: row.key, age: 0 }])).touched).toEqual([])
      assert(row.userId !== undefined)
      expect((yield* storage.deleteAttribute(row.userId, "cart")).changed).toEqual([])
      expect((yield* storage.revalidate([row.key])).sessions).toEqual([])
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("where a proof is given, it must be accepted", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      const { row: current } = yield* rotated(row)
      for (const proof of [newHash(), row.secretHash]) {
        expect((yield* storage.delete({ _tag: "Session", key: row.key, proof })).keys).toEqual([])
      }
      expect(yield* stands(row.key)).toEqual(current)
      expect((yield* storage.delete({ _tag: "Session", key: row.key, proof: current.secretHash })).keys).toEqual([
        row.key
      ])
    })
  )

  it.effect("all sessions of a user end, or all but one, and nobody else's", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const rows = yield* Effect.all([created({ userId }), created({ userId }), created({ userId })])
      const [kept, ...others] = rows
      const bystanders = yield* Effect.all([created({ userId: newUser() }), created()])
      const first = yield* storage.delete({ _tag: "User", userId, except: kept.key })
      expect(new Set(first.keys)).toEqual(new Set(others.map(({ key }) => key)))
      expect((yield* storage.list(userId)).rows).toEqual([kept])
      expect((yield* storage.delete({ _tag: "User", userId, except: kept.key })).keys).toEqual([])
      expect((yield* storage.delete({ _tag: "User", userId, except: undefined })).keys).toEqual([kept.key])
      for (const row of bystanders) expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("an exception that is somebody else's session, or unknown, protects nobody", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId })
      const stranger = yield* created({ userId: newUser() })
      expect((yield* storage.delete({ _tag: "User", userId, except: stranger.key })).keys).toEqual([row.key])
      expect(yield* stands(stranger.key)).toEqual(stranger)
      expect((yield* storage.delete({ _tag: "User", userId, except: credential().key })).keys).toEqual([])
    })
  )

  it.effect("all sessions of a group end, whosever they are, or all but one", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const groupId = GroupId.make(uniqueName("group"))
      const userId = newUser()
      const rows = yield* Effect.all([
        created({ groupId, userId }),
        created({ groupId }),
        created({ groupId, userId: newUser() })
      ])
      const [kept, ...others] = rows
      const outside = yield* created({ userId, groupId: GroupId.make(uniqueName("group")) })
      const first = yield* storage.delete({ _tag: "Group", groupId, except: kept.key })
      expect(new Set(first.keys)).toEqual(new Set(others.map(({ key }) => key)))
      expect((yield* storage.delete({ _tag: "Group", groupId, except: undefined })).keys).toEqual([kept.key])
      expect(yield* stands(outside.key)).toEqual(outside)
    })
  )

  it.effect("a user and a group of the same name are not the same", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const groupId = GroupId.make(userId)
      const ofUser = yield* created({ userId })
      const inGroup = yield* created({ groupId })
      expect((yield* storage.delete({ _tag: "User", userId, except: undefined })).keys).toEqual([ofUser.key])
      expect(yield* stands(inGroup.key)).toEqual(inGroup)
    })
  )

  it.effect("all sessions of everybody end", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all([created(), created({ userId: newUser() }), created()])
      // What other tests have left may be more than a statement ends.
      const keys: Array<SessionKey> = []
      for (let more = true; more;) {
        const deleted = yield* storage.delete({ _tag: "All" })
        keys.push(...deleted.keys)
        more = deleted.more
      }
      for (const row of rows) assert.include(keys, row.key)
      expect((yield* storage.load(rows.map(({ key }) => key))).rows).toEqual([])
      expect((yield* storage.delete({ _tag: "All" })).keys).toEqual([])
    })
  )

  it.effect("an attribute is removed from all sessions of a user that have it", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const name = 'elevated "access" __proto__'
      const both = yield* created({ userId, attributes: [attribute(name), attribute("kept")] })
      const alone = yield* created({ userId, attributes: [attribute(name)] })
      const without = yield* created({ userId, attributes: [attribute("kept")] })
      const stranger = yield* created({ userId: newUser(), attributes: [attribute(name)] })
      tagged(yield* written(alone), "Accepted")
      yield* passed(both.createdAt + 5)
      const { changed } = yield* storage.deleteAttribute(userId, name)
      expect(new Map(changed.map(({ key, version }) => [key, version]))).toEqual(
        new Map([
          [both.key, 2n],
          [alone.key, 3n]
        ])
      )
      expect(yield* stands(both.key)).toEqual({
        ...both,
        version: 2n,
        attributes: new Map([["kept", { value: "1", version: 1n, expiresAt: undefined }]])
      })
      expect((yield* stands(alone.key)).attributes.size).toBe(0)
      expect(yield* stands(without.key)).toEqual(without)
      expect(yield* stands(stranger.key)).toEqual(stranger)
      expect((yield* storage.deleteAttribute(userId, name)).changed).toEqual([])
      expect((yield* storage.deleteAttribute(newUser(), name)).changed).toEqual([])
    })
  )

  it.effect("an attribute that was removed everywhere refuses those who had seen it", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId, attributes: [attribute("elevated")] })
      yield* storage.deleteAttribute(userId, "elevated")
      const stale = { expectedAttributes: [["elevated", 1n]] as const, set: [attribute("elevated", "2")] }
      expect(tagged(yield* written(row, stale), "AttributeVersionMismatch").actual).toBe(0n)
      tagged(yield* written(row, { expectedVersion: 1n }), "VersionMismatch")
    })
  )

  it.effect("an expired attribute is not removed again", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId, attributes: [attribute("elevated", "true", 1)] })
      yield* passed(row.createdAt + 1 + tolerance)
      expect((yield* storage.deleteAttribute(userId, "elevated")).changed).toEqual([])
      expect((yield* stands(row.key)).version).toBe(1n)
    })
  )
}
