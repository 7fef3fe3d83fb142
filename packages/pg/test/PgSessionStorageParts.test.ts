/** What a storage does beside the locks of others, and with more sessions than a statement should take. */
import type { DeleteTarget, SessionKey, SessionRow, Storage, TryOutcome } from "@effect-pg-session/core"
import { GroupId } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import { partSize } from "../src/internal/sql/Delete.ts"
import * as PgSessionStorage from "../src/PgSessionStorage.ts"
import {
  attribute,
  aWrite,
  created,
  Fixture,
  hour,
  newKey,
  newUser,
  storageOn,
  whileLocked
} from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const tags = (outcomes: ReadonlyArray<TryOutcome>) => outcomes.map(({ _tag }) => _tag)

/** Inserts so many sessions of a user at once; answers their keys. */
const insertMany = Effect.fnUntraced(function* (count: number, user: string | null, expiresAt: string) {
  const { query } = yield* Fixture
  const rows = yield* query(
    `insert into @sessions (key, secret_hash, user_id, group_id, version, created_at, last_accessed_at, expires_at)
     select left(translate(encode(sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'base64'), '+/', '-_'), 21) || 'A',
       'hash', $2::text, 'many', 1, now() - interval '1 day', now(), ${expiresAt}
     from generate_series(1, $1::int)
     returning key`,
    [count, user]
  )
  return new Set(rows.map(([key]) => String(key)))
})

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage and rows that others hold", (it) => {
  it.effect("a batch that must not wait leaves the session that somebody has locked, and no other", () =>
    Effect.gen(function* () {
      const { query, sql, storage } = yield* Fixture
      const rows = yield* Effect.forEach(times(20), () => created(storage))
      const held = rows[7] ?? assert.fail()
      const requests = rows.map((row) => aWrite(row, { set: [attribute("a", 1)] }))
      const during = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query("update @sessions set user_id = 'held' where key = $1", [held.key])
          // It answers while the transaction is open, so it did not wait.
          return yield* storage.tryWrite([...requests, aWrite({ ...held, key: newKey() })])
        })
      )
      assert.deepStrictEqual(tags(during.outcomes), [
        ...rows.map((row) => (row === held ? ("Busy" as const) : ("Accepted" as const))),
        "Gone"
      ])
      const [after] = (yield* storage.load([held.key])).rows
      assert.deepInclude<unknown>(after, { userId: "held", version: 1n })
      assert.deepStrictEqual(tags((yield* storage.tryWrite([aWrite(held)])).outcomes), ["Accepted"])
    })
  )

  it.effect("a change alone that must not wait leaves the session that somebody has locked, too", () =>
    Effect.gen(function* () {
      const { query, sql, storage } = yield* Fixture
      const held = yield* created(storage)
      // Without the attributes that it was made on it is the general statement's.
      const request = { ...aWrite(held, { set: [attribute("a", 1)] }), baseAttributes: undefined }
      const { outcomes } = yield* sql.withTransaction(
        Effect.andThen(
          query("update @sessions set user_id = 'held' where key = $1", [held.key]),
          storage.tryWrite([request])
        )
      )
      assert.deepStrictEqual(tags(outcomes), ["Busy"])
      assert.deepStrictEqual(tags((yield* storage.tryWrite([request])).outcomes), ["Accepted"])
    })
  )

  it.effect("a batch that waits decides on what was committed meanwhile", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const other = yield* created(storage)
      for (const [options, expected] of [
        [{ expectedVersion: 1n }, "VersionMismatch"],
        [{ expectedAttributes: [["a", 1n]] }, "AttributeVersionMismatch"]
      ] as const) {
        const row = yield* created(storage, { attributes: [attribute("a", 1)] })
        const { outcomes } = yield* whileLocked(
          row,
          `version = 2, attributes = '{"a": {"v": "2", "n": "2"}}'`,
          storage.write([aWrite(row, { ...options, set: [attribute("a", 3)] }), aWrite(other)])
        )
        assert.deepStrictEqual(tags(outcomes), [expected, "Accepted"])
        const [after] = (yield* storage.load([row.key])).rows
        assert.strictEqual(after?.attributes.get("a")?.value, "2")
      }
    })
  )

  it.effect("what it answers of a changed row is what stands after the change, not what its snapshot has", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const row = yield* created(storage)
      const rounds = yield* Effect.forEach(
        times(200),
        () => storage.tryWrite([aWrite(row, { baseVersion: 0n, set: [attribute("a", 1)] })]),
        { concurrency: 4 }
      )
      const versions = rounds.flatMap(({ outcomes }) =>
        outcomes.flatMap((outcome) => {
          assert.include(["Accepted", "Busy"], outcome._tag)
          return outcome._tag === "Accepted" ? [Number(outcome.row?.version)] : []
        })
      )
      assert.isNotEmpty(versions)
      assert.deepStrictEqual(
        versions.toSorted((a, b) => a - b),
        versions.map((_, index) => index + 2)
      )
    })
  )

  it.effect("a touch that waits for a row moves no later access back, and revives nobody", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const used = yield* created(storage, { idleTimeout: hour })
      const later = "last_accessed_at = clock_timestamp() + interval '1 minute'"
      const { touched } = yield* whileLocked(used, later, storage.touch([{ key: used.key, age: 0 }]))
      const [after] = (yield* storage.load([used.key])).rows
      assert.isAtLeast(after?.lastAccessedAt ?? 0, used.lastAccessedAt + 60_000)
      assert.deepStrictEqual(touched, [{ key: used.key, lastAccessedAt: after?.lastAccessedAt ?? 0 }])

      const idle = yield* created(storage, { idleTimeout: 400 })
      const passed = Effect.repeat(storage.load([]), { until: ({ now }) => now >= idle.lastAccessedAt + 400 })
      const late = storage.touch([{ key: idle.key, age: 0 }])
      assert.deepStrictEqual((yield* whileLocked(idle, "version = version", late, passed)).touched, [])
      assert.deepStrictEqual((yield* storage.load([idle.key])).rows, [])
    })
  )

  it.effect("waiting for a row does not make an access later than it was", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const row = yield* created(storage, { idleTimeout: hour })
      let before = 0
      const { now, touched } = yield* whileLocked(
        row,
        "version = version",
        Effect.gen(function* () {
          before = (yield* storage.load([])).now
          return yield* storage.touch([{ key: row.key, age: 0 }])
        }),
        Effect.sleep("300 millis")
      )
      const at = touched[0]?.lastAccessedAt ?? 0
      assert.isAtLeast(now - before, 300)
      assert.isAtLeast(at, before)
      assert.isAtMost(at, now - 300)
      const [after] = (yield* storage.load([row.key])).rows
      assert.strictEqual(after?.lastAccessedAt, at)
    })
  )

  it.effect("an ending of many waits for a session that was touched just before its deadline, and ends it", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const groupId = GroupId.make("just in time")
      const targets: ReadonlyArray<(row: SessionRow) => DeleteTarget> = [
        ({ userId }) => ({ _tag: "User", userId: userId ?? assert.fail(), except: undefined }),
        () => ({ _tag: "Group", groupId, except: newKey() }),
        () => ({ _tag: "All" })
      ]
      for (const target of targets) {
        const row = yield* created(storage, { userId: newUser(), groupId, idleTimeout: 50 })
        yield* Effect.sleep("60 millis")
        const { keys } = yield* whileLocked(
          row,
          "last_accessed_at = clock_timestamp() + interval '1 minute'",
          storage.delete(target(row))
        )
        assert.include(keys, row.key)
      }
    })
  )
})

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage and very many sessions", (it) => {
  /** Asks until there are no more; checks that each key is reported once. */
  const endAll = Effect.fnUntraced(function* (storage: Storage, target: DeleteTarget, expected: ReadonlySet<string>) {
    const found = new Set<SessionKey>()
    let parts = 0
    for (let more = true; more; parts++) {
      const part = yield* storage.delete(target)
      assert.isAtMost(part.keys.length, partSize)
      for (const key of part.keys) {
        assert.isFalse(found.has(key))
        found.add(key)
      }
      more = part.more
    }
    assert.deepStrictEqual<unknown>(found, expected)
    return parts
  })

  it.effect("are ended in parts, each in time; the expired ones are left to the sweep", () =>
    Effect.gen(function* () {
      const { names, noticesOf, query } = yield* Fixture
      yield* query("delete from @sessions")
      const live = yield* insertMany(5_000, null, "now() + interval '1 hour'")
      yield* insertMany(3_000, null, "now() - interval '1 hour'")
      yield* insertMany(2_500, null, "now() - interval '1 second'")
      const database = yield* DatabaseLive.make({
        names,
        statementTimeout: "2 seconds",
        connection: { url: databaseUrl, maxConnections: 2 }
      })
      const storage = PgSessionStorage.make(database)
      const { notices, result } = yield* noticesOf(endAll(storage, { _tag: "All" }, live))
      assert.strictEqual(result, 3)
      assert.deepStrictEqual(notices, [{ _tag: "All" }, { _tag: "All" }, { _tag: "All" }])
      assert.deepStrictEqual(yield* query("select count(*)::int from @sessions"), [[5_500]])
      const again = yield* noticesOf(storage.delete({ _tag: "All" }))
      assert.deepInclude(again.result, { keys: [], more: false })
      assert.deepStrictEqual(again.notices, [])
    })
  )

  it.effect("of one user or group: the same; those of others, and the one that is excepted, stay", () =>
    Effect.gen(function* () {
      const { names, query, storage } = yield* Fixture
      yield* query("delete from @sessions")
      const userId = newUser()
      const theirs = yield* insertMany(2_000, userId, "now() + interval '1 hour'")
      const others = yield* insertMany(2_100, newUser(), "now() + interval '1 hour'")
      const kept = yield* created(storage, { userId: newUser(), groupId: GroupId.make("many") })
      // A part that is just full may have been the last one.
      assert.strictEqual(yield* endAll(storage, { _tag: "User", userId, except: undefined }, theirs), 2)
      const target: DeleteTarget = { _tag: "Group", groupId: GroupId.make("many"), except: kept.key }
      const both = yield* Effect.forEach([yield* storageOn(names), storage], (each) => collect(each, target), {
        concurrency: 2
      })
      const keys = both.flat()
      assert.lengthOf(keys, others.size)
      assert.deepStrictEqual<unknown>(new Set(keys), others)
      assert.deepStrictEqual(yield* query("select key from @sessions"), [[kept.key]])
    })
  )

  const collect = (storage: Storage, target: DeleteTarget) =>
    Effect.gen(function* () {
      const keys: Array<SessionKey> = []
      for (let more = true; more;) {
        const part = yield* storage.delete(target)
        keys.push(...part.keys)
        more = part.more
      }
      return keys
    })
})
