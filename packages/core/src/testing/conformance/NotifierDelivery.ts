/** What arrives on a connection: everything, in the order of the commits. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { randomBase64Url } from "../../internal/Crypto.ts"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import { GroupId, UserId } from "../../SessionId.ts"
import { SessionNotifier } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import {
  attribute,
  changesOf,
  created,
  drained,
  groupsOf,
  newUser,
  observed,
  tagged,
  takenUntil,
  usersOf,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { rotated } from "./StorageRotation.ts"
import { hostileNames } from "./StorageReading.ts"

/** Registers the tests. */
export const notifierDelivery = ({ it }: Harness): void => {
  it.effect("what was committed after the connection was made arrives", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const row = yield* created()
      const connection = yield* notifier.connect
      tagged(yield* written(row), "Accepted")
      for (;;) {
        const changes = changesOf(yield* connection.take, row.key)
        if (changes.length === 0) continue
        expect(changes).toEqual([{ key: row.key, kind: "Updated", version: 2n }])
        return
      }
    })
  )

  it.effect("changes of several sessions arrive in the order in which they were acknowledged", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const storage = yield* SessionStorage
      const [a, b, c] = yield* Effect.all([created(), created(), created()])
      const connection = yield* notifier.connect
      tagged(yield* written(b), "Accepted")
      tagged(yield* written(a), "Accepted")
      yield* rotated(c)
      yield* storage.delete({ _tag: "Session", key: b.key, proof: undefined })
      tagged(yield* written(a), "Accepted")
      yield* storage.delete({ _tag: "Session", key: a.key, proof: undefined })
      const notices = yield* drained(connection)
      const ours = new Set([a.key, b.key, c.key])
      const changes = notices.flatMap((notice) => (notice._tag === "Changes" ? notice.changes : []))
      expect(changes.filter(({ key }) => ours.has(key))).toEqual([
        { key: b.key, kind: "Updated", version: 2n },
        { key: a.key, kind: "Updated", version: 2n },
        { key: c.key, kind: "Rotated", version: 2n },
        { key: b.key, kind: "Deleted", version: undefined },
        { key: a.key, kind: "Updated", version: 3n },
        { key: a.key, kind: "Deleted", version: undefined }
      ])
    })
  )

  it.effect("however many write at once, the versions of a session arrive rising and complete", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const rows = yield* Effect.all(Array.from({ length: 4 }, () => created()))
      const connection = yield* notifier.connect
      const changes = rows.flatMap((row) =>
        Array.from({ length: 25 }, (_, index) => written(row, { set: [attribute("n", String(index))] }))
      )
      const outcomes = yield* Effect.all(changes, { concurrency: 16 })
      for (const outcome of outcomes) tagged(outcome, "Accepted")
      const notices = yield* drained(connection)
      for (const { key } of rows) {
        expect(changesOf(notices, key).map(({ version }) => version)).toEqual(
          Array.from({ length: 25 }, (_, index) => BigInt(index + 2))
        )
      }
    })
  )

  it.effect("every connection gets everything, in the same order", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const rows = yield* Effect.all(Array.from({ length: 8 }, () => created()))
      const ours = new Set<string>(rows.map(({ key }) => key))
      const connections = yield* Effect.all([notifier.connect, notifier.connect, notifier.connect])
      yield* Effect.all(
        rows.flatMap((row) => Array.from({ length: 5 }, () => written(row))),
        { concurrency: 8 }
      )
      const nonce = randomBase64Url(16)
      yield* notifier.beat("conformance", nonce)
      const sequences = yield* Effect.all(
        connections.map((connection) =>
          Effect.map(takenUntil(connection, nonce), (notices) =>
            notices
              .flatMap((notice) => (notice._tag === "Changes" ? notice.changes : []))
              .filter(({ key }) => ours.has(key))
          )
        )
      )
      expect(sequences[0]).toHaveLength(40)
      expect(sequences[1]).toEqual(sequences[0])
      expect(sequences[2]).toEqual(sequences[0])
    })
  )

  it.effect("a connection that ends with its scope disturbs no other", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const lasting = yield* notifier.connect
      const row = yield* created()
      for (let round = 0; round < 5; round++) {
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(notifier.connect, scope)
        tagged(yield* written(row), "Accepted")
        yield* drained(connection)
        yield* Scope.close(scope, Exit.void)
        assert.instanceOf(yield* Effect.flip(connection.take), SessionStoreUnavailable)
      }
      expect(changesOf(yield* drained(lasting), row.key).map(({ version }) => version)).toEqual([2n, 3n, 4n, 5n, 6n])
    })
  )

  it.effect("the end of a scope wakes who waits", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(notifier.connect, scope)
      yield* drained(connection)
      const waiting = yield* Effect.forkChild(Effect.flip(Effect.forever(connection.take)))
      yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      assert.instanceOf(yield* Fiber.join(waiting), SessionStoreUnavailable)
    })
  )

  it.effect("who stops waiting loses nothing", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const connection = yield* notifier.connect
      const row = yield* created()
      yield* drained(connection)
      const waiting = yield* Effect.forkChild(Effect.forever(connection.take), { startImmediately: true })
      yield* Effect.yieldNow
      yield* Fiber.interrupt(waiting)
      tagged(yield* written(row), "Accepted")
      expect(changesOf(yield* drained(connection), row.key)).toHaveLength(1)
    })
  )

  it.effect("500 changes that nobody takes meanwhile are all there afterwards", () =>
    Effect.gen(function* () {
      const rows = yield* Effect.all(
        Array.from({ length: 500 }, () => created()),
        { concurrency: 8 }
      )
      const { notices } = yield* observed(
        Effect.all(
          rows.map((row) => written(row)),
          { concurrency: 8 }
        )
      )
      for (const { key } of rows) expect(changesOf(notices, key)).toEqual([{ key, kind: "Updated", version: 2n }])
    })
  )

  it.effect.each(hostileNames)("users and groups are named as they are: %j", (name) =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = UserId.make(name)
      const groupId = GroupId.make(name)
      const { notices } = yield* observed(
        Effect.gen(function* () {
          yield* created({ userId })
          yield* storage.delete({ _tag: "User", userId, except: undefined })
          yield* storage.announceClear(userId)
          yield* created({ groupId })
          yield* storage.delete({ _tag: "Group", groupId, except: undefined })
        })
      )
      expect(usersOf(notices).filter((user) => user === userId)).toHaveLength(2)
      expect(groupsOf(notices).filter((group) => group === groupId)).toHaveLength(1)
      assert.isFalse(notices.some((notice) => notice._tag === "Unreadable"))
    })
  )

  it.effect("identical notices in a row all arrive", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const { notices } = yield* observed(Effect.all(Array.from({ length: 5 }, () => storage.announceClear(userId))))
      expect(usersOf(notices).filter((user) => user === userId)).toHaveLength(5)
    })
  )
}
