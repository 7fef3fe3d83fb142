/**
 * Statements that wait for the locks of several rows take them in the order of the keys, whatever plan PostgreSQL
 * chooses: otherwise two of them could wait for each other. Whoever waits for the first row holds no other one.
 */
import type { SessionRow, Storage } from "@effect-pg-session/core"
import { GroupId } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as PgSessionStorage from "../src/PgSessionStorage.ts"
import {
  acquired,
  aRotation,
  aSession,
  attribute,
  aWrite,
  created,
  Fixture,
  hour,
  newKey,
  newLock,
  newUser,
  whileHeld
} from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const sessionsOfUser = 6

/** Rows come in the order in which they were inserted, not in that of an index. */
const inInsertionOrder = { enable_indexscan: "off", enable_indexonlyscan: "off" }

const plannedBadly = Effect.gen(function* () {
  const { names } = yield* Fixture
  const connection = { url: databaseUrl, maxConnections: 1, startupParameters: inInsertionOrder }
  const storage = PgSessionStorage.make(yield* DatabaseLive.make({ names, connection, statementTimeout: "20 seconds" }))
  // It connects: the transaction that looks who waits for it would not see a connection that is made later.
  yield* storage.load([])
  return storage
})

/** A user's sessions; the last one of them was inserted first. */
const sessions = Effect.gen(function* () {
  const { storage } = yield* Fixture
  const userId = newUser()
  const groupId = GroupId.make(`group of ${userId}`)
  const limit = { max: 100, onLimit: "evictOldest" } as const
  const keys = Array.from({ length: sessionsOfUser }, newKey).toSorted()
  const rows = yield* Effect.forEach(keys.toReversed(), (key) =>
    created(storage, { key, userId, groupId, limit, attributes: [attribute("a", 1)] })
  )
  return { userId, groupId, rows, first: rows.at(-1) ?? assert.fail() }
})

type Sessions = Effect.Success<typeof sessions>

/** Which of the rows nobody holds. */
const free = (rows: ReadonlyArray<SessionRow>) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    const keys = rows.map(({ key }) => key)
    return yield* query("select key from @sessions where key = any($1) for update skip locked", [keys])
  })

const limitOfOne = { max: 1, onLimit: "evictOldest" } as const

const statements: ReadonlyArray<
  readonly [string, (storage: Storage, sessions: Sessions) => Effect.Effect<unknown, unknown>]
> = [
  [
    "changes of many",
    (storage, { rows }) => storage.write(rows.map((row) => aWrite(row, { set: [attribute("a", 2)] })))
  ],
  ["touches of many", (storage, { rows }) => storage.touch(rows.map(({ key }) => ({ key, age: 0 })))],
  [
    "the end of a user's sessions",
    (storage, { userId }) => storage.delete({ _tag: "User", userId, except: undefined })
  ],
  [
    "the end of a group's, but for one",
    (storage, { groupId, rows }) => storage.delete({ _tag: "Group", groupId, except: rows[0]?.key })
  ],
  ["the removal of an attribute from a user's sessions", (storage, { userId }) => storage.deleteAttribute(userId, "a")],
  ["a login that makes room", (storage, { userId }) => storage.create(aSession({ userId, limit: limitOfOne }))],
  [
    "a login of a guest that makes room",
    (storage, { userId }) =>
      Effect.flatMap(created(storage), (guest) =>
        storage.rotate(
          aRotation(guest, { login: { userId, lifetime: hour, idleTimeout: undefined, limit: limitOfOne } })
        )
      )
  ]
]

layer(Fixture.layer, { excludeTestServices: true })("rows are locked in the order of their keys", (it) => {
  for (const [name, statement] of statements) {
    it.effect(`by ${name}`, () =>
      Effect.gen(function* () {
        const storage = yield* plannedBadly
        const { first, rows, ...names } = yield* sessions
        const others = rows.filter((row) => row !== first)
        yield* whileHeld(
          "select 1 from @sessions where key = $1 for update",
          [first.key],
          statement(storage, { first, rows, ...names }),
          Effect.gen(function* () {
            assert.lengthOf(yield* free(others), others.length)
          })
        )
      })
    )
  }

  it.effect("by fenced changes: those of locks come after all sessions, in the order of names", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const storage = yield* plannedBadly
      const { rows } = yield* sessions
      const names = rows.map((_, index) => newLock(`g.${index}`))
      const fences = yield* Effect.forEach(names.toReversed(), (name) => acquired(locks, name))
      const requests = rows.map((row, index) => aWrite(row, { fence: fences[index] }))
      const { outcomes } = yield* whileHeld(
        "select 1 from @locks where name = $1 for update",
        [names[0]],
        storage.write(requests),
        Effect.gen(function* () {
          assert.lengthOf(yield* free(rows), 0, "it has all sessions")
          const others = "select name from @locks where name = any($1) for update skip locked"
          assert.lengthOf(yield* query(others, [names.slice(1)]), names.length - 1, "and no lock")
        })
      )
      for (const { _tag } of outcomes) assert.strictEqual(_tag, "Accepted")
    })
  )

  it.effect("by fenced changes: the sessions that the locks are tied to are among them", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const storage = yield* plannedBadly
      const { first, rows } = yield* sessions
      const fence = yield* acquired(locks, newLock(`s${first.key}.`), { session: first.key })
      const [written = assert.fail()] = rows
      const { outcomes } = yield* whileHeld(
        "select 1 from @sessions where key = $1 for update",
        [first.key],
        storage.write([aWrite(written, { fence })]),
        Effect.gen(function* () {
          assert.lengthOf(yield* free([written]), 1)
          assert.lengthOf(yield* query("select 1 from @locks where name = $1 for update skip locked", [fence.lock]), 1)
        })
      )
      assert.deepStrictEqual(
        outcomes.map(({ _tag }) => _tag),
        ["Accepted"]
      )
    })
  )
})
