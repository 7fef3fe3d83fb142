/**
 * G10: forged, malformed and oversized ids are rejected without touching the
 * database; forged notices cost a cache entry at most; every structure in memory
 * has a bound.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { Operation } from "../../src/internal/memory/MemoryFaults.ts"
import { Session } from "../../src/Session.ts"
import { SessionAttribute } from "../../src/SessionAttribute.ts"
import { AttributeTooLarge, type SessionStoreUnavailable } from "../../src/SessionError.ts"
import { generate, GroupId, type SessionId, SessionKey, UserId } from "../../src/SessionId.ts"
import type { Notice } from "../../src/SessionNotifier.ts"
import {
  alice,
  begin,
  type Cluster,
  Color,
  createNoted,
  makeCluster,
  Note,
  noteOn,
  pass,
  quiet,
  settle
} from "../support/Coherence.ts"
import { cutOut, reachable } from "../support/Heap.ts"

const operations: ReadonlyArray<Operation> = [
  "load",
  "create",
  "write",
  "touch",
  "rotate",
  "delete",
  "deleteAttribute",
  "list",
  "revalidate",
  "announceClear"
]

/** All statements so far, without those that a node sends by itself. */
const statementsOf = (cluster: Cluster) =>
  Effect.map(
    Effect.forEach(operations, (operation) => cluster.statements(operation)),
    (counts) => counts.reduce((sum, count) => sum + count, 0)
  )

/** What a program in JavaScript, or one that skips the parser, could present. */
const asId = (text: string): SessionId => Redacted.make(text, { label: "SessionId" }) as SessionId

const madeUp = (count: number): ReadonlyArray<SessionId> => Array.from({ length: count }, () => generate())

const malformed: ReadonlyArray<string> = [
  "",
  "\u0000",
  "x",
  "A".repeat(64),
  "A".repeat(66),
  "A".repeat(10_000_000),
  `${"A".repeat(64)}\u0000`,
  `${"A".repeat(64)}é`,
  `${"A".repeat(64)}=`,
  `${"A".repeat(64)}\n`,
  `${"A".repeat(21)}'${"A".repeat(43)}`,
  "'; drop table sessions; --".padEnd(65, " "),
  "\ud800".repeat(65),
  "__proto__".padEnd(65, "A").replace(/.$/, "B"),
  `{"a":1}`.padEnd(65, "A")
]

describe("ids", () => {
  it.effect("malformed ones never reach the database, whatever is done with them", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const before = yield* statementsOf(cluster)
      for (const text of malformed) {
        const id = asId(text)
        for (const options of [undefined, {}, { refresh: true }, { minVersion: 1n }, { touch: false }]) {
          assert.isTrue(Option.isNone(yield* a.find(id, options)))
          assert.strictEqual((yield* Effect.flip(a.get(id, options)))._tag, "SessionNotFound")
        }
        assert.strictEqual((yield* Effect.flip(a.modify(id, Session.set(Note, "x"))))._tag, "SessionNotFound")
        assert.strictEqual((yield* Effect.flip(a.rotate(id)))._tag, "SessionNotFound")
        yield* a.delete(id)
        assert.lengthOf(yield* Stream.runCollect(a.watch(id)), 0)
      }
      assert.strictEqual(yield* statementsOf(cluster), before)
      const { cache } = yield* a.health
      assert.deepStrictEqual([cache.size, cache.absent], [0, 0])
      const error = yield* Effect.flip(a.get(asId("hunter2".padEnd(65, "A").replace(/.$/, "B"))))
      assert.notInclude(`${String(error)} ${JSON.stringify(error)}`, "hunter2")
    })
  )

  it.effect("a made-up one costs one statement, however often it is presented; then two seconds of nothing", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const id = generate()
      const cost = yield* cluster.cost(
        "load",
        "a",
        Effect.forEach(Array.from({ length: 1_000 }), () => a.find(id), { concurrency: "unbounded" })
      )
      assert.strictEqual(cost, 1)
      assert.strictEqual(yield* cluster.cost("load", "a", Effect.repeat(a.find(id), { times: 1_000 })), 0)
      yield* pass(1_900)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id)), 0)
      yield* pass(200)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id)), 1)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id, { refresh: true })), 1)
    })
  )

  it.effect("many made-up ones share statements, are forgotten, and evict no session", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ cacheCapacity: 10 })
      const a = yield* cluster.node("a")
      const { id } = yield* createNoted(a)
      const cost = yield* cluster.cost(
        "load",
        "a",
        Effect.forEach(madeUp(15_000), (each) => a.find(each), { concurrency: "unbounded" })
      )
      assert.isAtMost(cost, 60)
      const { cache } = yield* a.health
      assert.isAtMost(cache.absent, 10_000)
      assert.isAtLeast(cache.absent, 5_000)
      assert.strictEqual(cache.evicted, 0)
      assert.strictEqual(yield* cluster.cost("load", "a", a.find(id)), 0)
      assert.lengthOf(yield* cluster.controls.rows, 1)
    })
  )

  it.effect("made-up ones that were cut out of long headers keep nothing else of those in memory", () =>
    Effect.gen(function* () {
      const a = yield* (yield* makeCluster()).node("a")
      const ids = madeUp(1_000).map(Redacted.value)
      const before = reachable()
      yield* Effect.forEach(ids, (id, n) => a.find(asId(cutOut(id, n))), { concurrency: 100 })
      assert.strictEqual((yield* a.health).cache.absent, 1_000)
      assert.isBelow(reachable() - before, 5_000_000, "20 MB of headers")
    })
  )

  it.effect("guesses at the secret of a known key find nothing and change nothing", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const { id, key } = yield* createNoted(a)
      const [before] = yield* cluster.controls.rows
      const guesses = Array.from({ length: 500 }, () => generate(key))
      for (const guess of guesses) {
        assert.isTrue(Option.isNone(yield* a.find(guess)))
        assert.strictEqual((yield* Effect.flip(a.rotate(guess)))._tag, "SessionNotFound")
        yield* a.delete(guess)
      }
      assert.deepStrictEqual((yield* cluster.controls.rows)[0], before)
      assert.strictEqual(yield* noteOn(a, id), "old")
      assert.isAtMost((yield* a.health).cache.absent, 1)
      // Together they share statements.
      const cost = yield* cluster.cost(
        "load",
        "a",
        Effect.forEach(guesses, (guess) => a.find(guess), { concurrency: "unbounded" })
      )
      assert.isAtMost(cost, 10)
    })
  )
})

describe("forged notices", () => {
  it.effect("10 000 of them: no crash, no wrong read, memory is used again", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxSessionsPerUser: 100 })
      const a = yield* cluster.node("a")
      const sessions = yield* Effect.forEach(Array.from({ length: 20 }), (_, n) => createNoted(a, `note ${n}`))
      const keys = [
        ...sessions.map(({ key }) => key),
        ...madeUp(20).map((id) => SessionKey.make(Redacted.value(id).slice(0, 22)))
      ]
      const kinds = ["Updated", "Rotated", "Deleted", "Expired", "Evicted"] as const
      const forgeries = (n: number): Notice => {
        const key = keys[n % keys.length] ?? SessionKey.make("AAAAAAAAAAAAAAAAAAAAAA")
        switch (n % 7) {
          case 0:
            return { _tag: "Changes", changes: [{ key, kind: kinds[n % 5] ?? "Updated", version: undefined }] }
          case 1:
            return { _tag: "Changes", changes: [{ key, kind: "Updated", version: 2n ** 63n - 1n }] }
          case 2:
            return {
              _tag: "Changes",
              changes: keys.map((each) => ({ key: each, kind: "Updated", version: BigInt(n % 3) }))
            }
          case 3:
            return { _tag: "User", userId: n % 2 === 0 ? alice : UserId.make(`nobody ${n}`) }
          case 4:
            return { _tag: "Group", groupId: GroupId.make(`group ${n}`) }
          case 5:
            return { _tag: "Beat", nonce: `nonce ${n}` }
          default:
            return n % 2 === 0 ? { _tag: "All" } : { _tag: "Unreadable" }
        }
      }
      for (let n = 0; n < 10_000; n++) {
        yield* cluster.controls.forge(forgeries(n))
        if (n % 100 !== 0) continue
        yield* settle
        const session = sessions[(n / 100) % sessions.length] ?? assert.fail()
        assert.strictEqual(yield* noteOn(a, session.id), `note ${(n / 100) % sessions.length}`)
      }
      yield* settle
      yield* pass("2 seconds")
      const health = yield* a.health
      assert.isTrue(health.synced)
      assert.strictEqual(health.listener.reconnects, 0)
      for (const { id } of sessions) yield* a.get(id)
      assert.strictEqual(
        yield* cluster.cost(
          "load",
          "a",
          Effect.forEach(sessions, ({ id }) => a.get(id))
        ),
        0
      )
      assert.lengthOf(yield* cluster.controls.rows, 20)
    })
  )

  it.effect("a beat with a made-up or used nonce proves nothing", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster()
      const a = yield* cluster.node("a")
      const { id } = yield* createNoted(a)
      const seen: Array<string> = []
      const link = cluster.database.listen("thief")
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.map(link.take, (notices) => {
            for (const notice of notices) if (notice._tag === "Beat") seen.push(notice.nonce)
          })
        )
      )
      yield* pass("3 seconds")
      assert.isAbove(seen.length, 2)
      // From now on no beat of its own reaches the database, but what is forged reaches the node.
      yield* cluster.controls.failNext("beat", { node: "a", times: 1_000 })
      const used = seen.slice()
      for (let n = 0; n < 30; n++) {
        for (const nonce of [...used, `guess ${n}`]) yield* cluster.controls.forge({ _tag: "Beat", nonce })
        yield* pass(200)
      }
      assert.isFalse((yield* a.health).synced)
      assert.strictEqual(yield* cluster.cost("load", "a", a.get(id, quiet)), 1, "memory must not be served")
    })
  )

  it.effect("more than a connection can hold: it is given up, and what was missed is looked for", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({}, { bufferCapacity: 100 })
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const { id } = yield* createNoted(a)
      assert.strictEqual(yield* noteOn(b, id), "old")
      yield* cluster.controls.hold("b")
      yield* a.modify(id, Session.set(Note, "new"))
      for (let n = 0; n < 200; n++) yield* cluster.controls.forge({ _tag: "Unreadable" })
      yield* cluster.controls.release("b")
      yield* settle
      assert.strictEqual(yield* noteOn(b, id), "new")
      yield* pass("2 seconds")
      const { listener, synced } = yield* b.health
      assert.isTrue(synced)
      assert.isAtLeast(listener.reconnects, 1)
    })
  )
})

describe("bounds", () => {
  const overloads = (results: ReadonlyArray<Result.Result<unknown, { readonly _tag: string }>>) =>
    results.filter(
      (result): result is Result.Failure<unknown, SessionStoreUnavailable> =>
        Result.isFailure(result) && result.failure._tag === "SessionStoreUnavailable"
    )

  it.effect("reads that wait for a silent database: the rest is refused at once, and all are answered in the end", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster()
      const a = yield* node("a")
      yield* controls.reach("Hanging")
      const results: Array<Result.Result<unknown, SessionStoreUnavailable>> = []
      const all = yield* begin(
        Effect.forEach(
          madeUp(25_000),
          (id) => Effect.map(Effect.result(a.find(id)), (result) => results.push(result)),
          { concurrency: "unbounded", discard: true }
        )
      )
      const refused = overloads(results)
      assert.isAtLeast(refused.length, 2_500)
      assert.strictEqual(refused.length, results.length)
      for (const { failure } of refused) assert.deepInclude(failure, { reason: "Overloaded", outcome: "NotApplied" })
      yield* controls.reach("Up")
      yield* Fiber.join(all)
      assert.strictEqual(results.filter(Result.isSuccess).length, 25_000 - refused.length)
    })
  )

  it.effect("updates that wait: the same", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster({ maxSessionsPerUser: 10_000 })
      const a = yield* node("a")
      const session = yield* createNoted(a)
      yield* controls.reach("Hanging")
      const results: Array<Result.Result<unknown, { readonly _tag: string }>> = []
      const change = Session.set(session, Note, "new")
      const all = yield* begin(
        Effect.forEach(
          Array.from({ length: 21_000 }),
          () => Effect.map(Effect.result(a.update(change)), (result) => results.push(result)),
          { concurrency: "unbounded", discard: true }
        )
      )
      assert.isAtLeast(results.length, 900)
      assert.isAtMost((yield* a.health).pendingUpdates, 20_000)
      for (const { failure } of overloads(results)) {
        assert.deepInclude(failure, { reason: "Overloaded", outcome: "NotApplied" })
      }
      yield* Fiber.interrupt(all)
      assert.strictEqual((yield* a.health).pendingUpdates, 0)
      yield* controls.reach("Up")
    })
  )

  it.effect("uses that wait to be written, of more sessions than memory holds", () =>
    Effect.gen(function* () {
      const { controls, node, statements } = yield* makeCluster({
        cacheCapacity: 10,
        lastAccessFlushBatchSize: 50,
        maxSessionsPerUser: 10_000
      })
      const a = yield* node("a")
      const sessions = yield* Effect.forEach(Array.from({ length: 1_000 }), () => createNoted(a))
      for (const { id } of sessions) {
        yield* a.get(id)
        assert.isAtMost((yield* a.health).activity.pending, 200)
      }
      yield* settle
      assert.isAtMost(yield* statements("touch"), 100)
      // Where they cannot be written, whoever would add one learns it.
      yield* controls.failNext("touch", { times: 1_000_000 })
      const results = yield* Effect.forEach(sessions, ({ id }) => Effect.result(a.get(id)))
      assert.isAtMost((yield* a.health).activity.pending, 200)
      assert.isAbove(overloads(results).length, 500)
      // Those who do not count as activity are not concerned.
      for (const { id } of sessions.slice(0, 20)) yield* a.get(id, quiet)
    })
  )

  it.effect("sessions in memory, and those who follow one", () =>
    Effect.gen(function* () {
      const { node } = yield* makeCluster({ cacheCapacity: 7, maxSessionsPerUser: 10_000 })
      const a = yield* node("a")
      const sessions = yield* Effect.forEach(Array.from({ length: 100 }), () => createNoted(a))
      for (const { id } of sessions) yield* a.get(id)
      const { cache } = yield* a.health
      assert.strictEqual(cache.size, 7)
      assert.strictEqual(cache.evicted, 193)

      const { id, key } = sessions[0] ?? assert.fail()
      const unregister = Array.from({ length: 100_000 }, () => a.cache.watchers.add(key, () => {}))
      const error = yield* Effect.flip(Stream.runDrain(a.watch(id)))
      assert.deepInclude(error, { reason: "Overloaded", outcome: "NotApplied" })
      for (const each of unregister) each()
      assert.strictEqual((yield* a.health).watched, 0)
      assert.lengthOf(yield* Stream.runCollect(Stream.take(a.watch(id), 1)), 1)
    })
  )
})

describe("sizes", () => {
  const large = "x".repeat(100)
  const value = (text: string) => SessionAttribute.value(Note, text)

  it.effect("of an attribute are limited, at the beginning, at a rotation and in every change; nothing is sent", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxAttributeBytes: 101 })
      const a = yield* cluster.node("a")
      // The quotes count, and so does every byte of a character.
      const session = yield* a.create(alice, { attributes: [value("x".repeat(99))] })
      const before = yield* statementsOf(cluster)
      const attempts: ReadonlyArray<Effect.Effect<Session, unknown>> = [
        a.create(alice, { attributes: [value(large)] }),
        a.createAnonymous({ attributes: [value(large)] }),
        a.rotate(session.id, { attributes: [value(large)] }),
        a.update(Session.set(session, Note, large)),
        a.update(Session.set(session, Note, "é".repeat(50)), { check: "none" })
      ]
      for (const attempt of attempts) {
        const error = yield* Effect.flip(attempt)
        assert(error instanceof AttributeTooLarge)
        assert.deepInclude(error, { attribute: "note", bytes: 102, limit: 101 })
      }
      assert.strictEqual(yield* statementsOf(cluster), before)
    })
  )

  it.effect("of a session are limited: names and values of all its attributes", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxAttributeBytes: 110, maxSessionBytes: 120 })
      const a = yield* cluster.node("a")
      const other = SessionAttribute.value(Color, "x".repeat(20))
      const both = [value(large), other]
      assert.strictEqual((yield* Effect.flip(a.create(alice, { attributes: both })))._tag, "SessionTooLarge")
      const session = yield* a.create(alice, { attributes: [value(large)] })
      assert.strictEqual((yield* Effect.flip(a.rotate(session.id, { attributes: [other] })))._tag, "SessionTooLarge")
      const update = a.update(Session.set(session, Color, "x".repeat(20)))
      assert.strictEqual((yield* Effect.flip(update))._tag, "SessionTooLarge")
      assert.strictEqual(yield* noteOn(a, session.id), large)
    })
  )
})
