/** Many contenders on many connections: one holder at a time, tokens in the order of the grants, no deadlock. */
import type { LockKey, LockStorage, SessionRow, Storage } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  acquired,
  anAcquisition,
  attribute,
  aWrite,
  created,
  Fixture,
  newLock,
  storagesOn
} from "./support/StorageFixture.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

/** A generator whose numbers are the same in each run; below `limit`. */
const randomFrom = (seed: number) => {
  let state = seed
  return (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

const pick = <A>(items: ReadonlyArray<A>, random: (limit: number) => number): A =>
  items[random(items.length)] ?? assert.fail("nothing to pick from")

/** Four nodes with two connections each. */
const nodes = Effect.gen(function* () {
  const { names } = yield* Fixture
  return yield* Effect.forEach(times(4), () => storagesOn(names, { maxConnections: 2 }))
})

/** Asks for a lock as often as it takes. */
const acquire = (locks: LockStorage, lock: LockKey, random: (limit: number) => number, node: string, permits = 1) =>
  Effect.gen(function* () {
    const queue = pick(["none", "wait", "waitAgain"] as const, random)
    const request = anAcquisition(lock, { node, permits, queue, turn: 5 })
    for (let attempt = 0; ; attempt++) {
      const outcome = yield* locks.acquire(request)
      if (outcome._tag === "Granted") return { ...outcome, lock, owner: request.owner }
      assert.strictEqual(outcome._tag, "Held")
      yield* Effect.sleep(1 + random(Math.min(attempt, 8) + 1))
    }
  })

layer(Fixture.layer, { excludeTestServices: true })("PgSessionLocks under load", (it) => {
  it.effect(
    "a lock has one holder, its tokens grow in the order of the grants, and a counter that only it guards ends exact",
    () =>
      Effect.gen(function* () {
        const { names, query, sql } = yield* Fixture
        const table = names.qualified("guarded")
        yield* sql.unsafe(`create table ${table} (lock text, n bigserial, token bigint, at float8)`)
        const counters = names.qualified("counters")
        yield* sql.unsafe(`create table ${counters} (lock text primary key, n int)`)
        const keys = times(3).map(() => newLock())
        for (const key of keys) yield* sql.unsafe(`insert into ${counters} values ($1, 0)`, [key])
        const holders = new Set<LockKey>()
        const perClient = 132

        const cycle = (locks: LockStorage, random: (limit: number) => number, node: string) =>
          Effect.gen(function* () {
            const key = pick(keys, random)
            const lease = yield* acquire(locks, key, random, node)
            assert.isFalse(holders.has(key))
            holders.add(key)
            const [row] = yield* sql.unsafe(
              `with i as (insert into ${table} (lock, token, at) values ($1, $2::text::bigint, $3::text::float8))
              select n from ${counters} where lock = $1`,
              [key, String(lease.token), String(lease.now)]
            ).values
            yield* sql.unsafe(`update ${counters} set n = $2::text::int where lock = $1`, [
              key,
              String(Number(row?.[0]) + 1)
            ])
            holders.delete(key)
            assert.isTrue((yield* locks.release(key, lease.owner)).released)
          })
        yield* Effect.forEach(
          yield* nodes,
          ({ locks }, n) =>
            Effect.forEach(
              times(4),
              (m) => Effect.repeat(cycle(locks, randomFrom(10 * n + m + 1), `node ${n}`), { times: perClient - 1 }),
              { concurrency: "unbounded" }
            ),
          { concurrency: "unbounded" }
        )

        const [[total, distinct, unordered] = []] = yield* query(
          `select count(*)::int, count(distinct token)::int,
            (count(*) filter (where token <= before or at < at_before))::int
          from (select *, lag(token) over w as before, lag(at) over w as at_before
            from ${table} window w as (partition by lock order by n)) g`
        )
        assert.deepStrictEqual([total, distinct, unordered], [16 * perClient, 16 * perClient, 0])
        assert.isAtLeast(Number(total), 2_000)
        assert.deepStrictEqual(yield* query(`select sum(n)::int from ${counters}`), [[16 * perClient]])
      }),
    120_000
  )

  it.effect(
    "never do more hold a lock than it has permits, and all of them are used",
    () =>
      Effect.gen(function* () {
        const lock = newLock()
        let holders = 0
        let most = 0
        yield* Effect.forEach(
          yield* nodes,
          ({ locks }, n) =>
            Effect.forEach(
              times(4),
              (m) => {
                const random = randomFrom(100 * n + m)
                return Effect.repeat(
                  Effect.gen(function* () {
                    const { owner } = yield* acquire(locks, lock, random, `node ${n}`, 3)
                    most = Math.max(most, ++holders)
                    assert.isAtMost(holders, 3)
                    yield* Effect.sleep(random(4))
                    holders--
                    yield* locks.release(lock, owner)
                  }),
                  { times: 29 }
                )
              },
              { concurrency: "unbounded" }
            ),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(most, 3)
      }),
    120_000
  )

  it.effect(
    "a sweep that removes unused locks all the time takes nobody's lock away, and lets no token come back",
    () =>
      Effect.gen(function* () {
        const { locks: sweeper } = yield* Fixture
        const keys = times(3).map(() => newLock())
        const last = new Map<LockKey, bigint>()
        const holders = new Set<LockKey>()
        let removed = 0
        const work = Effect.gen(function* () {
          yield* Effect.forEach(
            yield* nodes,
            ({ locks }, n) =>
              Effect.forEach(
                times(2),
                (m) => {
                  const random = randomFrom(7 * n + m)
                  return Effect.repeat(
                    Effect.gen(function* () {
                      const key = pick(keys, random)
                      const { owner, token } = yield* acquire(locks, key, random, `node ${n}`)
                      assert.isFalse(holders.has(key))
                      holders.add(key)
                      assert.isTrue(token > (last.get(key) ?? 0n))
                      last.set(key, token)
                      holders.delete(key)
                      assert.isTrue((yield* locks.release(key, owner)).released)
                    }),
                    { times: 59 }
                  )
                },
                { concurrency: "unbounded" }
              ),
            { concurrency: "unbounded" }
          )
        })
        const sweep = Effect.gen(function* () {
          removed += (yield* sweeper.sweep({ unusedFor: 0, limit: 100 })).removed
          yield* Effect.sleep(1)
        })
        yield* Effect.raceFirst(work, Effect.forever(sweep))
        assert.isAbove(removed, 10)
      }),
    120_000
  )

  it.effect(
    "fenced writes, tied locks, sweeps and the ends of their sessions neither deadlock nor let a late write through",
    () =>
      Effect.gen(function* () {
        const { query, storage } = yield* Fixture
        const alive: Array<SessionRow> = []
        const replace = (storage: Storage, index: number) =>
          Effect.map(created(storage, { attributes: [attribute("a", 0)] }), (row) => void (alive[index] = row))
        yield* Effect.forEach(times(6), (index) => replace(storage, index))
        const names = ["1", "2", "3"]
        const lockOf = ({ key }: SessionRow, name: string): LockKey => {
          const lock = locksByName.get(key + name) ?? newLock(`s${key}.${name}`)
          locksByName.set(key + name, lock)
          return lock
        }
        const locksByName = new Map<string, LockKey>()
        const known: Array<Effect.Success<ReturnType<typeof acquired>>> = []
        const shared = times(3).map(() => newLock())
        const latest = new Map<LockKey, bigint>()
        const counts = { accepted: 0, fenced: 0, busy: 0, granted: 0, ended: 0 }

        const step = (
          { locks, storage }: { readonly locks: LockStorage; readonly storage: Storage },
          random: (limit: number) => number
        ): Effect.Effect<void, unknown> =>
          Effect.gen(function* () {
            const tied = random(3) > 0
            const session = pick(alive, random)
            const lock = tied ? lockOf(session, pick(names, random)) : pick(shared, random)
            switch (random(10)) {
              case 0:
              case 1:
              case 2: {
                const request = anAcquisition(lock, {
                  session: tied ? session.key : undefined,
                  leaseTime: random(3) * 10,
                  queue: "wait"
                })
                const outcome = yield* locks.acquire({ ...request, turn: 1, node: `n${random(4)}` })
                if (outcome._tag !== "Granted") return
                counts.granted++
                if ((latest.get(lock) ?? 0n) < outcome.token) latest.set(lock, outcome.token)
                known[(counts.granted - 1) % 20] = { ...outcome, lock, owner: request.owner, session: request.session }
                return
              }
              case 3: {
                if (known.length === 0) return
                return yield* Effect.asVoid(locks.extend({ ...pick(known, random), leaseTime: 20 }))
              }
              case 4: {
                if (known.length === 0) return
                const grant = pick(known, random)
                return yield* Effect.asVoid(locks.release(grant.lock, grant.owner))
              }
              case 5: {
                const index = random(alive.length)
                const { key } = alive[index] ?? session
                if (random(2) === 0) return
                if (random(8) === 0) {
                  const all = yield* storage.delete({ _tag: "All" })
                  counts.ended += all.keys.length
                  yield* Effect.forEach(times(6), (each) => replace(storage, each))
                } else {
                  counts.ended += (yield* storage.delete({ _tag: "Session", key, proof: undefined })).keys.length
                  yield* replace(storage, index)
                }
                return
              }
              case 6:
                if (random(4) === 0) yield* locks.sweep({ unusedFor: 0, limit: 3 })
                return yield* locks.leave(lock, `n${random(4)}`)
              default: {
                if (known.length === 0) return
                const requests = alive
                  .filter(() => random(2) === 0)
                  .map((row) => ({ fence: random(4) === 0 ? undefined : pick(known, random), row }))
                const before = requests.map(({ fence }) => fence && latest.get(fence.lock))
                const { outcomes } = yield* storage[random(3) === 0 ? "tryWrite" : "write"](
                  requests.map(({ fence, row }) => aWrite(row, { fence, set: [attribute("a", random(100))] }))
                )
                outcomes.forEach(({ _tag }, index) => {
                  const fence = requests[index]?.fence
                  if (fence === undefined) return
                  if (_tag === "Fenced") counts.fenced++
                  if (_tag === "Busy") counts.busy++
                  if (_tag !== "Accepted") return
                  counts.accepted++
                  // What had been granted before the write was sent counts.
                  assert.isTrue(fence.token >= (before[index] ?? 0n))
                })
              }
            }
          })
        yield* Effect.forEach(
          yield* nodes,
          (node, n) =>
            Effect.forEach(
              times(4),
              (m) => {
                const random = randomFrom(1_000 * n + m)
                return Effect.repeat(
                  Effect.suspend(() => step(node, random)),
                  { times: 200 }
                )
              },
              { concurrency: "unbounded" }
            ),
          { concurrency: "unbounded" }
        )
        for (const count of [counts.accepted, counts.fenced, counts.granted, counts.ended]) assert.isAbove(count, 20)
        assert.deepStrictEqual(
          yield* query(
            "select count(*)::int from @locks l where not exists (select 1 from @sessions s where s.key = l.session_key) and l.session_key is not null"
          ),
          [[0]]
        )
      }),
    120_000
  )

  it.effect(
    "who extends in time keeps the lock, however many ask for it",
    () =>
      Effect.gen(function* () {
        const { locks } = yield* Fixture
        const lock = newLock()
        const lease = yield* acquired(locks, lock, { leaseTime: 5_000 })
        const contend = ({ locks }: { readonly locks: LockStorage }, n: number) =>
          Effect.map(
            locks.acquire(anAcquisition(lock, { node: `${n}`, queue: "wait", turn: 0, leaseTime: 0 })),
            ({ _tag }) => assert.strictEqual(_tag, "Held")
          )
        const extend = Effect.gen(function* () {
          assert.strictEqual((yield* locks.extend({ ...lease, leaseTime: 5_000 }))._tag, "Extended")
          yield* Effect.sleep(5)
        })
        const all = yield* nodes
        yield* Effect.raceFirst(
          Effect.repeat(extend, { times: 50 }),
          Effect.all(
            all.map((node, n) => Effect.forever(contend(node, n))),
            { concurrency: "unbounded" }
          )
        )
        assert.isTrue((yield* locks.release(lock, lease.owner)).released)
      }),
    120_000
  )
})
