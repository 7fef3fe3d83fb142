/** What a storage must answer to those who only look: `load`, `list` and `revalidate`. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { GroupId, UserId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionRow } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  createRequest,
  credential,
  hour,
  newHash,
  newUser,
  stands,
  tagged,
  uniqueName,
  unlimited,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Names that a careless adapter confuses, escapes twice or loses. */
export const hostileNames: ReadonlyArray<string> = [
  "__proto__",
  "constructor",
  'O\'Brien "quoted" \\ back\\\\slash',
  "'; drop table sessions; --",
  "%_*?",
  "{a,b}",
  "$1 :name ?",
  "line\nbreak\ttab\r",
  " surrounded by spaces ",
  "👩‍👩‍👧‍👦 emoji",
  "e\u0301 is not \u00e9",
  "\u00e9 is not e\u0301",
  "\u202eright to left",
  "\u0001 control",
  "\ufeff byte order mark",
  "null",
  "x".repeat(255),
  "\u{1F600}".repeat(127)
]

/** Registers the tests. */
export const storageReading = ({ it, passed, tolerance }: Harness): void => {
  const near = (actual: number | undefined, expected: number): void => {
    assert(actual !== undefined)
    assert.isAtMost(Math.abs(actual - expected), tolerance)
  }

  it.effect("a session is stored as it was created", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const groupId = GroupId.make(uniqueName("group"))
      const request = createRequest({
        userId,
        groupId,
        lifetime: hour,
        idleTimeout: 60_000,
        attributes: [attribute("cart", '["pen"]'), attribute("elevated", "true", 5_000)]
      })
      const outcome = yield* storage.create(request)
      const { evicted, row } = tagged(outcome, "Created")
      expect(evicted).toEqual([])
      expect(row).toMatchObject({
        key: request.key,
        secretHash: request.secretHash,
        formerHash: undefined,
        formerUntil: undefined,
        userId,
        groupId,
        version: 1n,
        idleTimeout: 60_000
      })
      near(row.createdAt, outcome.now)
      near(row.authenticatedAt, outcome.now)
      near(row.lastAccessedAt, outcome.now)
      near(row.expiresAt, outcome.now + hour)
      expect(row.attributes.get("cart")).toEqual({ value: '["pen"]', version: 1n, expiresAt: undefined })
      expect(row.attributes.get("elevated")).toMatchObject({ value: "true", version: 1n })
      near(row.attributes.get("elevated")?.expiresAt, outcome.now + 5_000)
      expect(row.attributes.size).toBe(2)
      expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("a guest has neither a user nor a login, and limits are optional", () =>
    Effect.gen(function* () {
      const row = yield* created()
      expect(row).toMatchObject({
        userId: undefined,
        groupId: undefined,
        authenticatedAt: undefined,
        idleTimeout: undefined
      })
      expect(row.attributes.size).toBe(0)
      expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("unknown keys have no row, and are not errors", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      const unknown = credential().key
      const { rows } = yield* storage.load([unknown, row.key, credential().key])
      expect(rows).toEqual([row])
      expect((yield* storage.load([unknown])).rows).toEqual([])
      expect((yield* storage.revalidate([unknown])).sessions).toEqual([])
      expect((yield* storage.list(newUser())).rows).toEqual([])
    })
  )

  it.effect("empty batches are answered, with the clock", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const { now } = yield* storage.create(createRequest())
      const load = yield* storage.load([])
      const revalidate = yield* storage.revalidate([])
      expect(load.rows).toEqual([])
      expect(revalidate.sessions).toEqual([])
      near(load.now, now)
      near(revalidate.now, now)
    })
  )

  it.effect("the clock never goes backwards from answer to answer", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser() })
      const times: Array<number> = []
      for (let round = 0; round < 5; round++) {
        times.push((yield* storage.load([row.key])).now)
        times.push((yield* storage.revalidate([row.key])).now)
        times.push((yield* storage.touch([{ key: row.key, age: 0 }])).now)
        times.push((yield* storage.list(newUser())).now)
        times.push((yield* storage.create(createRequest())).now)
      }
      expect(times).toEqual(times.toSorted((left, right) => left - right))
    })
  )

  it.effect("300 sessions are loaded and revalidated at once, whatever their order", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all(
        Array.from({ length: 300 }, (_, index) => created({ attributes: [attribute("index", String(index))] })),
        { concurrency: 8 }
      )
      const keys = rows.flatMap((row) => [row.key, credential().key]).toReversed()
      const sorted = (items: ReadonlyArray<SessionRow>) => items.toSorted((a, b) => (a.key < b.key ? -1 : 1))
      expect(sorted((yield* storage.load(keys)).rows)).toEqual(sorted(rows))
      const { sessions } = yield* storage.revalidate(keys)
      expect(new Map(sessions.map((session) => [session.key, session]))).toEqual(
        new Map(
          rows.map(({ expiresAt, idleTimeout, key, lastAccessedAt, version }) => [
            key,
            { key, version, lastAccessedAt, expiresAt, idleTimeout }
          ])
        )
      )
    })
  )

  it.effect("the sessions of a user are listed with the latest login first", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const first = yield* created({ userId })
      yield* passed(first.createdAt)
      const second = yield* created({ userId })
      yield* passed(second.createdAt)
      const third = yield* created({ userId, attributes: [attribute("cart")] })
      yield* created({ userId: newUser() })
      yield* created()
      expect((yield* storage.list(userId)).rows).toEqual([third, second, first])

      yield* passed(third.createdAt)
      const { row } = tagged(
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
      expect((yield* storage.list(userId)).rows).toEqual([row, third, second])
    })
  )

  it.effect.each(hostileNames)("names are kept as they are: %j", (name) =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      // The names are the same in every run.
      yield* storage.delete({ _tag: "User", userId: UserId.make(name), except: undefined })
      const row = yield* created({
        userId: UserId.make(name),
        groupId: GroupId.make(name),
        attributes: [attribute(name, '"of the name"'), attribute("other")]
      })
      const { rows } = yield* storage.list(UserId.make(name))
      expect(rows).toEqual([row])
      expect(row).toMatchObject({ userId: name, groupId: name })
      expect(Array.from(row.attributes.keys()).toSorted()).toEqual([name, "other"].toSorted())
      tagged(yield* written(row, { set: [attribute(name, "2")], expectedAttributes: [[name, 1n]] }), "Accepted")
      const changed = yield* stands(row.key)
      expect(changed.attributes.get(name)).toEqual({ value: "2", version: 2n, expiresAt: undefined })
      tagged(yield* written(changed, { remove: [name] }), "Accepted")
      expect(Array.from((yield* stands(row.key)).attributes.keys())).toEqual(["other"])
      const { keys } = yield* storage.delete({ _tag: "Group", groupId: GroupId.make(name), except: undefined })
      expect(keys).toEqual([row.key])
      expect((yield* storage.list(UserId.make(name))).rows).toEqual([])
    })
  )

  it.effect("names that differ in case, normalization or trailing spaces are different users", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const base = uniqueName("Ren\u00e9")
      const names = [base, base.toLowerCase(), base.toUpperCase(), base.normalize("NFD"), `${base} `, ` ${base}`]
      const users = Array.from(new Set(names), (name) => UserId.make(name))
      const rows = yield* Effect.all(users.map((userId) => created({ userId })))
      for (const row of rows) {
        assert(row.userId !== undefined)
        expect((yield* storage.list(row.userId)).rows).toEqual([row])
      }
    })
  )
}
