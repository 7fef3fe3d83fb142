/** G7: `maxSessionsPerUser` is never exceeded, however many logins race on however many nodes. */
import { type Session, UserId } from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { eventually } from "../support/Faults.ts"
import { alice, lookAround, type Node, node, test } from "../support/Nodes.ts"

const limit = 3

/** Three nodes, and a look at the table at every instant: the most live sessions that a user had in any snapshot. */
const watched = <A, E, R>(
  onSessionLimit: "evictOldest" | "reject",
  use: (nodes: readonly [Node, Node, Node]) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const { number } = yield* lookAround
    const options = { maxSessionsPerUser: limit, onSessionLimit, maxConnections: 6 } as const
    const nodes = [yield* node(options), yield* node(options), yield* node(options)] as const
    let most = 0
    let looks = 0
    const look = Effect.map(
      number(`select coalesce(max(n), 0) from (
        select count(*)::int as n from @sessions where user_id is not null and expires_at > clock_timestamp() group by user_id
      ) c`),
      (count) => {
        looks++
        most = Math.max(most, count)
      }
    )
    const looking = yield* Effect.forEach([1, 2], () => Effect.forkChild(Effect.forever(look)))
    const result = yield* use(nodes)
    yield* look
    yield* Fiber.interruptAll(looking)
    return { result, most, looks, nodes }
  })

const race = <A, E, R>(count: number, f: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(Array.from({ length: count }), (_, index) => Effect.result(f(index)), { concurrency: 24 })

const of = (nodes: readonly [Node, Node, Node], index: number): Node => nodes[index % 3] ?? nodes[0]

describe("racing logins", () => {
  test(
    "evictOldest: all get in, the limit is never exceeded, and those who had to go are gone everywhere",
    Effect.gen(function* () {
      const users = [alice, UserId.make("bob")]
      const { looks, most, nodes, result } = yield* watched("evictOldest", (nodes) =>
        race(240, (index) => of(nodes, index).create(users[index % 2] ?? alice))
      )
      assert.strictEqual(most, limit)
      assert.isAbove(looks, 5)
      assert.strictEqual(result.filter(Result.isSuccess).length, 240)
      const sessions = result.flatMap((each) => (Result.isSuccess(each) ? [each.success] : []))
      const listed = yield* Effect.forEach(users, (user) => nodes[0].listForUser(user))
      const live = new Set(listed.flat().map(({ key }) => key))
      assert.strictEqual(live.size, 2 * limit)
      for (const each of nodes) {
        yield* eventually(
          Effect.map(
            Effect.forEach(sessions, ({ id }) => each.find(id, { touch: false }), { concurrency: "unbounded" }),
            (found) => found.filter(Option.isSome).length === live.size
          )
        )
      }
    })
  )

  test(
    "reject: exactly as many get in as there is room",
    Effect.gen(function* () {
      const { most, nodes, result } = yield* watched("reject", (nodes) =>
        race(60, (index) => of(nodes, index).create(alice))
      )
      assert.strictEqual(most, limit)
      assert.strictEqual(result.filter(Result.isSuccess).length, limit)
      for (const each of result) {
        if (Result.isFailure(each)) assert.strictEqual(each.failure._tag, "TooManySessions")
      }
      assert.lengthOf(yield* nodes[1].listForUser(alice), limit)
    })
  )

  test(
    "of guests who become users, mixed with others, and with users who log out meanwhile",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const { most, nodes, result } = yield* watched("evictOldest", (nodes) =>
        Effect.gen(function* () {
          const guests = yield* Effect.forEach(
            Array.from({ length: 60 }),
            (_, index) => of(nodes, index).createAnonymous(),
            { concurrency: 12 }
          )
          return yield* race(180, (index): Effect.Effect<Session | void, unknown> => {
            const guest = guests[index / 3]
            if (guest !== undefined) return of(nodes, index + 1).rotate(guest.id, { userId: alice })
            return index % 30 === 1
              ? Effect.asVoid(of(nodes, index).deleteAllForUser(alice))
              : of(nodes, index).create(alice)
          })
        })
      )
      assert.isAtMost(most, limit)
      assert.strictEqual(result.filter(Result.isSuccess).length, 180)
      assert.isAtMost((yield* nodes[2].listForUser(alice)).length, limit)
      assert.strictEqual(yield* number("select count(*)::int from @sessions where user_id is null"), 0)
    })
  )

  test(
    "guests who log in where there is no room stay guests",
    Effect.gen(function* () {
      const { most, nodes, result } = yield* watched("reject", (nodes) =>
        Effect.gen(function* () {
          const guests = yield* Effect.forEach(
            Array.from({ length: 30 }),
            (_, index) => of(nodes, index).createAnonymous(),
            {
              concurrency: 12
            }
          )
          const results = yield* race(30, (index) => {
            const guest = guests[index]
            return guest === undefined
              ? Effect.die("no guest")
              : of(nodes, index + 1).rotate(guest.id, { userId: alice })
          })
          const found = yield* Effect.forEach(guests, ({ id }) => nodes[0].find(id, { refresh: true }))
          return { results, guests: found.filter(Option.isSome).length }
        })
      )
      assert.strictEqual(most, limit)
      assert.strictEqual(result.results.filter(Result.isSuccess).length, limit)
      assert.strictEqual(result.guests, 30 - limit)
      assert.lengthOf(yield* nodes[0].listForUser(alice), limit)
    })
  )

  test(
    "what has expired does not count, though nobody has swept it",
    Effect.gen(function* () {
      const { query, number } = yield* lookAround
      const { most, result } = yield* watched("reject", (nodes) =>
        Effect.gen(function* () {
          for (let n = 0; n < limit; n++) yield* nodes[0].create(alice)
          yield* query("update @sessions set expires_at = clock_timestamp() - interval '1 millisecond'")
          return yield* race(30, (index) => of(nodes, index).create(alice))
        })
      )
      assert.strictEqual(most, limit)
      assert.strictEqual(result.filter(Result.isSuccess).length, limit)
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), 2 * limit)
    })
  )
})
