/** What is particular to locks on PostgreSQL: rows, waits and snapshots, turns, notices, sessions, restarts. */
import type { LockKey, Notice } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it as test, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import * as PgSessionLocks from "../src/PgSessionLocks.ts"
import * as PgSessionMigrations from "../src/PgSessionMigrations.ts"
import { EmbeddedPostgres, PgBouncer } from "../src/testing/index.ts"
import {
  acquired,
  anAcquisition,
  aWrite,
  created,
  Fixture,
  hour,
  minute,
  newKey,
  newLock,
  storagesOn,
  whileHeld
} from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

/** The row of a lock as it lies in the table, which every update moves. */
const place = (lock: LockKey) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    const [row] = yield* query("select ctid::text from @locks where name = $1", [lock])
    return row?.[0]
  })

const queueOf = (lock: LockKey) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    const [row] = yield* query("select array_to_string(queue, ',') from @locks where name = $1", [lock])
    return row?.[0]
  })

/** Makes the leases of a lock end (or have ended) so many milliseconds from now, permit by permit. */
const setEnds = (lock: LockKey, ...ends: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    yield* query(
      `update @locks set ends = array(
        select date_trunc('milliseconds', clock_timestamp()) + e * interval '1 millisecond'
        from unnest($2::text::float8[]) with ordinality u(e, n) order by n)
      where name = $1`,
      [lock, `{${ends.join(",")}}`]
    )
  })

const freed = (lock: LockKey, node: string): Notice => ({ _tag: "LockFreed", lock, node })

layer(Fixture.layer, { excludeTestServices: true })("PgSessionLocks", (it) => {
  it.effect("a lock has one holder; a holder that asks again is answered the same, and nothing is written", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const request = anAcquisition(lock)
      const first = yield* locks.acquire(request)
      assert(first._tag === "Granted")
      assert.strictEqual(first.expiresAt, first.now + hour)
      const at = yield* place(lock)
      const again = yield* locks.acquire({ ...request, leaseTime: 2 * hour })
      assert.deepStrictEqual({ ...again, now: first.now }, first)
      const other = yield* locks.acquire(anAcquisition(lock, { node: "b" }))
      assert.deepStrictEqual(
        { ...other, now: 0 },
        { _tag: "Held", now: 0, node: "a", until: first.expiresAt, retryAt: first.expiresAt + minute }
      )
      assert.strictEqual(yield* place(lock), at)
    })
  )

  it.effect("only who was granted it extends it, by the token, as long as it runs, and never makes it shorter", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      const at = yield* place(lock)
      assert.deepStrictEqual(
        { ...(yield* locks.extend({ ...lease, leaseTime: minute })), now: 0 },
        { _tag: "Extended", now: 0, expiresAt: lease.expiresAt }
      )
      for (const wrong of [
        { ...lease, owner: "somebody" },
        { ...lease, token: lease.token + 1n },
        { ...lease, token: 2n ** 70n },
        { ...lease, lock: newLock() }
      ]) {
        assert.strictEqual((yield* locks.extend({ ...wrong, leaseTime: 2 * hour }))._tag, "Lost")
      }
      assert.strictEqual(yield* place(lock), at)
      const longer = yield* locks.extend({ ...lease, leaseTime: 2 * hour })
      assert(longer._tag === "Extended")
      assert.strictEqual(longer.expiresAt, longer.now + 2 * hour)
      yield* setEnds(lock, 0)
      assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: hour }))._tag, "Lost")
    })
  )

  it.effect(
    "a release frees what its owner has and nothing else, says whether it was in time, and keeps the token",
    () =>
      Effect.gen(function* () {
        const { locks, query } = yield* Fixture
        const lock = newLock()
        const late = yield* acquired(locks, lock)
        yield* setEnds(lock, -1)
        const next = yield* acquired(locks, lock)
        assert.isAbove(Number(next.token), Number(late.token))
        const at = yield* place(lock)
        for (const [which, owner] of [
          [lock, late.owner],
          [lock, "somebody"],
          [newLock(), next.owner]
        ] as const) {
          assert.isFalse((yield* locks.release(which, owner)).released)
        }
        assert.strictEqual(yield* place(lock), at)
        assert.isTrue((yield* locks.release(lock, next.owner)).released)
        assert.isFalse((yield* locks.release(lock, next.owner)).released)
        assert.deepStrictEqual(yield* query("select owners, tokens::text from @locks where name = $1", [lock]), [
          [[null], `{${next.token}}`]
        ])
        const expired = yield* acquired(locks, lock)
        yield* setEnds(lock, -1)
        assert.isFalse((yield* locks.release(lock, expired.owner)).released)
      })
  )

  it.effect("a permit that becomes free is kept for the first node, for its turn", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const ask = (node: string, options?: Parameters<typeof anAcquisition>[1]) =>
        locks.acquire(anAcquisition(lock, { node, queue: "wait", turn: minute, ...options }))
      const { expiresAt } = yield* acquired(locks, lock, { node: "z" })
      for (const [node, retryAt] of [
        ["a", expiresAt],
        ["b", expiresAt + minute],
        ["a", expiresAt],
        ["c", expiresAt + minute]
      ] as const) {
        const held = yield* ask(node)
        assert.deepStrictEqual({ ...held, now: 0 }, { _tag: "Held", now: 0, node: "z", until: expiresAt, retryAt })
      }
      assert.strictEqual(yield* queueOf(lock), "a,b,c")

      // Free for half of the turn.
      yield* setEnds(lock, -minute / 2)
      for (const [node, queue] of [
        ["b", "wait"],
        ["c", "waitAgain"],
        ["d", "none"]
      ] as const) {
        const kept = yield* ask(node, { queue })
        assert(kept._tag === "Held")
        assert.strictEqual(kept.node, "a")
        assert.strictEqual(kept.retryAt, kept.until)
        assert.isAbove(kept.until, kept.now)
        assert.isAtMost(kept.until, kept.now + minute / 2)
      }
      assert.strictEqual((yield* ask("b", { turn: 1_000 }))._tag, "Granted", "whose turn it is for itself is shorter")
      assert.strictEqual(yield* queueOf(lock), "c", "who missed its turn has none any more")
      yield* setEnds(lock, -minute / 2)
      assert.strictEqual((yield* ask("c", { queue: "waitAgain" }))._tag, "Granted")
      assert.strictEqual(yield* queueOf(lock), "c")
      yield* ask("d")
      yield* ask("e")
      yield* setEnds(lock, -minute)
      assert.strictEqual((yield* ask("e", { queue: "waitAgain" }))._tag, "Granted", "the turn is over")
      assert.strictEqual(yield* queueOf(lock), "d,e")
      yield* setEnds(lock, 0)
      assert.strictEqual((yield* ask("d", { queue: "none" }))._tag, "Granted")
      assert.strictEqual(yield* queueOf(lock), "e")
    })
  )

  it.effect("no more than 256 nodes have a turn; others are only refused", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const lock = newLock()
      yield* acquired(locks, lock)
      yield* query("update @locks set queue = array(select 'n' || n from generate_series(1, 255) n) where name = $1", [
        lock
      ])
      for (const node of ["x", "y", "z"]) {
        assert.strictEqual((yield* locks.acquire(anAcquisition(lock, { node, queue: "wait" })))._tag, "Held")
      }
      const [[length, last] = []] = yield* query("select cardinality(queue), queue[256] from @locks where name = $1", [
        lock
      ])
      assert.deepStrictEqual([length, last], [256, "x"])
    })
  )

  it.effect("as many hold a lock as it has permits, and each expired lease makes room for one", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const ask = (node: string) => locks.acquire(anAcquisition(lock, { node, permits: 3, queue: "wait" }))
      const [first] = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
      assert(first._tag === "Granted")
      yield* setEnds(lock, 3 * hour, hour, 2 * hour)
      const held = yield* ask("d")
      assert(held._tag === "Held")
      assert.strictEqual(held.node, "b", "the one whose lease ends first")
      yield* setEnds(lock, 3 * hour, 0, 2 * hour)
      assert.strictEqual((yield* ask("e"))._tag, "Held", "it is kept for d")
      assert.strictEqual((yield* ask("d"))._tag, "Granted")
      assert.strictEqual((yield* ask("e"))._tag, "Held")
    })
  )

  it.effect("the permit that has been free the longest is granted, and its former token is forgotten", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const lock = newLock()
      const leases = yield* Effect.forEach(["a", "b", "c"], (node) => acquired(locks, lock, { node, permits: 3 }))
      const tokens = Effect.map(
        query("select array_to_string(tokens, ',') from @locks where name = $1", [lock]),
        ([row]) => String(row?.[0]).split(",").map(BigInt)
      )
      yield* setEnds(lock, -1_000, -2_000, hour)
      const next = yield* acquired(locks, lock, { permits: 3 })
      assert.deepStrictEqual(yield* tokens, [leases[0]?.token, next.token, leases[2]?.token])

      // With fewer permits than before, no former token stays.
      yield* setEnds(lock, -1_000, -2_000, -3_000)
      const only = yield* acquired(locks, lock, { permits: 1 })
      assert.deepStrictEqual(yield* tokens, [only.token])
    })
  )

  it.effect("nobody is notified where nobody waits; who waits is named by what frees a permit", () =>
    Effect.gen(function* () {
      const { locks, noticesOf } = yield* Fixture
      const lock = newLock("g.\n'🙂 ")
      const quiet = yield* noticesOf(
        Effect.gen(function* () {
          const lease = yield* acquired(locks, lock)
          yield* locks.extend({ ...lease, leaseTime: 2 * hour })
          yield* locks.acquire(anAcquisition(lock))
          yield* locks.leave(lock, "a")
          yield* locks.release(lock, lease.owner)
          const again = yield* acquired(locks, lock, { queue: "wait" })
          yield* locks.release(lock, again.owner)
          yield* locks.sweep({ unusedFor: 0, limit: 100 })
        })
      )
      assert.deepStrictEqual(quiet.payloads, [])

      const lease = yield* acquired(locks, lock)
      const wait = (node: string, options?: Parameters<typeof anAcquisition>[1]) =>
        locks.acquire(anAcquisition(lock, { node, queue: "wait", ...options }))
      yield* wait("node ä")
      yield* wait("b")
      const released = yield* noticesOf(locks.release(lock, lease.owner))
      assert.deepStrictEqual(released.notices, [freed(lock, "node ä")])
      const left = yield* noticesOf(locks.leave(lock, "node ä"))
      assert.deepStrictEqual(left.notices, [freed(lock, "b")])
      yield* wait("c")
      assert.deepStrictEqual((yield* noticesOf(locks.leave(lock, "c"))).notices, [], "it was not its turn")
      assert.deepStrictEqual((yield* noticesOf(wait("b"))).notices, [])
      yield* wait("d")
      yield* wait("e")
      assert.deepStrictEqual((yield* noticesOf(locks.leave(lock, "d"))).notices, [], "nothing is free")
      assert.strictEqual(yield* queueOf(lock), "e")
    })
  )

  it.effect("a grant that leaves another permit free tells the next node", () =>
    Effect.gen(function* () {
      const { locks, noticesOf } = yield* Fixture
      const lock = newLock()
      const ask = (node: string, queue: "wait" | "waitAgain" = "wait") =>
        locks.acquire(anAcquisition(lock, { node, permits: 2, queue }))
      for (const node of ["a", "b", "c", "d"]) yield* ask(node)
      assert.strictEqual(yield* queueOf(lock), "c,d")
      yield* setEnds(lock, 0, 0)
      assert.deepStrictEqual((yield* noticesOf(ask("c", "waitAgain"))).notices, [freed(lock, "d")])
      assert.deepStrictEqual((yield* noticesOf(ask("d"))).notices, [])
      assert.strictEqual(yield* queueOf(lock), "c")
    })
  )

  it.effect("who waited for the row decides on what is there then, by the clock then", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const lease = yield* acquired(locks, lock, { leaseTime: 10 })
      yield* Effect.sleep(20)
      const held = yield* whileHeld(
        "update @locks set ends = array[clock_timestamp() + interval '1 hour'], nodes = '{other}' where name = $1",
        [lock],
        locks.acquire(anAcquisition(lock))
      )
      assert(held._tag === "Held")
      assert.strictEqual(held.node, "other")
      const lost = yield* whileHeld(
        "update @locks set ends = array[date_trunc('milliseconds', clock_timestamp())] where name = $1",
        [lock],
        locks.extend({ ...lease, leaseTime: hour })
      )
      assert.strictEqual(lost._tag, "Lost")
      const granted = yield* whileHeld(
        "select 1 from @locks where name = $1 for share",
        [lock],
        locks.acquire(anAcquisition(lock)),
        Effect.sleep(100)
      )
      assert(granted._tag === "Granted")
      assert.isAbove(granted.now, lost.now + 99)
      assert.strictEqual(granted.expiresAt, granted.now + hour)
    })
  )

  it.effect("a release that waited for the row leaves the lock to whoever was granted it meanwhile", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const lock = newLock()
      const lease = yield* acquired(locks, lock)
      const { released } = yield* whileHeld(
        "update @locks set owners = '{another}' where name = $1",
        [lock],
        locks.release(lock, lease.owner)
      )
      assert.isFalse(released)
      assert.deepStrictEqual(yield* query("select owners[1] from @locks where name = $1", [lock]), [["another"]])
    })
  )

  it.effect("a lock that is swept while somebody waits for its row is granted in a new one, with a larger token", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const before = yield* acquired(locks, lock)
      yield* locks.release(lock, before.owner)
      const after = yield* whileHeld("delete from @locks where name = $1", [lock], acquired(locks, lock))
      assert.isTrue(after.token > before.token)
      assert.strictEqual((yield* locks.acquire(anAcquisition(lock)))._tag, "Held")
    })
  )

  it.effect("of two that come first at once, one waits for the other and is refused", () =>
    Effect.gen(function* () {
      const { locks } = yield* Fixture
      const lock = newLock()
      const outcome = yield* whileHeld(
        `insert into @locks (name, owners, nodes, tokens, ends)
          values ($1, '{x}', '{other}', '{1}', array[clock_timestamp() + interval '1 hour'])`,
        [lock],
        locks.acquire(anAcquisition(lock))
      )
      assert.strictEqual(outcome._tag, "Held")
    })
  )

  it.effect(
    "a sweep removes what has been unused for long enough, so many at a time, and passes over what is held",
    () =>
      Effect.gen(function* () {
        const { locks, query, sql } = yield* Fixture
        yield* query("delete from @locks")
        const all = yield* Effect.forEach(times(5), () => {
          const lock = newLock()
          return Effect.as(acquired(locks, lock, { permits: 2 }), lock)
        })
        const [first, second, third, fourth, fifth] = all
        assert(first !== undefined && second !== undefined && third !== undefined)
        assert(fourth !== undefined && fifth !== undefined)
        yield* acquired(locks, fifth, { permits: 2 })
        yield* setEnds(first, -minute)
        yield* setEnds(second, -minute)
        yield* setEnds(third, -minute)
        yield* setEnds(fourth, -minute / 2)
        yield* setEnds(fifth, -minute, hour)
        const names = Effect.map(query("select name from @locks order by 1"), (rows) => rows.map(([name]) => name))

        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* query("select 1 from @locks where name = $1 for share", [first])
            assert.strictEqual((yield* locks.sweep({ unusedFor: minute, limit: 1 })).removed, 1)
            assert.strictEqual((yield* locks.sweep({ unusedFor: minute, limit: 10 })).removed, 1)
          })
        )
        assert.deepStrictEqual(yield* names, [first, fourth, fifth].toSorted())
        assert.strictEqual((yield* locks.sweep({ unusedFor: minute, limit: 10 })).removed, 1)
        assert.strictEqual((yield* locks.sweep({ unusedFor: 2 * minute, limit: 10 })).removed, 0)
        assert.strictEqual((yield* locks.sweep({ unusedFor: 0, limit: 10 })).removed, 1)
        assert.deepStrictEqual(yield* names, [fifth])
      })
  )

  it.effect("a released permit is free although the clock was set back since, kept for no longer than a turn", () =>
    Effect.gen(function* () {
      const { locks, noticesOf, query } = yield* Fixture
      const lock = newLock()
      const { owner } = yield* acquired(locks, lock)
      yield* locks.acquire(anAcquisition(lock, { node: "b", queue: "wait" }))
      yield* locks.acquire(anAcquisition(lock, { node: "c", queue: "wait" }))
      yield* locks.release(lock, owner)
      yield* setEnds(lock, minute / 2)
      const kept = yield* locks.acquire(anAcquisition(lock, { node: "c", queue: "wait" }))
      assert(kept._tag === "Held")
      assert.strictEqual(kept.node, "b", "a small step changes nothing about whose turn it is")
      assert.deepStrictEqual((yield* noticesOf(locks.leave(lock, "b"))).notices, [freed(lock, "c")])
      yield* locks.acquire(anAcquisition(lock, { node: "b", queue: "wait" }))
      yield* setEnds(lock, hour)
      const { owner: next } = yield* acquired(locks, lock, { node: "d" })
      assert.strictEqual(yield* queueOf(lock), "b", "it was the first one's turn")
      yield* locks.release(lock, next)

      // A slot that seems to end late does not outlast that of a present holder.
      const permits = 3
      const present = yield* acquired(locks, lock, { permits, node: "b", leaseTime: minute })
      const others = [yield* acquired(locks, lock, { permits }), yield* acquired(locks, lock, { permits })]
      for (const each of others) yield* locks.release(lock, each.owner)
      yield* setEnds(lock, minute, hour, 2 * hour)
      const last = yield* acquired(locks, lock, { permits: 2, leaseTime: minute })
      const [row] = yield* query("select array_to_string(tokens, ',') from @locks where name = $1", [lock])
      assert.sameMembers(String(row?.[0]).split(","), [String(present.token), String(last.token)])
    })
  )

  it.effect("nothing is granted by a sequence that is behind the tokens, and the failure says what to do", () =>
    Effect.gen(function* () {
      const { locks, names, query } = yield* Fixture
      const lock = newLock()
      const { owner, token } = yield* acquired(locks, lock)
      yield* locks.release(lock, owner)
      const setTokens = (to: bigint) =>
        query("select setval($1::text::regclass, $2::text::bigint)", [names.lockTokens, String(to)])
      yield* setTokens(token - 1n)
      const error = yield* Effect.flip(locks.acquire(anAcquisition(lock)))
      assert.strictEqual(error.outcome, "NotApplied")
      assert.include(error.message, "session_lock_tokens")
      assert.include(error.message, "setval")
      yield* setTokens(token)
      assert.isTrue((yield* acquired(locks, lock)).token > token)
    })
  )

  it.effect("a tied lock is not granted without its session, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      const lock = newLock()
      const sessions = [
        newKey(),
        (yield* created(storage, { lifetime: 1 })).key,
        (yield* created(storage, { idleTimeout: 1 })).key
      ]
      yield* Effect.sleep(5)
      for (const session of sessions) {
        assert.strictEqual((yield* locks.acquire(anAcquisition(lock, { session })))._tag, "SessionGone")
      }
      assert.deepStrictEqual(yield* query("select name from @locks where name = $1", [lock]), [])
    })
  )

  it.effect("a tied lock is lost with its session: when that is deleted, expires, or has been idle for too long", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      const ends = [
        (key: string) => query("delete from @sessions where key = $1", [key]),
        (key: string) =>
          query("update @sessions set expires_at = date_trunc('milliseconds', clock_timestamp()) where key = $1", [
            key
          ]),
        (key: string) => query("update @sessions set idle_timeout = interval '0' where key = $1", [key])
      ]
      for (const end of ends) {
        const { key } = yield* created(storage)
        const lock = newLock(`s${key}.`)
        const lease = yield* acquired(locks, lock, { session: key })
        assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: hour }))._tag, "Extended")
        yield* end(key)
        assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: hour }))._tag, "Lost")
        assert.strictEqual((yield* locks.acquire(anAcquisition(lock, { session: key })))._tag, "SessionGone")
      }
    })
  )

  it.effect("what is kept of tied locks goes with the session, also by a sweep; others stay", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      yield* query("delete from @sessions")
      yield* query("delete from @locks")
      const { key } = yield* created(storage)
      const expiring = yield* created(storage)
      const other = newLock()
      yield* acquired(locks, other)
      for (const session of [key, expiring.key]) {
        for (const _ of times(3)) yield* acquired(locks, newLock(`s${session}.`), { session })
      }
      const count = Effect.map(query("select count(*)::int from @locks"), ([row]) => row?.[0])
      assert.strictEqual(yield* count, 7)
      yield* storage.delete({ _tag: "Session", key, proof: undefined })
      assert.strictEqual(yield* count, 4)
      yield* query("update @sessions set expires_at = date_trunc('milliseconds', clock_timestamp()) where key = $1", [
        expiring.key
      ])
      yield* Effect.sleep(2)
      yield* storage.sweep({ after: undefined, limit: 10 })
      assert.strictEqual(yield* count, 1)
    })
  )

  it.effect("locks change neither a session's row nor its version", () =>
    Effect.gen(function* () {
      const { locks, noticesOf, storage } = yield* Fixture
      const row = yield* created(storage)
      const { notices } = yield* noticesOf(
        Effect.gen(function* () {
          const lock = newLock()
          const lease = yield* acquired(locks, lock, { session: row.key })
          yield* locks.extend({ ...lease, leaseTime: 2 * hour })
          yield* locks.release(lock, lease.owner)
        })
      )
      assert.deepStrictEqual(notices, [])
      assert.deepStrictEqual((yield* storage.load([row.key])).rows, [row])
    })
  )

  it.effect("a session that is ended while a tied lock is waited for takes the lock with it", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      const { key } = yield* created(storage)
      const lock = newLock(`s${key}.`)
      const lease = yield* acquired(locks, lock, { session: key })
      yield* locks.release(lock, lease.owner)
      const outcome = yield* whileHeld(
        "delete from @sessions where key = $1",
        [key],
        locks.acquire(anAcquisition(lock, { session: key }))
      )
      assert.strictEqual(outcome._tag, "SessionGone")
      assert.deepStrictEqual(yield* query("select 1 from @locks where name = $1", [lock]), [])
    })
  )

  it.effect("whether the session is live is asked once the lock's row is held", () =>
    Effect.gen(function* () {
      const { locks, query, storage } = yield* Fixture
      const held = "select 1 from @locks where name = $1 for no key update"

      const ending = yield* created(storage)
      const lock = newLock(`s${ending.key}.`)
      const lease = yield* acquired(locks, lock, { session: ending.key })
      const shorten = query(
        "update @sessions set expires_at = date_trunc('milliseconds', clock_timestamp()) where key = $1",
        [ending.key]
      )
      const lost = yield* whileHeld(held, [lock], locks.extend({ ...lease, leaseTime: hour }), shorten)
      assert.strictEqual(lost._tag, "Lost")

      const busy = yield* created(storage, { idleTimeout: hour })
      const other = newLock(`s${busy.key}.`)
      const { owner } = yield* acquired(locks, other, { session: busy.key })
      yield* locks.release(other, owner)
      const setAccess = (at: string) =>
        query(`update @sessions set last_accessed_at = clock_timestamp() - interval '${at}' where key = $1`, [busy.key])
      yield* setAccess("2 hours")
      const granted = yield* whileHeld(
        held,
        [other],
        locks.acquire(anAcquisition(other, { session: busy.key })),
        setAccess("0")
      )
      assert.strictEqual(granted._tag, "Granted", "it was active meanwhile")
    })
  )

  it.effect(
    "a tied lock waits for a change of its session only the first time, and the session never waits for it",
    () =>
      Effect.gen(function* () {
        const { locks, query, sql, storage } = yield* Fixture
        const row = yield* created(storage)
        const change = "update @sessions set version = version where key = $1"
        const lock = newLock()
        const lease = yield* whileHeld(change, [row.key], acquired(locks, lock, { session: row.key }))
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* query(change, [row.key])
            assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: hour }))._tag, "Extended")
            assert.isTrue((yield* locks.release(lock, lease.owner)).released)
            yield* acquired(locks, lock, { session: row.key })
          })
        )
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* query("update @locks set ends = ends where name = $1", [lock])
            assert.strictEqual((yield* storage.write([aWrite(row)])).outcomes[0]?._tag, "Accepted")
          })
        )
        const deleted = yield* whileHeld(
          "update @locks set ends = ends where name = $1",
          [lock],
          storage.delete({ _tag: "Session", key: row.key, proof: undefined })
        )
        assert.lengthOf(deleted.keys, 1)
      })
  )

  it.effect("no index has what a grant, an extension or a release changes", () =>
    Effect.gen(function* () {
      const { names, query } = yield* Fixture
      const definitions = yield* query(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = $1::text::regclass order by 1",
        [names.locks]
      )
      assert.lengthOf(definitions, 2)
      for (const [definition] of definitions) assert.match(String(definition), /\((name|session_key)\)/)
    })
  )

  it.effect("a row that somebody else spoilt fails one operation in words", () =>
    Effect.gen(function* () {
      const { locks, query } = yield* Fixture
      const lock = newLock()
      yield* acquired(locks, lock)
      yield* query("update @locks set nodes = '{}' where name = $1", [lock])
      const error = yield* Effect.flip(locks.acquire(anAcquisition(lock)))
      assert.strictEqual(error.detail, "the answer has an unexpected text")
    })
  )
})

describe("locks on a server of their own", () => {
  test.live("grants, extensions and releases are HOT: no index is updated", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres.make()
      yield* Effect.gen(function* () {
        const client = yield* PgClient.PgClient
        yield* PgSessionMigrations.run()
        const locks = yield* Effect.map(
          DatabaseLive.fromClient(client, { names: Names.make("public", "") }),
          PgSessionLocks.make
        )
        const names = times(20).map(() => newLock())
        yield* Effect.forEach(names, (lock) => acquired(locks, lock, { leaseTime: 0 }))
        for (const round of times(10)) {
          for (const lock of names) {
            const node = `node ${round}`
            const lease = yield* acquired(locks, lock, { node, queue: "wait" })
            yield* locks.extend({ ...lease, leaseTime: 2 * hour })
            yield* locks.acquire(anAcquisition(lock, { node: "other", queue: "wait" }))
            yield* locks.leave(lock, "other")
            yield* locks.release(lock, lease.owner)
          }
        }
        yield* client.unsafe("select pg_stat_force_next_flush()")
        const [[updates, hot] = []] = yield* client.unsafe(
          "select n_tup_upd::int, n_tup_hot_upd::int from pg_stat_user_tables where relname = 'session_locks'"
        ).values
        assert.deepStrictEqual([updates, hot], [1_020, 1_020])
      }).pipe(Effect.provide(PgClient.layer({ url: server.url, maxConnections: 1 })))
    })
  )

  test.live("kill -9 of PostgreSQL: what was granted stays granted, and tokens go on growing", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
      const started = Effect.gen(function* () {
        yield* PgSessionMigrations.run()
        const client = yield* PgClient.PgClient
        return yield* Effect.map(
          DatabaseLive.fromClient(client, { names: Names.make("public", "") }),
          PgSessionLocks.make
        )
      })
      const provide = Effect.provide(PgClient.layer({ url: server.url, maxConnections: 1 }))
      let last = 0n
      const held: Array<Effect.Success<ReturnType<typeof acquired>>> = []
      for (const round of times(3)) {
        yield* Effect.gen(function* () {
          const locks = yield* started
          for (const { lock, owner, token } of held) {
            const again = yield* locks.acquire(anAcquisition(lock, { owner }))
            assert.strictEqual(again._tag === "Granted" && again.token, token)
            assert.strictEqual((yield* locks.acquire(anAcquisition(lock)))._tag, "Held")
          }
          for (const _ of times(40)) {
            const lease = yield* acquired(locks, newLock())
            assert.isTrue(lease.token > last)
            last = lease.token
            held.push(lease)
          }
        }).pipe(provide, Effect.scoped)
        if (round === 2) break
        yield* server.kill
        yield* server.start
      }
    })
  )
})

describe.skipIf(!PgBouncer.available)("locks through PgBouncer (skipped where it is not installed)", () => {
  layer(Fixture.layer, { excludeTestServices: true })((it) => {
    it.effect("work in transaction mode, on whatever connection each statement gets", () =>
      Effect.gen(function* () {
        const { names } = yield* Fixture
        const pooler = yield* PgBouncer.make(databaseUrl, { poolSize: 2 })
        const { locks, storage } = yield* storagesOn(names, { url: pooler.url, prepare: false, maxConnections: 6 })
        const session = yield* created(storage)
        const lock = newLock(`s${session.key}.`)
        let holders = 0
        let last = 0n
        let grants = 0
        yield* Effect.forEach(
          times(6),
          (n) =>
            Effect.gen(function* () {
              while (grants < 60) {
                const request = anAcquisition(lock, { session: session.key, node: `${n}`, queue: "wait", turn: 20 })
                const outcome = yield* locks.acquire(request)
                if (outcome._tag !== "Granted") {
                  yield* Effect.sleep(1 + n)
                  continue
                }
                assert.strictEqual(++holders, 1)
                assert.isTrue(outcome.token > last)
                last = outcome.token
                grants++
                const lease = { ...request, token: outcome.token }
                assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: 2 * hour }))._tag, "Extended")
                const { outcomes } = yield* storage.write([aWrite(session, { fence: lease })])
                assert.strictEqual(outcomes[0]?._tag, "Accepted")
                holders--
                assert.isTrue((yield* locks.release(lock, request.owner)).released)
              }
              yield* locks.leave(lock, `${n}`)
            }),
          { concurrency: "unbounded" }
        )
      })
    )
  })
})
