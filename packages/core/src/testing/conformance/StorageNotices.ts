/** Which changes other nodes are told of, and how. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { GroupId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionRow, WriteRequest } from "../../SessionStorage.ts"
import {
  attribute,
  changesOf,
  concerns,
  created,
  groupsOf,
  hour,
  newHash,
  newUser,
  observed,
  tagged,
  uniqueName,
  usersOf,
  writeRequest,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { loginOf, rotated, rotateRequest } from "./StorageRotation.ts"

/** Registers the tests. */
export const storageNotices = ({ it }: Harness): void => {
  it.effect("a creation tells nobody", () =>
    Effect.gen(function* () {
      const { notices, result } = yield* observed(created({ userId: newUser(), groupId: GroupId.make(uniqueName()) }))
      assert.isFalse(concerns(notices, result))
    })
  )

  it.effect("a change is announced with its new version", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const { notices } = yield* observed(
        Effect.andThen(written(row, { set: [attribute("cart")] }), written(row, { remove: ["cart"] }))
      )
      expect(changesOf(notices, row.key)).toEqual([
        { key: row.key, kind: "Updated", version: 2n },
        { key: row.key, kind: "Updated", version: 3n }
      ])
    })
  )

  const quiet: ReadonlyArray<[name: string, change: Partial<WriteRequest>]> = [
    ["an attribute", { set: [attribute("cart")] }],
    ["a later end", { lifetime: 2 * hour }],
    ["a longer idle limit", { idleTimeout: 2 * hour }],
    ["the same idle limit", { idleTimeout: hour }],
    ["no idle limit", { idleTimeout: null }],
    ["the group that it is in", { groupId: null }]
  ]
  it.effect.each(quiet)("who does not want to tell does not: %s", ([, change]) =>
    Effect.gen(function* () {
      const row = yield* created({ lifetime: hour, idleTimeout: hour })
      const { notices } = yield* observed(written(row, { ...change, notify: false }))
      assert.isFalse(concerns(notices, row))
    })
  )

  const shortened: ReadonlyArray<[name: string, before: number | undefined, change: Partial<WriteRequest>]> = [
    ["an earlier end", hour, { lifetime: hour - 1_000 }],
    ["a shorter idle limit", hour, { idleTimeout: hour - 1 }],
    ["an idle limit where there was none", undefined, { idleTimeout: hour }],
    ["an earlier end with no idle limit", hour, { lifetime: hour - 1_000, idleTimeout: null }],
    ["a shorter idle limit with a later end", hour, { lifetime: 2 * hour, idleTimeout: 1_000 }],
    ["another group", hour, { groupId: GroupId.make("group") }]
  ]
  it.effect.each(shortened)(
    "a limit that becomes shorter and a changed group are announced in any case: %s",
    ([, idleTimeout, change]) =>
      Effect.gen(function* () {
        const row = yield* created({ lifetime: hour, idleTimeout })
        const { notices } = yield* observed(written(row, { ...change, notify: false }))
        expect(changesOf(notices, row.key)).toEqual([{ key: row.key, kind: "Updated", version: 2n }])
      })
  )

  it.effect("a refused change tells nobody", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser() })
      const { notices } = yield* observed(
        Effect.all([
          written(row, { expectedVersion: 7n }),
          written(row, { expectedAttributes: [["cart", 7n]] }),
          written(row, { proof: newHash() }),
          written(row, { set: [attribute("cart")], maxBytes: 1 }),
          storage.rotate(rotateRequest(row, { proof: newHash() })),
          storage.rotate(rotateRequest(row, { set: [attribute("cart")], maxBytes: 1 })),
          storage.delete({ _tag: "Session", key: row.key, proof: newHash() }),
          storage.delete({ _tag: "User", userId: loginOf(row.userId).userId, except: row.key })
        ])
      )
      assert.isFalse(concerns(notices, row))
    })
  )

  it.effect("of a batch those are announced that were accepted and want to be", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const [told, refused, silent] = yield* Effect.all([created(), created(), created()])
      const { notices } = yield* observed(
        storage.write([
          writeRequest(told),
          writeRequest(refused, { expectedVersion: 7n }),
          writeRequest(silent, { notify: false })
        ])
      )
      expect(changesOf(notices, told.key)).toEqual([{ key: told.key, kind: "Updated", version: 2n }])
      assert.isFalse(concerns(notices, refused))
      assert.isFalse(concerns(notices, silent))
    })
  )

  it.effect("a rotation is announced with its new version, with a login or without", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const { notices } = yield* observed(
        Effect.flatMap(rotated(row, { login: loginOf(newUser()) }), (outcome) => rotated(outcome.row, { grace: 10 }))
      )
      expect(changesOf(notices, row.key)).toEqual([
        { key: row.key, kind: "Rotated", version: 2n },
        { key: row.key, kind: "Rotated", version: 3n }
      ])
    })
  )

  it.effect("a deletion is announced as the end, once", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser() })
      const target = { _tag: "Session", key: row.key, proof: undefined } as const
      const { notices } = yield* observed(Effect.all([storage.delete(target), storage.delete(target)]))
      expect(changesOf(notices, row.key)).toEqual([{ key: row.key, kind: "Deleted", version: undefined }])
    })
  )

  it.effect("an eviction is announced as such, by creation and by login", () =>
    Effect.gen(function* () {
      const userId = newUser()
      const limit = { max: 1, onLimit: "evictOldest" } as const
      const first = yield* created({ userId })
      const guest = yield* created()
      const { notices, result: second } = yield* observed(created({ userId, limit }))
      expect(changesOf(notices, first.key)).toEqual([{ key: first.key, kind: "Evicted", version: undefined }])
      const login = yield* observed(rotated(guest, { login: loginOf(userId, limit) }))
      expect(changesOf(login.notices, second.key)).toEqual([{ key: second.key, kind: "Evicted", version: undefined }])
      expect(changesOf(login.notices, guest.key)).toEqual([{ key: guest.key, kind: "Rotated", version: 2n }])
    })
  )

  it.effect("ending all sessions of a user, a group or everybody is one announcement", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const groupId = GroupId.make(uniqueName("group"))
      yield* Effect.all([created({ userId }), created({ userId })])
      const user = yield* observed(storage.delete({ _tag: "User", userId, except: undefined }))
      expect(usersOf(user.notices)).toContain(userId)
      yield* Effect.all([created({ groupId }), created({ groupId })])
      const group = yield* observed(storage.delete({ _tag: "Group", groupId, except: undefined }))
      expect(groupsOf(group.notices)).toContain(groupId)
      yield* created()
      const all = yield* observed(storage.delete({ _tag: "All" }))
      expect(all.notices.some((notice) => notice._tag === "All")).toBe(true)
    })
  )

  it.effect("ending all sessions but one names those that ended, and leaves the one alone", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const groupId = GroupId.make(uniqueName("group"))
      const check = Effect.fnUntraced(function* (
        rows: ReadonlyArray<SessionRow>,
        target:
          | { readonly _tag: "User"; readonly userId: typeof userId }
          | { readonly _tag: "Group"; readonly groupId: typeof groupId }
      ) {
        const [kept, ...ended] = rows
        assert(kept !== undefined)
        const { notices } = yield* observed(storage.delete({ ...target, except: kept.key }))
        for (const { key } of ended) {
          expect(changesOf(notices, key)).toEqual([{ key, kind: "Deleted", version: undefined }])
        }
        assert.isFalse(concerns(notices, kept))
      })
      yield* check(yield* Effect.all([created({ userId }), created({ userId }), created({ userId })]), {
        _tag: "User",
        userId
      })
      yield* check(yield* Effect.all([created({ groupId }), created({ groupId }), created({ groupId })]), {
        _tag: "Group",
        groupId
      })
    })
  )

  it.effect("the removal of an attribute everywhere is announced per session", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId, attributes: [attribute("elevated")] })
      const without = yield* created({ userId: newUser() })
      const { notices } = yield* observed(storage.deleteAttribute(userId, "elevated"))
      expect(changesOf(notices, row.key)).toEqual([{ key: row.key, kind: "Updated", version: 2n }])
      assert.isFalse(concerns(notices, without))
    })
  )

  it.effect("nodes can be asked to forget one user's sessions, or all, which ends none", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const row = yield* created({ userId })
      const one = yield* observed(storage.announceClear(userId))
      expect(usersOf(one.notices)).toContain(userId)
      assert.isFalse(one.notices.some((notice) => notice._tag === "All"))
      const all = yield* observed(storage.announceClear(undefined))
      expect(all.notices.some((notice) => notice._tag === "All")).toBe(true)
      expect((yield* storage.load([row.key])).rows).toEqual([row])
    })
  )

  it.effect("500 sessions of a user are ended at once, or lose an attribute at once, and everybody hears of each", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const attributes = [attribute("elevated")]
      const rows = yield* Effect.all(
        Array.from({ length: 500 }, () => created({ userId, attributes })),
        { concurrency: 8 }
      )
      const kept = rows[0]
      assert(kept !== undefined)

      const removal = yield* observed(storage.deleteAttribute(userId, "elevated"))
      expect(removal.result.changed).toHaveLength(500)
      for (const { key } of rows) {
        expect(changesOf(removal.notices, key)).toEqual([{ key, kind: "Updated", version: 2n }])
      }

      const others = yield* observed(storage.delete({ _tag: "User", userId, except: kept.key }))
      expect(new Set(others.result.keys)).toEqual(new Set(rows.slice(1).map(({ key }) => key)))
      for (const { key } of rows.slice(1)) {
        expect(changesOf(others.notices, key)).toEqual([{ key, kind: "Deleted", version: undefined }])
      }

      yield* Effect.all(
        Array.from({ length: 500 }, () => created({ userId })),
        { concurrency: 8 }
      )
      const bulk = yield* observed(storage.delete({ _tag: "User", userId, except: undefined }))
      expect(bulk.result.keys).toHaveLength(501)
      expect(usersOf(bulk.notices)).toContain(userId)
    })
  )

  it.effect("200 changes of one batch are announced, each once", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all(
        Array.from({ length: 200 }, () => created()),
        { concurrency: 8 }
      )
      const { notices, result } = yield* observed(storage.write(rows.map((row) => writeRequest(row))))
      for (const outcome of result.outcomes) tagged(outcome, "Accepted")
      for (const { key } of rows) expect(changesOf(notices, key)).toEqual([{ key, kind: "Updated", version: 2n }])
    })
  )
}
