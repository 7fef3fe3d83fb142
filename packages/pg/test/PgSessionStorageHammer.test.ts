/** Many nodes at once: nothing is lost, nothing deadlocks, no limit is passed, nobody active is ended. */
import type { SessionKey, SessionRow, Storage, WriteRequest } from "@effect-pg-session/core"
import { GroupId } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  aRotation,
  aSession,
  attribute,
  aWrite,
  created,
  Fixture,
  hour,
  newUser,
  storageOn
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

const shuffled = <A>(items: ReadonlyArray<A>, random: (limit: number) => number): ReadonlyArray<A> =>
  items
    .map((item) => [random(1_000_000), item] as const)
    .toSorted(([a], [b]) => a - b)
    .map(([, item]) => item)

const nodes = (count: number) =>
  Effect.gen(function* () {
    const { names } = yield* Fixture
    return yield* Effect.forEach(times(count), () => storageOn(names))
  })

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage under load", (it) => {
  it.effect(
    "overlapping batches in random order lose no change, count every version and do not deadlock",
    () =>
      Effect.gen(function* () {
        const { storage } = yield* Fixture
        const rows = yield* Effect.forEach(times(24), () => created(storage, { attributes: [attribute("count", 0)] }), {
          concurrency: 4
        })
        const keys = rows.map(({ key }) => key)
        const counted = new Map<SessionKey, number>(keys.map((key) => [key, 0]))
        const written = new Map<SessionKey, number>(keys.map((key) => [key, 0]))
        const add = (counts: Map<SessionKey, number>, key: SessionKey) => counts.set(key, (counts.get(key) ?? 0) + 1)

        const counter = (node: Storage, random: (limit: number) => number) =>
          Effect.gen(function* () {
            const some = shuffled(keys, random).slice(0, 1 + random(12))
            const { rows: current } = yield* node.load(some)
            const requests = shuffled(current, random).map((row): WriteRequest => {
              const count = row.attributes.get("count")
              if (random(4) === 0) return aWrite(row, { set: [attribute("other", random(1000))], notify: false })
              const check =
                random(2) === 0
                  ? { expectedVersion: row.version }
                  : { expectedAttributes: [["count", count?.version ?? 0n]] as const }
              return aWrite(row, { ...check, set: [attribute("count", Number(count?.value) + 1)] })
            })
            const { outcomes } = yield* node.write(requests)
            outcomes.forEach((outcome, index) => {
              const request = requests[index]
              if (request === undefined || outcome._tag !== "Accepted") return
              add(written, request.key)
              if (request.set[0]?.name === "count") add(counted, request.key)
            })
            yield* node.touch(
              shuffled(keys, random)
                .slice(0, 8)
                .map((key) => ({ key, age: random(50) }))
            )
          })

        yield* Effect.forEach(
          yield* nodes(4),
          (node, n) => {
            const random = randomFrom(n + 1)
            return Effect.forEach(times(4), () => Effect.repeat(counter(node, random), { times: 40 }), {
              concurrency: "unbounded"
            })
          },
          { concurrency: "unbounded" }
        )

        const { rows: after } = yield* storage.load(keys)
        assert.lengthOf(after, keys.length)
        for (const row of after) {
          assert.strictEqual(Number(row.attributes.get("count")?.value), counted.get(row.key))
          assert.strictEqual(row.version, 1n + BigInt(written.get(row.key) ?? 0))
        }
        assert.isAbove(
          [...written.values()].reduce((a, b) => a + b, 0),
          500
        )
      }),
    60_000
  )

  it.effect(
    "all operations at once neither deadlock nor exceed a limit",
    () =>
      Effect.gen(function* () {
        const { storage } = yield* Fixture
        const users = times(3).map(() => newUser())
        const groupId = GroupId.make("hammer")
        const limit = { max: 4, onLimit: "evictOldest" } as const
        const known: Array<SessionRow> = []
        const remember = (row: SessionRow) => {
          known[known.length % 40] = row
          return row
        }
        for (const _ of times(10)) remember(yield* created(storage, { groupId }))
        const reported: Array<SessionKey> = []

        const step = (node: Storage, random: (limit: number) => number): Effect.Effect<void, unknown> => {
          const userId = pick(users, random)
          const row = pick(known, random)
          const some = shuffled(known, random).slice(0, 10)
          const distinct = [...new Map(some.map((each) => [each.key, each])).values()]
          switch (random(12)) {
            case 0:
            case 1:
              return Effect.map(
                node.create(aSession({ userId, groupId, limit, attributes: [attribute("a", 1)] })),
                (outcome) => {
                  if (outcome._tag !== "Created") return assert.fail(outcome._tag)
                  remember(outcome.row)
                  reported.push(...outcome.evicted.map(({ key }) => key))
                }
              )
            case 2:
              return Effect.map(created(node, { groupId }), remember)
            case 3:
            case 4:
              return Effect.map(
                node.rotate(
                  aRotation(row, { login: { userId, lifetime: hour, idleTimeout: hour, limit }, grace: 1000 })
                ),
                (outcome) => {
                  if (outcome._tag !== "Rotated") return
                  remember(outcome.row)
                  reported.push(...outcome.evicted.map(({ key }) => key))
                }
              )
            case 5:
              return Effect.asVoid(node.touch(some.map(({ key }) => ({ key, age: random(10) }))))
            case 6:
              return Effect.asVoid(node.deleteAttribute(userId, "a"))
            case 7:
              return Effect.map(
                node.delete({ _tag: "User", userId, except: random(2) === 0 ? row.key : undefined }),
                ({ keys }) => void reported.push(...keys)
              )
            case 8:
              return random(4) > 0
                ? Effect.void
                : Effect.map(
                    node.delete({ _tag: "Group", groupId, except: undefined }),
                    ({ keys }) => void reported.push(...keys)
                  )
            case 9:
              return Effect.map(node.sweep({ after: undefined, limit: 50 }), (outcome) => {
                if (outcome._tag === "Swept") reported.push(...outcome.expired.map(({ key }) => key))
              })
            case 10:
              return Effect.map(node.list(userId), ({ rows }) => assert.isAtMost(rows.length, limit.max))
            default:
              return Effect.asVoid(
                node.write(
                  distinct.map((each) =>
                    aWrite(each, {
                      set: [attribute("a", 2, 5)],
                      lifetime: random(10) === 0 ? 5 : undefined,
                      idleTimeout: random(10) === 0 ? 10 : undefined
                    })
                  )
                )
              )
          }
        }

        yield* Effect.forEach(
          yield* nodes(4),
          (node, n) => {
            const random = randomFrom(n + 100)
            return Effect.forEach(
              times(4),
              () =>
                Effect.repeat(
                  Effect.suspend(() => step(node, random)),
                  { times: 250 }
                ),
              { concurrency: "unbounded" }
            )
          },
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(reported).size, reported.length)
        const { rows } = yield* storage.load(reported)
        assert.deepStrictEqual(rows, [])
      }),
    60_000
  )

  for (const [what, idleTimeout] of [
    ["", undefined],
    [" with idle limits that pass meanwhile", 15]
  ] as const) {
    it.effect(
      `however many logins race, a user never has more sessions than the limit${what}`,
      () =>
        Effect.gen(function* () {
          const { query, storage } = yield* Fixture
          const all = yield* nodes(4)
          for (const onLimit of ["reject", "evictOldest"] as const) {
            const userId = newUser()
            const limit = { max: 3, onLimit }
            let refused = 0
            yield* Effect.forEach(
              times(80),
              (n) =>
                Effect.gen(function* () {
                  const node = pick(all, () => n % all.length)
                  if (n % 2 === 0) {
                    const outcome = yield* node.create(aSession({ userId, limit, idleTimeout }))
                    if (outcome._tag === "TooManySessions") refused++
                    else yield* node.touch([{ key: outcome.row.key, age: 0 }])
                  } else {
                    const guest = yield* created(node)
                    const outcome = yield* node.rotate(
                      aRotation(guest, { login: { userId, lifetime: hour, idleTimeout, limit } })
                    )
                    if (outcome._tag === "TooManySessions") refused++
                  }
                  assert.isAtMost((yield* node.list(userId)).rows.length, 3)
                }),
              { concurrency: 16 }
            )
            if (idleTimeout === undefined) {
              assert.lengthOf((yield* storage.list(userId)).rows, 3)
              assert.strictEqual(refused, onLimit === "reject" ? 77 : 0)
            }
            yield* query("delete from @sessions where user_id = $1", [userId])
          }
        }),
      60_000
    )
  }

  it.effect(
    "a sweep ends no session whose activity was recorded in time, and a touch revives none",
    () =>
      Effect.gen(function* () {
        const { storage } = yield* Fixture
        const idleTimeout = 40
        const rows = yield* Effect.forEach(times(30), () => created(storage, { idleTimeout }))
        const deadlines = new Map(rows.map((row) => [row.key, row.lastAccessedAt + idleTimeout]))
        const ended = new Map<SessionKey, number>()
        const [first, second, third] = yield* nodes(3)
        assert(first !== undefined && second !== undefined && third !== undefined)
        let swept = 0

        const touch = (node: Storage, random: (limit: number) => number) =>
          Effect.gen(function* () {
            const some = shuffled(rows, random).slice(0, 10)
            const { touched } = yield* node.touch(some.map(({ key }) => ({ key, age: 0 })))
            for (const { key, lastAccessedAt } of touched) {
              deadlines.set(key, Math.max(deadlines.get(key) ?? 0, lastAccessedAt + idleTimeout))
            }
            yield* Effect.sleep(random(12))
          })
        const sweep = (node: Storage) =>
          Effect.gen(function* () {
            const outcome = yield* node.sweep({ after: undefined, limit: 1000 })
            if (outcome._tag === "Busy") return
            swept++
            for (const { key } of outcome.expired) {
              if (!deadlines.has(key)) continue
              assert.isFalse(ended.has(key))
              ended.set(key, outcome.now)
            }
          })
        yield* Effect.all(
          [
            Effect.repeat(touch(first, randomFrom(1)), { times: 120 }),
            Effect.repeat(touch(second, randomFrom(2)), { times: 120 }),
            Effect.repeat(sweep(first), { times: 150 }),
            Effect.repeat(sweep(third), { times: 150 })
          ],
          { concurrency: "unbounded" }
        )
        yield* Effect.sleep(idleTimeout + 5)
        yield* sweep(first)
        assert.isAbove(swept, 50)
        assert.strictEqual(ended.size, rows.length)
        for (const [key, at] of ended) assert.isAtLeast(at, deadlines.get(key) ?? Infinity)
      }),
    60_000
  )
})
