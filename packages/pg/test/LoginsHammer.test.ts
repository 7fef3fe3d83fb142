/**
 * Logins of two nodes in shared statements, among rotations, changes and ends of the same users' sessions: no user ever has too
 * many, nothing waits in a circle, and what was acknowledged is there.
 */
import { Session, SessionAttribute, type SessionEvent, type SessionKey, UserId } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { PgSession } from "../src/PgSession.ts"
import { build, Count, type Node, Note, test } from "./support/Nodes.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const limit = 3
const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)
const users = times(6).map((index) => UserId.make(`user ${index}`))

const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** A database of its own, in which a circle is found at once, and counted. */
const ownDatabase = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const name = `hammer_${randomBytes(6).toString("hex")}`
  yield* Effect.acquireRelease(sql`create database ${sql(name)}`, () =>
    Effect.ignore(sql`drop database ${sql(name)} with (force)`)
  )
  yield* sql`alter database ${sql(name)} set deadlock_timeout = '5ms'`
  const url = new URL(Redacted.value(databaseUrl))
  url.pathname = `/${name}`
  return { name, url: Redacted.make(url.href) }
})

const isEnd = (event: SessionEvent): event is Extract<SessionEvent, { readonly _tag: "Deleted" | "Evicted" }> =>
  event._tag === "Deleted" || event._tag === "Evicted"

describe("logins of two nodes", () => {
  for (const onSessionLimit of ["evictOldest", "reject"] as const) {
    test(
      `among everything else, with a limit that is "${onSessionLimit}"`,
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const { name, url } = yield* ownDatabase
        const options = {
          url,
          maxSessionsPerUser: limit,
          onSessionLimit,
          maxConnections: 8,
          cleanupInterval: "7 days"
        } as const
        const nodes = [yield* build(PgSession.layer(options)), yield* build(PgSession.layer(options))] as const
        const look = Context.get(yield* Layer.build(PgClient.layer({ url, maxConnections: 2 })), PgClient.PgClient)

        const ended: Array<SessionKey> = []
        for (const { events } of nodes) {
          yield* Effect.forkScoped(
            Stream.runForEach(events, (event) => Effect.sync(() => void (isEnd(event) && ended.push(event.key)))),
            { startImmediately: true }
          )
        }
        const begun = new Set<SessionKey>()
        const known: Array<Session> = []
        let refused = 0
        let most = 0
        let looks = 0
        const remember = (session: Session) => {
          begun.add(session.key)
          known[known.length % 30] = session
        }
        const counting = yield* Effect.forkChild(
          Effect.forever(
            Effect.map(
              look<{ readonly most: number }>`select coalesce(max(n), 0)::int as most from (
                select count(*) as n from sessions where user_id is not null group by user_id) c`,
              ([row]) => {
                looks++
                most = Math.max(most, row?.most ?? Infinity)
              }
            )
          )
        )

        const login = (node: Node, random: (below: number) => number) =>
          node.create(users[random(users.length)] ?? users[0] ?? assert.fail(), {
            attributes: [SessionAttribute.value(Note, "a")]
          })
        const step = (node: Node, random: (below: number) => number): Effect.Effect<unknown, unknown> => {
          const session = known[random(known.length)]
          const userId = users[random(users.length)] ?? assert.fail()
          switch (session === undefined ? 0 : random(12)) {
            case 6:
              return Effect.flatMap(node.createAnonymous(), (guest) =>
                Effect.andThen(
                  Effect.sync(() => remember(guest)),
                  Effect.map(node.rotate(guest.id, { userId }), remember)
                )
              )
            case 7:
            case 8:
              return node.modify(session?.id ?? assert.fail(), Session.set(Count, random(1_000)), { check: "none" })
            case 9:
              return random(3) > 0
                ? node.deleteByKey(session?.key ?? assert.fail())
                : node.deleteAllForUser(userId, { except: session?.key })
            case 10:
              return node.deleteAttributeForUser(userId, Note)
            case 11:
              return Effect.map(node.rotate(session?.id ?? assert.fail(), { userId }), remember)
            default:
              return Effect.map(
                Effect.all(
                  times(3).map(() => login(node, random)),
                  { concurrency: "unbounded", mode: "result" }
                ),
                (results) => {
                  for (const result of results) {
                    if (result._tag === "Success") remember(result.success)
                    else if (result.failure._tag === "TooManySessions") refused++
                    else assert.fail(result.failure.message)
                  }
                }
              )
          }
        }
        yield* Effect.forEach(
          nodes,
          (node, n) =>
            Effect.forEach(
              times(10),
              (fiber) => {
                const random = randomFrom(n * 100 + fiber)
                return Effect.repeat(
                  Effect.flatMap(Effect.exit(Effect.suspend(() => step(node, random))), (exit) =>
                    // Sessions that ended meanwhile are not found; that nobody could be reached would be an error.
                    Exit.isFailure(exit) && String(exit.cause).includes("Unavailable")
                      ? Effect.die(exit.cause)
                      : Effect.void
                  ),
                  { times: 60 }
                )
              },
              { concurrency: "unbounded" }
            ),
          { concurrency: "unbounded" }
        )
        yield* Fiber.interrupt(counting)

        assert.strictEqual(most, limit)
        assert.isAbove(looks, 20)
        assert.strictEqual(refused > 0, onSessionLimit === "reject")
        const rows = yield* look<{ readonly key: SessionKey }>`select key from sessions`
        const left = new Set(begun)
        for (const key of ended) assert.isTrue(left.delete(key), "each end is reported once")
        assert.deepStrictEqual(rows.map(({ key }) => key).toSorted(), [...left].toSorted())
        assert.isAbove(begun.size, 100)

        // The counter is complete once the connections that count have ended.
        for (const { close } of nodes) yield* close
        const [database] = yield* sql<{ readonly deadlocks: number }>`
          select deadlocks::int as deadlocks from pg_stat_database where datname = ${name}`
        assert.strictEqual(database?.deadlocks, 0)
      }),
      120_000
    )
  }
})
