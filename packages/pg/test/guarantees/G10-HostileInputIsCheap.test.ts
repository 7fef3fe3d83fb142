/**
 * G10 on PostgreSQL: what is malformed never becomes SQL; forged notifications
 * cost a cache entry at most; memory stays bounded; a silent server makes callers
 * fail, not the heap grow.
 */
import { Session, SessionAttribute, SessionId, type SessionStoreUnavailable, UserId } from "@effect-pg-session/core"
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { PgSession } from "../../src/PgSession.ts"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import { eventually } from "../support/Faults.ts"
import { alice, build, elapsed, lookAround, node, Note, proxyTo, quiet, test } from "../support/Nodes.ts"
import * as Observed from "../support/Observed.ts"
import { databaseUrl } from "../support/TestDatabase.ts"

const madeUp = (): SessionId => {
  // 16 and 32 bytes, so that the spelling is canonical.
  const token = randomBytes(16).toString("base64url") + randomBytes(32).toString("base64url")
  return Option.getOrThrow(SessionId.fromString(token))
}

const asId = (text: string): SessionId => Redacted.make(text, { label: "SessionId" }) as SessionId

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

/** What is in use after everything that can be collected was. */
const heapUsed = Effect.promise(async () => {
  setFlagsFromString("--expose_gc")
  const collect: unknown = runInNewContext("gc")
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setImmediate(resolve))
    if (typeof collect === "function") Reflect.apply(collect, undefined, [])
  }
  return process.memoryUsage().heapUsed
})

const megabyte = 1_048_576

describe("ids", () => {
  test(
    "malformed, oversized, empty and with NUL: not one statement",
    Effect.gen(function* () {
      const observed = Observed.make()
      const a = yield* observed.observe(node({ maxStaleness: "10 minutes" }))
      const hostile = [
        "",
        "\u0000",
        "a\u0000b",
        "A".repeat(64),
        "A".repeat(66),
        "A".repeat(5_000_000),
        "\u0000".repeat(65),
        `${"A".repeat(64)}\u0000`,
        "'; drop table sessions; --".padEnd(65),
        "\ud800".repeat(65),
        "é".repeat(65),
        `${"A".repeat(64)}B`
      ]
      yield* Effect.sleep(50)
      observed.statements()
      yield* observed.observe(
        Effect.gen(function* () {
          for (const text of hostile) {
            const id = asId(text)
            for (const options of [undefined, quiet, { refresh: true }, { minVersion: 5n }]) {
              assert.isTrue(Option.isNone(yield* a.find(id, options)))
            }
            assert.strictEqual((yield* Effect.flip(a.rotate(id)))._tag, "SessionNotFound")
            assert.strictEqual((yield* Effect.flip(a.modify(id, Session.set(Note, "x"))))._tag, "SessionNotFound")
            yield* a.delete(id)
            assert.lengthOf(yield* Stream.runCollect(a.watch(id)), 0)
          }
        })
      )
      assert.strictEqual(observed.statements(), 0)
      // The counter counts.
      yield* a.find(madeUp())
      assert.isAtLeast(observed.statements(), 1)
    })
  )

  test(
    "made up: few statements for many, remembered briefly, no rows, no growth",
    Effect.gen(function* () {
      const observed = Observed.make()
      const { number } = yield* lookAround
      const a = yield* observed.observe(node({ cacheCapacity: 100, maxStaleness: "10 minutes" }))
      const { id } = yield* a.create(alice)
      const flood = Effect.forEach(times(15_000), () => a.find(madeUp()), { concurrency: "unbounded", discard: true })
      yield* Effect.sleep(50)
      yield* flood
      observed.statements()
      const before = yield* heapUsed
      yield* flood
      assert.isAtMost(observed.statements(), 60)
      yield* flood
      assert.isBelow((yield* heapUsed) - before, 8 * megabyte)
      const { cache } = yield* a.health
      assert.isAtMost(cache.absent, 10_000)
      assert.strictEqual(cache.evicted, 0)
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), 1)
      const one = madeUp()
      yield* a.find(one)
      observed.statements()
      yield* Effect.repeat(a.find(one), { times: 500 })
      yield* a.get(id)
      assert.strictEqual(observed.statements(), 0)
    })
  )

  test(
    "names and values that mean something to SQL are just text",
    Effect.gen(function* () {
      const { number } = yield* lookAround
      const a = yield* node({ maxSessionsPerUser: 100 })
      const texts = [
        "'; drop table sessions; --",
        "\\",
        "\\'",
        '{"a",b}',
        "null",
        "$1",
        "%s",
        "a;b",
        "\u{1F600}",
        "x".repeat(255),
        "\u0001\u001f\u007f"
      ]
      for (const text of texts) {
        const user = UserId.make(text)
        const attribute = SessionAttribute.make(text, Schema.String)
        const session = yield* a.create(user, {
          attributes: [SessionAttribute.value(attribute, `${text}\u0000\ud800`)]
        })
        const found = yield* a.get(session.id, { refresh: true })
        assert.deepStrictEqual(found.userId, Option.some(user))
        assert.strictEqual(yield* Session.get(found, attribute), `${text}\u0000\ud800`)
        const changed = yield* a.update(Session.set(found, attribute, text))
        assert.strictEqual(yield* Session.get(changed, attribute), text)
        assert.strictEqual(yield* a.deleteAttributeForUser(user, attribute), 1)
        assert.lengthOf(yield* a.listForUser(user), 1)
      }
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), texts.length)
      for (const text of texts) assert.strictEqual(yield* a.deleteAllForUser(UserId.make(text)), 1)
    })
  )
})

describe("forged notifications", () => {
  test(
    "10 000 of them: no crash, no reconnect, no wrong read, no growth; then memory is used again",
    Effect.gen(function* () {
      const { names, number, sql } = yield* lookAround
      const a = yield* node({ maxSessionsPerUser: 100 })
      const sessions = yield* Effect.forEach(times(20), (n) =>
        a.create(alice, { attributes: [SessionAttribute.value(Note, `note ${n}`)] })
      )
      const keys = sessions.map(({ key }) => key)
      const payloads = times(10_000).map((n) => {
        const key = keys[n % keys.length] ?? ""
        const forgeries = [
          `1CU${key}9223372036854775807`,
          `1CU${key}1`,
          `1CD${key}-`,
          `1CX${key}-;1CU${key}2`,
          `1CR${key}99999999999999999999`,
          `1CU${key}0`,
          `1CU${key}-1`,
          "1A",
          "1Ualice",
          `1Unobody${n}`,
          "1G",
          "1U",
          "1B",
          `1B${randomBytes(9).toString("base64url")}`,
          "1B\n",
          "1",
          "2A",
          "",
          " ",
          "\u{1F600}".repeat(500),
          "x".repeat(7_999),
          `1C${`U${key}2;`.repeat(170)}`,
          randomBytes(3_000).toString("base64url"),
          "1C",
          "1C;;;",
          "{}",
          "null",
          `1cU${key}1`
        ]
        return forgeries[n % forgeries.length] ?? ""
      })
      const before = yield* heapUsed
      const reading = yield* Effect.forkChild(
        Effect.forever(
          Effect.forEach(sessions, ({ id }, n) =>
            Effect.map(Effect.flatMap(a.get(id), Session.get(Note)), (note) => assert.strictEqual(note, `note ${n}`))
          )
        )
      )
      for (let start = 0; start < payloads.length; start += 500) {
        yield* sql.unsafe("select count(pg_notify($1, p)) from jsonb_array_elements_text($2::text::jsonb) p", [
          names.channel,
          JSON.stringify(payloads.slice(start, start + 500))
        ])
      }
      yield* eventually(
        Effect.gen(function* () {
          const health = yield* a.health
          const sent = health.listener.beatsSent
          return health.synced && health.listener.beatsReturned >= sent - 1
        })
      )
      assert.isUndefined(reading.pollUnsafe(), "no read was wrong")
      yield* Fiber.interrupt(reading)
      const { listener, synced } = yield* a.health
      assert.isTrue(synced)
      assert.strictEqual(listener.reconnects, 0)
      assert.isBelow((yield* heapUsed) - before, 8 * megabyte)
      assert.strictEqual(yield* number("select count(*)::int from @sessions"), 20)
      yield* eventually(
        Effect.gen(function* () {
          yield* Effect.forEach(sessions, ({ id }) => a.get(id))
          const { misses } = (yield* a.health).cache
          yield* Effect.forEach(sessions, ({ id }) => a.get(id))
          return (yield* a.health).cache.misses === misses
        })
      )
    })
  )
})

describe("a server that does not answer", () => {
  test(
    "what cannot wait is refused at once, what waits is refused in time, and the heap is as before",
    Effect.gen(function* () {
      const proxy = yield* proxyTo()
      const a = yield* node({ url: proxy.url(databaseUrl), statementTimeout: "500 millis", maxStaleness: "10 minutes" })
      const session = yield* a.create(alice)
      const before = yield* heapUsed
      yield* proxy.pause
      const reasons = new Map<string, number>()
      const count = (result: Result.Result<unknown, SessionStoreUnavailable>) => {
        const reason = Result.isFailure(result) ? `${result.failure.reason} ${result.failure.outcome}` : "Success"
        reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
      }
      const [, millis] = yield* elapsed(
        Effect.forEach(times(30_000), () => Effect.map(Effect.result(a.find(madeUp())), count), {
          concurrency: "unbounded",
          discard: true
        })
      )
      const { "Overloaded NotApplied": overloaded = 0, "Timeout NotApplied": late = 0 } = Object.fromEntries(reasons)
      assert.strictEqual(overloaded + late, 30_000)
      assert.isAtLeast(overloaded, 7_500)
      assert.isBelow(millis, 20_000)
      yield* Effect.forEach(
        times(25_000),
        () => Effect.ignore(Effect.timeout(a.update(Session.set(session, Note, "x"), { check: "none" }), "100 millis")),
        { concurrency: "unbounded", discard: true }
      )
      assert.strictEqual((yield* a.health).pendingUpdates, 0, "whoever went away took the request back")
      yield* proxy.resume
      yield* eventually(Effect.map(Effect.result(a.get(session.id, { refresh: true })), Result.isSuccess))
      assert.isBelow((yield* heapUsed) - before, 20 * megabyte)
    }),
    60_000
  )
})

describe("a listener of somebody else's that stays in a transaction", () => {
  it.live(
    "fills PostgreSQL's queue: updates are refused and not applied, and go on by themselves when it is gone",
    () =>
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make({ settings: { max_notify_queue_pages: "64" } })
        const a = yield* build(PgSession.layer({ url, maxStaleness: "500 millis" }))
        const session = yield* a.create(alice)
        const filling = yield* PgConnection.make({ url })
        const fill = filling.query("select pg_notify('other', repeat('x', 7000) || random())")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const idle = yield* PgConnection.make({ url })
            for (const statement of ["listen other", "begin", "select 1"]) yield* idle.query(statement)
            yield* Effect.flip(Effect.forever(fill))
            const refused = yield* Effect.flip(a.update(Session.set(session, Note, "refused")))
            assert.deepInclude(refused, {
              _tag: "SessionStoreUnavailable",
              reason: "DatabaseError",
              outcome: "NotApplied"
            })
            yield* eventually(Effect.map(a.health, ({ synced }) => !synced))
            assert.strictEqual(yield* Session.get(yield* a.get(session.id), Note), "")
          })
        )
        yield* eventually(Effect.map(a.health, ({ synced }) => synced))
        const saved = yield* a.update(Session.set(session, Note, "saved"))
        assert.strictEqual(saved.version, 2n)
      })
  )
})
