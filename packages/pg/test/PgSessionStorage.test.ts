/** What is particular to PostgreSQL: locks and snapshots, HOT updates, payloads, partitions. */
import type { Change, Notice, SessionKey, SessionRow, WriteOutcome } from "@effect-pg-session/core"
import { GroupId } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import { maxPayloadBytes } from "../src/internal/NotificationPayload.ts"
import * as PgSessionMigrations from "../src/PgSessionMigrations.ts"
import * as PgSessionStorage from "../src/PgSessionStorage.ts"
import { EmbeddedPostgres } from "../src/testing/index.ts"
import {
  acquired,
  aRotation,
  aSession,
  attribute,
  aWrite,
  created,
  Fixture,
  hour,
  newHash,
  newKey,
  newLock,
  newUser,
  storagesOn,
  whileLocked
} from "./support/StorageFixture.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const accepted = (outcome: WriteOutcome | undefined) => {
  if (outcome?._tag !== "Accepted") throw new Error(`expected the change to be accepted, got ${outcome?._tag}`)
  return outcome
}

const changesIn = (notices: ReadonlyArray<Notice>): ReadonlyArray<Change> =>
  notices.flatMap((notice) => (notice._tag === "Changes" ? notice.changes : []))

/** Waits until the database's clock is beyond a point in time. */
const until = (time: number) =>
  Effect.gen(function* () {
    const { storage } = yield* Fixture
    const { now } = yield* storage.load([])
    yield* Effect.sleep(Math.max(0, time - now) + 2)
  })

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage", (it) => {
  it.effect("touches are HOT: no index is updated", () =>
    Effect.gen(function* () {
      // On a server of its own: what others have open on this one would keep dead rows from being pruned.
      const server = yield* EmbeddedPostgres.make()
      yield* Effect.gen(function* () {
        const client = yield* PgClient.PgClient
        const names = Names.make("public", "")
        yield* PgSessionMigrations.run()
        const storage = yield* Effect.map(DatabaseLive.fromClient(client, { names }), PgSessionStorage.make)
        const rows = yield* Effect.forEach(times(100), (n) =>
          created(storage, {
            userId: newUser(),
            groupId: GroupId.make("hot"),
            idleTimeout: hour,
            attributes: [attribute("small", n), attribute("large", "x".repeat(n % 10 === 0 ? 20_000 : 10))]
          })
        )
        for (const round of times(30)) {
          const some = rows.filter((_, index) => index % 4 === round % 4)
          assert.lengthOf((yield* storage.touch(some.map(({ key }) => ({ key, age: 0 })))).touched, some.length)
          yield* Effect.sleep(2)
        }
        yield* client.unsafe("select pg_stat_force_next_flush()")
        const [[updates, hot] = []] = yield* client.unsafe(
          "select n_tup_upd::int, n_tup_hot_upd::int from pg_stat_user_tables where relname = 'sessions'"
        ).values
        assert.deepStrictEqual([updates, hot], [750, 750])
      }).pipe(Effect.provide(PgClient.layer({ url: server.url, maxConnections: 1 })))
    })
  )

  it.effect("no index and no predicate of an index has the last access or the version", () =>
    Effect.gen(function* () {
      const { names, query } = yield* Fixture
      const definitions = yield* query(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = $1::text::regclass",
        [names.sessions]
      )
      assert.lengthOf(definitions, 3)
      for (const [definition] of definitions) assert.notMatch(String(definition), /last_accessed_at|version/)
    })
  )

  it.effect("a session that somebody else touched while a statement waited for its row is not taken for idle", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const operations = [
        (row: SessionRow) =>
          Effect.map(storage.touch([{ key: row.key, age: 0 }]), ({ touched }) => touched.length === 1),
        (row: SessionRow) =>
          Effect.map(storage.write([aWrite(row)]), ({ outcomes }) => outcomes[0]?._tag === "Accepted"),
        (row: SessionRow) => Effect.map(storage.rotate(aRotation(row)), ({ _tag }) => _tag === "Rotated"),
        (row: SessionRow) =>
          Effect.map(
            storage.delete({ _tag: "Session", key: row.key, proof: row.secretHash }),
            ({ keys }) => keys.length === 1
          )
      ]
      for (const operation of operations) {
        const row = yield* created(storage, { idleTimeout: 300 })
        const live = yield* whileLocked(
          row,
          "last_accessed_at = clock_timestamp() + interval '1 minute'",
          operation(row),
          until(row.createdAt + 300)
        )
        assert.isTrue(live)
      }
    })
  )

  it.effect("a deadline that passes while a statement waits is final", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const row = yield* created(storage, { lifetime: 300 })
      const { outcomes } = yield* whileLocked(
        row,
        "version = version",
        storage.write([aWrite(row, { lifetime: hour })]),
        until(row.expiresAt)
      )
      assert.deepStrictEqual(outcomes, [{ _tag: "Gone" }])
    })
  )

  it.effect("a secret that was replaced while a statement waits is refused", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const operations = [
        (row: SessionRow) => Effect.map(storage.write([aWrite(row)]), ({ outcomes }) => outcomes[0]?._tag === "Gone"),
        (row: SessionRow) => Effect.map(storage.rotate(aRotation(row)), ({ _tag }) => _tag === "Gone"),
        (row: SessionRow) =>
          Effect.map(
            storage.delete({ _tag: "Session", key: row.key, proof: row.secretHash }),
            ({ keys }) => keys.length === 0
          )
      ]
      for (const operation of operations) {
        const row = yield* created(storage)
        assert.isTrue(yield* whileLocked(row, `secret_hash = '${newHash()}'`, operation(row)))
      }
    })
  )

  it.effect("attribute lifetimes count from after the wait for the row, by the clock that is answered", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const row = yield* created(storage)
      const { now, outcomes } = yield* whileLocked(
        row,
        "version = version",
        storage.write([aWrite(row, { baseVersion: 0n, set: [attribute("a", 1, 1000)] })]),
        until(row.createdAt + 200)
      )
      const outcome = accepted(outcomes[0])
      assert.isAbove(outcome.now, row.createdAt + 200)
      assert.strictEqual(outcome.now, now)
      assert.strictEqual(outcome.row?.attributes.get("a")?.expiresAt, outcome.now + 1000)
      assert.strictEqual(outcome.row?.lastAccessedAt, outcome.now)
      assert.deepStrictEqual<unknown>((yield* storage.load([row.key])).rows, [outcome.row])
    })
  )

  it.effect("what a sweep cannot lock is left for the next one, and does not move the range", () =>
    Effect.gen(function* () {
      const { query, storage, sql } = yield* Fixture
      yield* query("delete from @sessions")
      const rows = yield* Effect.forEach(times(6), () => created(storage, { lifetime: 20 }))
      yield* until(Math.max(...rows.map(({ expiresAt }) => expiresAt)))
      const keys = rows.map(({ key }) => key).toSorted()
      const held = keys.slice(1, 3)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* Effect.forEach(held, (key) => query("select 1 from @sessions where key = $1 for no key update", [key]))
          const first = yield* storage.sweep({ after: undefined, limit: 3 })
          assert.deepStrictEqual<unknown>(first._tag === "Swept" && [first.expired.map(({ key }) => key), first.next], [
            [keys[0]],
            keys[2]
          ])
          const second = yield* storage.sweep({ after: keys[2], limit: 3 })
          assert.deepStrictEqual<unknown>(
            second._tag === "Swept" && [second.expired.map(({ key }) => key).toSorted(), second.next],
            [keys.slice(3), keys[5]]
          )
        })
      )
      const last = yield* storage.sweep({ after: undefined, limit: 10 })
      assert.deepStrictEqual(last._tag === "Swept" && [last.expired.map(({ key }) => key).toSorted(), last.next], [
        held,
        undefined
      ])
    })
  )

  it.effect("while one node sweeps, another one is told so at once", () =>
    Effect.gen(function* () {
      const { names, sql, storage } = yield* Fixture
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql.unsafe("select pg_advisory_xact_lock(hashtextextended($1::text, 0))", [`sweep ${names.sessions}`])
          assert.strictEqual((yield* storage.sweep({ after: undefined, limit: 10 }))._tag, "Busy")
        })
      )
      assert.strictEqual((yield* storage.sweep({ after: undefined, limit: 10 }))._tag, "Swept")
    })
  )

  it.effect("a sweep forgets nodes that have been silent for a day", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      yield* query(
        "insert into @beats (node, beat_at) values ('old', now() - interval '25 hours'), ('new', now() - interval '23 hours')"
      )
      yield* storage.sweep({ after: newKey(), limit: 10 })
      assert.deepStrictEqual(yield* query("select node from @beats order by 1"), [["new"], ["old"]])
      yield* storage.sweep({ after: undefined, limit: 10 })
      assert.deepStrictEqual(yield* query("select node from @beats"), [["new"]])
    })
  )

  it.effect("many changes of one statement are packed into few payloads that PostgreSQL accepts", () =>
    Effect.gen(function* () {
      const { noticesOf, query, storage } = yield* Fixture
      const userId = newUser()
      const groupId = GroupId.make("packed")
      const limit = { max: 1000, onLimit: "reject" } as const
      const rows = yield* Effect.forEach(
        times(400),
        () => created(storage, { userId, groupId, limit, attributes: [attribute("a", 1), attribute("b", 1)] }),
        {
          concurrency: 4
        }
      )
      const keys = rows.map(({ key }) => key).toSorted()
      // As long as a version can get.
      yield* query("update @sessions set version = 9223372036854775000")
      const isPacked = (payloads: ReadonlyArray<string>, count: number) => {
        assert.lengthOf(payloads, count)
        for (const payload of payloads) assert.isAtMost(Buffer.byteLength(payload), maxPayloadBytes)
      }
      const keysOf = (notices: ReadonlyArray<Notice>) =>
        changesIn(notices)
          .map(({ key }) => key)
          .toSorted()

      const removed = yield* noticesOf(storage.deleteAttribute(userId, "a"))
      isPacked(removed.payloads, 3)
      assert.deepStrictEqual(keysOf(removed.notices), keys)
      assert.isTrue(changesIn(removed.notices).every(({ version }) => version === 9223372036854775001n))

      const written = yield* noticesOf(storage.write(rows.map((row) => aWrite(row))))
      isPacked(written.payloads, 3)
      assert.deepStrictEqual(keysOf(written.notices), keys)

      const except = yield* noticesOf(storage.delete({ _tag: "Group", groupId, except: rows[0]?.key }))
      isPacked(except.payloads, 3)
      assert.deepStrictEqual(
        keysOf(except.notices),
        rows
          .slice(1)
          .map(({ key }) => key)
          .toSorted()
      )
      assert.isTrue(changesIn(except.notices).every(({ kind, version }) => kind === "Deleted" && version === undefined))

      const last = yield* noticesOf(storage.delete({ _tag: "User", userId, except: undefined }))
      assert.deepStrictEqual(last.notices, [{ _tag: "User", userId }])
      const none = yield* noticesOf(storage.delete({ _tag: "User", userId, except: undefined }))
      assert.deepStrictEqual(none.payloads, [])
    })
  )

  it.effect("the size that is kept is the size that there is", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      const userId = newUser()
      let row = yield* created(storage, { userId, attributes: [attribute("é", "ü🙂"), attribute("b", 1, 1)] })
      const texts = ["", "x", "éé", "🙂", "\u0000", "y".repeat(3000)]
      for (const n of times(60)) {
        const name = `n${(n * 7) % 5}`
        const change =
          n % 11 === 0
            ? { remove: [name, "absent"] }
            : {
                set: [attribute(name, texts[n % texts.length], n % 3 === 0 ? 1 : undefined), attribute("é", n)],
                remove: [name]
              }
        accepted((yield* storage.write([aWrite(row, change)])).outcomes[0])
        if (n % 7 === 0) yield* storage.deleteAttribute(userId, name)
        if (n % 13 === 0) yield* storage.sweep({ after: undefined, limit: 100 })
        if (n % 17 === 0) {
          const outcome = yield* storage.rotate(aRotation(row, { set: [attribute(name, texts[n % texts.length])] }))
          if (outcome._tag === "Rotated") row = outcome.row
        }
        const [[kept, is, expiryIsRight] = []] = yield* query(
          `select attribute_bytes,
            (select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0)::int from jsonb_each(attributes) a),
            attributes_expire_at is not distinct from
              (select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(attributes) a)
          from @sessions where key = $1`,
          [row.key]
        )
        assert.strictEqual(kept, is)
        assert.isTrue(expiryIsRight)
      }
    })
  )

  it.effect("works on a table that is partitioned by key", () =>
    Effect.gen(function* () {
      const { names, noticesOf, sql } = yield* Fixture
      const options = { schemaName: names.schemaName, tablePrefix: "partitioned_" }
      const script = PgSessionMigrations.schemaSql(options).replace("with (fillfactor = 70)", "partition by hash (key)")
      const statements = script.split(/;\n\n?(?=create |insert |$)/).filter((text) => text !== "")
      yield* Effect.forEach(statements, (text) => sql.unsafe(text))
      for (const n of times(3)) {
        yield* sql.unsafe(
          `create table ${names.qualified(`partition_${n}`)} partition of ${names.qualified("partitioned_sessions")}
            for values with (modulus 3, remainder ${n}) with (fillfactor = 70)`
        )
      }
      yield* PgSessionMigrations.run(options)
      const { locks, storage } = yield* storagesOn(Names.make(options.schemaName, options.tablePrefix))
      const userId = newUser()
      const rows = yield* Effect.forEach(times(20), () =>
        created(storage, { userId, idleTimeout: hour, limit: { max: 20, onLimit: "evictOldest" } })
      )
      const { outcomes } = yield* storage.write(rows.map((row) => aWrite(row, { set: [attribute("a", 1, 30)] })))
      assert.isTrue(outcomes.every(({ _tag }) => _tag === "Accepted"))
      assert.lengthOf((yield* storage.touch(rows.map(({ key }) => ({ key, age: 0 })))).touched, 20)
      const more = yield* storage.create(aSession({ userId, limit: { max: 20, onLimit: "evictOldest" } }))
      assert.deepStrictEqual(more._tag === "Created" && more.evicted.map(({ key }) => key), [oldest(rows)])
      yield* until(Math.max(...outcomes.map((outcome) => accepted(outcome).now)) + 30)
      const swept = yield* storage.sweep({ after: undefined, limit: 100 })
      assert.lengthOf(swept._tag === "Swept" ? swept.purged : [], 19)

      const live = rows.filter(({ key }) => key !== oldest(rows)).toSorted((a, b) => (a.key < b.key ? -1 : 1))
      const leases = yield* Effect.forEach(live, ({ key }) => acquired(locks, newLock(`s${key}.`), { session: key }))
      const fenced = yield* storage.write(live.map((row, index) => aWrite(row, { fence: leases[index] })))
      assert.isTrue(fenced.outcomes.every(({ _tag }) => _tag === "Accepted"))
      const { result } = yield* noticesOf(storage.delete({ _tag: "All" }))
      assert.lengthOf(result.keys, 20)
      const locked = yield* sql.unsafe(`select count(*)::int from ${names.qualified("partitioned_session_locks")}`)
        .values
      assert.deepStrictEqual(locked, [[0]])
    })
  )

  it.effect("a row that somebody else spoilt fails one operation in words, without its content", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      const row = yield* created(storage, { attributes: [attribute("good", 1)] })
      yield* query(
        `update @sessions set attributes = attributes || '{"bad": 1, "worse": {"v": 2, "n": "x"}}' where key = $1`,
        [row.key]
      )
      assert.deepStrictEqual((yield* storage.load([row.key])).rows, [row])
      yield* query("update @sessions set user_id = '' where key = $1", [row.key])
      const error = yield* Effect.flip(storage.load([row.key]))
      assert.strictEqual(error.reason, "DatabaseError")
      assert.strictEqual(error.detail, "the answer has an unexpected user id")
      yield* query("delete from @sessions where key = $1", [row.key])
    })
  )
})

const oldest = (rows: ReadonlyArray<SessionRow>): SessionKey => {
  const [first] = rows.toSorted(
    (a, b) => (a.authenticatedAt ?? 0) - (b.authenticatedAt ?? 0) || (a.key < b.key ? -1 : 1)
  )
  return first === undefined ? assert.fail("no session") : first.key
}
