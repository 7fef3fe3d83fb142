/** Writes with a fence: what is refused, in which order rows are locked, and that neither side sees an old state. */
import type { WriteRequest } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import {
  acquired,
  anAcquisition,
  attribute,
  awaitBlocked,
  aWrite,
  created,
  Fixture,
  hour,
  newHash,
  newKey,
  newLock,
  whileHeld,
  whileLocked
} from "./support/StorageFixture.ts"

/** The outcomes of a batch, as tags. */
const tagsOf = (requests: ReadonlyArray<WriteRequest>, operation: "write" | "tryWrite" = "write") =>
  Effect.gen(function* () {
    const { storage } = yield* Fixture
    const { outcomes } = yield* storage[operation](requests)
    return outcomes.map(({ _tag }) => _tag)
  })

const expire = (...locks: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    yield* query("update @locks set ends = array[clock_timestamp() - interval '1 hour'] where name = any($1::text[])", [
      `{${locks.join(",")}}`
    ])
  })

layer(Fixture.layer, { excludeTestServices: true })("writes with a fence", (it) => {
  it.effect("are accepted as long as nobody else was granted the lock, even when the lease is over", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      const row = yield* created(storage)
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      const write = aWrite(row, { fence: lease })
      for (const operation of ["write", "tryWrite"] as const) {
        assert.deepStrictEqual(yield* tagsOf([write], operation), ["Accepted"])
      }
      yield* expire(lock)
      assert.deepStrictEqual(yield* tagsOf([write]), ["Accepted"])
      yield* locks.release(lock, lease.owner)
      assert.deepStrictEqual(yield* tagsOf([write]), ["Accepted"])

      const next = yield* acquired(locks, lock)
      for (const operation of ["write", "tryWrite"] as const) {
        assert.deepStrictEqual(yield* tagsOf([write], operation), ["Fenced"])
        assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: next })], operation), ["Accepted"])
      }
      const [[version] = []] = yield* query("select version::int from @sessions where key = $1", [row.key])
      assert.strictEqual(version, 7)

      yield* locks.release(lock, next.owner)
      yield* locks.sweep({ unusedFor: 0, limit: 1_000 })
      for (const operation of ["write", "tryWrite"] as const) {
        assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: next })], operation), ["Fenced"])
      }
    })
  )

  it.effect("are accepted with the token of each permit, until that permit is granted anew", () =>
    Effect.gen(function* () {
      const { locks, storage } = yield* Fixture
      const row = yield* created(storage)
      const lock = newLock()
      const first = yield* acquired(locks, lock, { permits: 2 })
      const second = yield* acquired(locks, lock, { permits: 2 })
      const fences = [first, second]
      for (const fence of fences) assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence })]), ["Accepted"])
      yield* locks.release(lock, first.owner)
      yield* acquired(locks, lock, { permits: 2 })
      assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: first })]), ["Fenced"])
      assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: second })]), ["Accepted"])
    })
  )

  it.effect("that are refused say the first of: gone, fenced, version, attribute, size; and refuse nobody else", () =>
    Effect.gen(function* () {
      const { locks, storage } = yield* Fixture
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      const stale = { lock, token: lease.token - 1n }
      const row = () => created(storage, { attributes: [attribute("a", 1)] })
      const everything = {
        expectedVersion: 7n,
        expectedAttributes: [["a", 7n]],
        set: [attribute("a", "x".repeat(100))],
        maxBytes: 10
      } as const
      const requests = [
        aWrite(yield* row(), { ...everything, proof: newHash(), fence: stale }),
        aWrite({ ...(yield* row()), key: newKey() }, { ...everything, fence: lease }),
        aWrite(yield* row(), { ...everything, fence: stale }),
        aWrite(yield* row(), { ...everything, fence: { lock: newLock(), token: lease.token } }),
        aWrite(yield* row(), { ...everything, fence: { lock, token: 2n ** 80n } }),
        aWrite(yield* row(), { ...everything, fence: lease }),
        aWrite(yield* row(), { ...everything, expectedVersion: undefined, fence: lease }),
        aWrite(yield* row(), { ...everything, expectedVersion: 1n, expectedAttributes: [], fence: lease }),
        aWrite(yield* row(), { fence: lease }),
        aWrite(yield* row(), { set: [attribute("b", 1)] })
      ]
      const tags = [
        "Gone",
        "Gone",
        "Fenced",
        "Fenced",
        "Fenced",
        "VersionMismatch",
        "AttributeVersionMismatch",
        "TooLarge",
        "Accepted",
        "Accepted"
      ]
      assert.deepStrictEqual(yield* tagsOf(requests), tags)
      // Those that were accepted now have another version, which only the answers' rows show.
      assert.deepStrictEqual(yield* tagsOf(requests, "tryWrite"), tags)
    })
  )

  it.effect("see a grant that was committed while they waited for the session", () =>
    Effect.gen(function* () {
      const { locks, storage } = yield* Fixture
      const row = yield* created(storage)
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      yield* expire(lock)
      const tags = yield* whileLocked(
        row,
        "version = version",
        Effect.map(storage.write([aWrite(row, { fence: lease })]), ({ outcomes }) => outcomes[0]?._tag),
        acquired(locks, lock)
      )
      assert.strictEqual(tags, "Fenced")
    })
  )

  it.effect("see a grant that was committed while they waited for the lock", () =>
    Effect.gen(function* () {
      const { locks, storage } = yield* Fixture
      const row = yield* created(storage)
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      const { outcomes } = yield* whileHeld(
        "update @locks set tokens = '{9000000000000000000}' where name = $1",
        [lock],
        storage.write([aWrite(row, { fence: lease })])
      )
      assert.deepStrictEqual(outcomes, [{ _tag: "Fenced" }])
      const gone = yield* acquired(locks, newLock())
      const after = yield* whileHeld(
        "delete from @locks where name = $1",
        [gone.lock],
        storage.write([aWrite(row, { fence: gone })])
      )
      assert.deepStrictEqual(after.outcomes, [{ _tag: "Fenced" }])
    })
  )

  it.effect("hold up a grant until they are committed, so that the next holder sees them", () =>
    Effect.gen(function* () {
      const { locks, query, sql, storage } = yield* Fixture
      const row = yield* created(storage)
      const other = yield* created(storage)
      const [a, b] = [newLock("g.a"), newLock("g.b")]
      const lease = yield* acquired(locks, a)
      const later = yield* acquired(locks, b)
      yield* expire(a)
      const order: Array<string> = []
      const fibers = yield* sql.withTransaction(
        Effect.gen(function* () {
          const [[backend] = []] = yield* query("select pg_backend_pid()")
          yield* query("select 1 from @locks where name = $1 for no key update", [b])
          // Has the first lock and waits for the second one.
          const writing = yield* Effect.forkChild(
            Effect.tap(
              storage.write([
                aWrite(row, { fence: lease, set: [attribute("a", 1)] }),
                aWrite(other, { fence: later, set: [attribute("a", 1)] })
              ]),
              () => Effect.sync(() => order.push("written"))
            ),
            { startImmediately: true }
          )
          yield* awaitBlocked(Number(backend), 1)
          const granting = yield* Effect.forkChild(
            Effect.gen(function* () {
              const grant = yield* locks.acquire(anAcquisition(a))
              order.push("granted")
              return { grant, rows: (yield* storage.load([row.key])).rows }
            }),
            { startImmediately: true }
          )
          yield* awaitBlocked(Number(backend), 2)
          assert.deepStrictEqual(order, [])
          return { writing, granting }
        })
      )
      const { outcomes } = yield* Fiber.join(fibers.writing)
      assert.deepStrictEqual(
        outcomes.map(({ _tag }) => _tag),
        ["Accepted", "Accepted"]
      )
      const { grant, rows } = yield* Fiber.join(fibers.granting)
      assert.strictEqual(grant._tag, "Granted")
      assert.strictEqual(rows[0]?.version, 2n)
    })
  )

  it.effect("that must not wait pass over a lock that somebody holds at the moment, and over nothing else", () =>
    Effect.gen(function* () {
      const { locks, query, sql, storage } = yield* Fixture
      const rows = yield* Effect.all([created(storage), created(storage), created(storage), created(storage)])
      const busy = yield* acquired(locks, newLock())
      const free = yield* acquired(locks, newLock())
      const stale = { ...free, token: free.token - 1n }
      const [a, b, c, d] = rows
      const requests = [
        aWrite(a, { fence: busy }),
        aWrite(b, { fence: free }),
        aWrite(c),
        aWrite(d, { fence: stale }),
        aWrite({ ...d, key: newKey() }, { fence: busy })
      ]
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query("select 1 from @locks where name = $1 for no key update", [busy.lock])
          assert.deepStrictEqual(yield* tagsOf(requests, "tryWrite"), [
            "Busy",
            "Accepted",
            "Accepted",
            "Fenced",
            "Gone"
          ])
        })
      )
      assert.deepStrictEqual((yield* storage.load([a.key])).rows, [a])
      assert.deepStrictEqual(yield* tagsOf(requests.slice(0, 1), "tryWrite"), ["Accepted"])
    })
  )

  it.effect("share a lock with each other", () =>
    Effect.gen(function* () {
      const { locks, query, sql, storage } = yield* Fixture
      const row = yield* created(storage)
      const lease = yield* acquired(locks, newLock())
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query("select 1 from @locks where name = $1 for share", [lease.lock])
          assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: lease })]), ["Accepted"])
          assert.deepStrictEqual(yield* tagsOf([aWrite(row, { fence: lease })], "tryWrite"), ["Accepted"])
        })
      )
    })
  )

  for (const [which, writesFirst] of [
    ["write", true],
    ["end", false]
  ] as const) {
    it.effect(
      `and the end of the session that their locks are tied to do not wait in a circle: first the ${which}`,
      () =>
        Effect.gen(function* () {
          const { locks, query, sql, storage } = yield* Fixture
          const tied = yield* created(storage)
          const a = yield* created(storage)
          const b = yield* created(storage)
          // The end of the session finds its locks in the order of the table, the write in the order of their names.
          const second = yield* acquired(locks, newLock(`s${tied.key}.2`), { session: tied.key })
          const first = yield* acquired(locks, newLock(`s${tied.key}.1`), { session: tied.key })
          const write = Effect.forkChild(storage.write([aWrite(a, { fence: first }), aWrite(b, { fence: second })]), {
            startImmediately: true
          })
          const end = Effect.forkChild(storage.delete({ _tag: "Session", key: tied.key, proof: undefined }), {
            startImmediately: true
          })
          const { ending, writing } = yield* sql.withTransaction(
            Effect.gen(function* () {
              const [[backend] = []] = yield* query("select pg_backend_pid()")
              yield* query("select 1 from @locks where name = $1 for no key update", [second.lock])
              if (writesFirst) {
                const writing = yield* write
                yield* awaitBlocked(Number(backend), 1)
                const ending = yield* end
                yield* awaitBlocked(Number(backend), 2)
                return { writing, ending }
              }
              const ending = yield* end
              yield* awaitBlocked(Number(backend), 1)
              const writing = yield* write
              yield* awaitBlocked(Number(backend), 2)
              return { writing, ending }
            })
          )
          assert.deepStrictEqual((yield* Fiber.join(ending)).keys, [tied.key])
          const { outcomes } = yield* Fiber.join(writing)
          const tag = writesFirst ? "Accepted" : "Fenced"
          assert.deepStrictEqual(
            outcomes.map(({ _tag }) => _tag),
            [tag, tag]
          )
          assert.deepStrictEqual(yield* query("select 1 from @locks where session_key = $1", [tied.key]), [])
        })
    )
  }

  it.effect("cost those without a fence nothing: the statement is another one", () =>
    Effect.gen(function* () {
      const { query, sql, storage } = yield* Fixture
      const row = yield* created(storage)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* query("lock table @locks in access exclusive mode")
          for (const operation of ["write", "tryWrite"] as const) {
            assert.deepStrictEqual(yield* tagsOf([aWrite(row, { lifetime: hour })], operation), ["Accepted"])
          }
        })
      )
    })
  )
})
