/**
 * G8: while a lease runs nobody else has the lock, tokens grow in the order of the
 * grants, a late holder's write is refused by the database, and a holder that loses
 * its lease is told. Here: several nodes and processes on a real PostgreSQL, with
 * processes that are stopped, a server that is killed, and a network that goes silent.
 */
import { Session, SessionNotFound } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { PgSession } from "../../src/PgSession.ts"
import type { PgSessionOptions } from "../../src/PgSessionConfig.ts"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import { child, environment } from "../support/Child.ts"
import { eventually } from "../support/Faults.ts"
import { alice, build, elapsed, lookAround, type Node, node, Note, proxyTo, test } from "../support/Nodes.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)
const unbounded = { concurrency: "unbounded" } as const

const parts = (node: Node) => ({ sessions: node, locks: node.locks, close: node.close })

/** A node with a name. */
const lockNode = (nodeName: string, options: PgSessionOptions = {}) => Effect.map(node({ nodeName, ...options }), parts)

const buildLockNode = (layer: ReturnType<typeof PgSession.layer>) => Effect.map(build(layer), parts)

/** Held by a fiber of its own until that is told to stop. */
const holding = Effect.fnUntraced(function* (
  locks: Node["locks"],
  resource: string,
  options: { readonly leaseTime?: Duration.Input; readonly heartbeatInterval?: Duration.Input } = {}
) {
  const acquired = yield* Deferred.make<bigint>()
  const stop = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(
    Effect.result(
      locks.withLock(
        resource,
        (lease) => Effect.andThen(Deferred.succeed(acquired, lease.token), Deferred.await(stop)),
        options
      )
    )
  )
  return {
    token: yield* Deferred.await(acquired),
    stop: Effect.andThen(Deferred.succeed(stop, undefined), Fiber.join(fiber)),
    outcome: Fiber.join(fiber)
  }
})

describe("mutual exclusion", () => {
  test(
    "a counter that only the lock guards ends exact: three nodes in this process, two in processes of their own",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const { query, sql } = yield* lookAround
      const counter = `${schema}.counter`
      yield* sql`create table ${sql(counter)} (value int not null)`
      yield* sql`insert into ${sql(counter)} values (0)`
      const nodes = yield* Effect.forEach(["a", "b", "c"], (name) => lockNode(name))
      const env = { ...environment(url, schema), COUNTER: counter }
      const processes = yield* Effect.all([child(env, "lockProcess"), child(env, "lockProcess")])
      for (const { answer } of processes) yield* answer
      const tokens: Array<bigint> = []
      const increment = Effect.gen(function* () {
        const [row] = yield* sql<{ readonly value: number }>`select value from ${sql(counter)}`
        yield* sql`update ${sql(counter)} set value = ${(row?.value ?? 0) + 1}`
      })
      const contender = (index: number) =>
        Effect.gen(function* () {
          const { locks } = nodes[index % nodes.length] ?? assert.fail()
          for (let round = 0; round < 10; round++) {
            yield* locks.withLock(
              "counter",
              ({ token }) => {
                tokens.push(token)
                return increment
              },
              { wait: "forever", leaseTime: "10 seconds" }
            )
          }
        })
      yield* Effect.all([...times(15).map(contender), ...processes.map(({ ask }) => ask("count 50"))], unbounded)
      const [row] = yield* query(`select value from ${counter}`)
      assert.strictEqual(row?.[0], 15 * 10 + 2 * 50)
      assert.deepStrictEqual(
        tokens,
        tokens.toSorted((left, right) => (left < right ? -1 : 1))
      )
      for (const { locks } of nodes) assert.deepStrictEqual(yield* locks.health, { held: 0, waiting: 0 })
    }),
    60_000
  )

  test(
    "of five permits never more than five are held, and all are used",
    Effect.gen(function* () {
      const nodes = yield* Effect.forEach(["a", "b"], (name) => lockNode(name))
      let running = 0
      let most = 0
      const full = yield* Deferred.make<void>()
      const work = Effect.gen(function* () {
        running++
        most = Math.max(most, running)
        if (running === 5) yield* Deferred.succeed(full, undefined)
        yield* Deferred.await(full)
        yield* Effect.yieldNow
        running--
      })
      yield* Effect.forEach(
        times(100),
        (index) =>
          (nodes[index % 2] ?? assert.fail()).locks.withLock("workers", () => work, { wait: "forever", permits: 5 }),
        unbounded
      )
      assert.strictEqual(most, 5)
    }),
    30_000
  )

  test(
    "1 000 hand-overs among three nodes: in order of arrival on each, and each is served in its turn",
    Effect.gen(function* () {
      const nodes = yield* Effect.forEach(["a", "b", "c"], (name) => lockNode(name))
      const order: Array<readonly [node: number, number: number]> = []
      const gate = yield* holding((nodes[0] ?? assert.fail()).locks, "queue")
      const waiters = yield* Effect.forEach(times(1_000), (index) => {
        const node = index % 3
        const record = Effect.sync(() => void order.push([node, index]))
        return Effect.forkChild(
          (nodes[node] ?? assert.fail()).locks.withLock("queue", () => record, { wait: "forever" }),
          {
            startImmediately: true
          }
        )
      })
      yield* gate.stop
      for (const fiber of waiters) yield* Fiber.join(fiber)
      for (const node of [0, 1, 2]) {
        const served = order.filter(([other]) => other === node).map(([, number]) => number)
        assert.deepStrictEqual(
          served,
          times(1_000).filter((index) => index % 3 === node)
        )
        // Nobody starves: turns go round, unless a node was so late that its turn had ended.
        const positions = order.flatMap(([other], position) => (other === node ? [position] : []))
        const gaps = positions.slice(1).map((position, index) => position - (positions[index] ?? 0))
        const last = order.findLastIndex(([other]) => other !== node)
        const contended = gaps.filter((_, index) => (positions[index + 1] ?? 0) < last)
        assert.isAtMost(Math.max(...contended), 10, `node ${node}`)
      }
    }),
    60_000
  )
})

describe("a holder that is late", () => {
  test(
    "a process that was stopped past its lease: its late write is refused, and its work ends with LockLost",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const { locks, sessions } = yield* lockNode("a")
      const session = yield* sessions.create(alice)
      const holder = yield* child(environment(url, schema), "lockProcess")
      yield* holder.answer
      yield* holder.ask(`hold ${Redacted.value(session.id)}`)
      yield* holder.signal("SIGSTOP")
      yield* locks.withLock(
        "held",
        (lease) => sessions.modify(session.id, Session.set(Note, "successor"), { fence: lease }),
        { wait: "10 seconds" }
      )
      yield* holder.send("write")
      yield* holder.signal("SIGCONT")
      assert.deepStrictEqual(yield* holder.answer, { late: "Fenced", ended: "LockLost" })
      const now = yield* sessions.get(session.id, { refresh: true })
      assert.strictEqual(yield* Session.get(now, Note), "successor")
    }),
    30_000
  )

  test(
    "a process that was killed: its lock is had when its lease ends, and not before",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const { query } = yield* lookAround
      const { locks, sessions } = yield* lockNode("a")
      const session = yield* sessions.create(alice)
      const holder = yield* child(environment(url, schema), "lockProcess")
      yield* holder.answer
      yield* holder.ask(`hold ${Redacted.value(session.id)}`)
      const waiter = yield* Effect.forkChild(
        locks.withLock("held", () => query("select clock_timestamp()::text"), { wait: "10 seconds" })
      )
      yield* eventually(Effect.map(locks.health, ({ waiting }) => waiting === 1))
      yield* holder.signal("SIGKILL")
      assert.strictEqual(yield* holder.exited, "SIGKILL")
      const [[end] = []] = yield* query("select ends[1]::text from @locks where name = 'g.held'")
      const [[granted] = []] = yield* Fiber.join(waiter)
      const [[isLater, millis] = []] = yield* query(
        "select $1::timestamptz >= $2::timestamptz, (extract(epoch from $1::timestamptz - $2::timestamptz) * 1000)::int",
        [granted, end]
      )
      assert.isTrue(isLater)
      // It knew when to ask; nothing woke it.
      assert.isBelow(Number(millis), 1_000)
    }),
    30_000
  )

  test(
    "is refused even before its successor has written, and says which lock",
    Effect.gen(function* () {
      const a = yield* lockNode("a")
      const b = yield* lockNode("b")
      const session = yield* a.sessions.create(alice)
      const late = yield* Effect.scoped(a.locks.acquire("x"))
      const write = a.sessions.update(Session.set(session, Note, "late"), { fence: late })
      yield* b.locks.withLock("x", () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(write)
          assert(error._tag === "Fenced")
          assert.strictEqual(error.resource, "x")
          assert.strictEqual(error.token, late.token)
        })
      )
      assert.strictEqual((yield* Effect.flip(write))._tag, "Fenced")
      const error = yield* Effect.flip(
        a.sessions.modify(session.id, Session.set(Note, "late"), { fence: late, check: "session" })
      )
      assert.strictEqual(error._tag, "Fenced")
      assert.strictEqual((yield* a.sessions.get(session.id, { refresh: true })).version, session.version)
    })
  )

  test(
    "a node whose network went silent stops its work before anybody else has the lock",
    Effect.gen(function* () {
      const { schema, url } = yield* TestDatabase
      const proxy = yield* proxyTo()
      const a = yield* buildLockNode(
        PgSession.layer({
          url: proxy.url(url),
          schemaName: schema,
          statementTimeout: "500 millis",
          shutdownTimeout: "1 second"
        })
      )
      const b = yield* lockNode("b")
      const events: Array<string> = []
      const holder = yield* Effect.forkChild(
        Effect.flip(
          a.locks.withLock(
            "x",
            () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void events.push("stopped"))),
            { leaseTime: "1 second", heartbeatInterval: "100 millis" }
          )
        )
      )
      yield* eventually(Effect.map(a.locks.health, ({ held }) => held === 1))
      yield* proxy.pause
      yield* b.locks.withLock("x", () => Effect.sync(() => void events.push("successor")), { wait: "10 seconds" })
      assert.deepStrictEqual(events, ["stopped", "successor"])
      assert.strictEqual((yield* Fiber.join(holder))._tag, "LockLost")
      yield* proxy.resume
    }),
    30_000
  )
})

describe("PostgreSQL is killed and started again", () => {
  it.live(
    "within the lease: the holder keeps the lock, and waiters wait on",
    () =>
      Effect.gen(function* () {
        const postgres = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
        const options = { url: postgres.url, statementTimeout: "2 seconds", maxStaleness: "1 second" } as const
        const a = yield* buildLockNode(PgSession.layer(options))
        const b = yield* buildLockNode(PgSession.layer({ ...options, lockMaxRetries: 20 }))
        const held = yield* holding(a.locks, "x", { leaseTime: "30 seconds", heartbeatInterval: "100 millis" })
        const waiter = yield* Effect.forkChild(
          b.locks.withLock("x", ({ token }) => Effect.succeed(token), { wait: "forever", maxRetries: 20 })
        )
        yield* eventually(Effect.map(b.locks.health, ({ waiting }) => waiting === 1))
        yield* postgres.kill
        yield* postgres.start
        yield* Effect.sleep("500 millis")
        assert.strictEqual((yield* b.locks.health).held, 0)
        assert.strictEqual((yield* held.stop)._tag, "Success")
        assert.isTrue((yield* Fiber.join(waiter)) > held.token)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "for longer than the lease: the holder is told, and the next token is larger",
    () =>
      Effect.gen(function* () {
        const postgres = yield* EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on" } })
        const options = { url: postgres.url, statementTimeout: "2 seconds", maxStaleness: "1 second" } as const
        const a = yield* buildLockNode(PgSession.layer(options))
        const session = yield* a.sessions.create(alice)
        const late = yield* Effect.scoped(a.locks.acquire("y"))
        const held = yield* holding(a.locks, "x", { leaseTime: "500 millis" })
        yield* postgres.kill
        const outcome = yield* held.outcome
        assert(outcome._tag === "Failure" && outcome.failure._tag === "LockLost")
        yield* postgres.start
        const b = yield* buildLockNode(PgSession.layer(options))
        const token = yield* b.locks.withLock("x", (lease) => Effect.succeed(lease.token), { wait: "10 seconds" })
        assert.isTrue(token > held.token)
        yield* b.locks.withLock("y", () => Effect.void, { wait: "10 seconds" })
        const error = yield* Effect.flip(b.sessions.modify(session.id, Session.set(Note, "late"), { fence: late }))
        assert.strictEqual(error._tag, "Fenced")
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("a lock of a session", () => {
  test(
    "is lost within moments when the session ends on another node, however it ends",
    Effect.gen(function* () {
      const a = yield* lockNode("a", { maxSessionsPerUser: 100 })
      const b = yield* lockNode("b", { maxSessionsPerUser: 100 })
      const ends = [
        (session: Session) => b.sessions.delete(session.id),
        () => b.sessions.deleteAllForUser(alice),
        () => b.sessions.deleteAll
      ]
      for (const end of ends) {
        const session = yield* a.sessions.create(alice)
        const acquired = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(
          Effect.flip(
            a.locks.withLock("checkout", () => Effect.andThen(Deferred.succeed(acquired, undefined), Effect.never), {
              session
            })
          )
        )
        yield* Deferred.await(acquired)
        const waiter = yield* Effect.forkChild(
          Effect.flip(b.locks.withLock("checkout", () => Effect.void, { session: session.key, wait: "forever" }))
        )
        yield* eventually(Effect.map(b.locks.health, ({ waiting }) => waiting === 1))
        yield* end(session)
        const [lost, millis] = yield* elapsed(Fiber.join(holder))
        assert.strictEqual(lost._tag, "LockLost")
        // Far below the heartbeat's 10 seconds.
        assert.isBelow(millis, 3_000)
        assert.instanceOf(yield* Fiber.join(waiter), SessionNotFound)
      }
      const { number, names } = yield* lookAround
      assert.strictEqual(yield* number(`select count(*)::int from ${names.locks}`), 0)
    }),
    30_000
  )

  test(
    "is invisible to it, and its heartbeats change nothing",
    Effect.gen(function* () {
      const { locks, sessions } = yield* lockNode("a")
      const session = yield* sessions.create(alice)
      yield* locks.withLock(
        "checkout",
        (lease) => Effect.andThen(lease.extend("1 minute"), Effect.sleep("150 millis")),
        { session, heartbeatInterval: "20 millis" }
      )
      const now = yield* sessions.get(session.id, { refresh: true })
      assert.strictEqual(now.version, session.version)
      assert.deepStrictEqual(now.attributeNames, [])
    })
  )
})

describe("going away", () => {
  test(
    "an interrupted waiter leaves no trace, and a closed layer no lock",
    Effect.gen(function* () {
      const a = yield* lockNode("a")
      const b = yield* lockNode("b")
      const { names, query } = yield* lookAround
      const held = yield* holding(a.locks, "x")
      const waiter = yield* Effect.forkChild(b.locks.withLock("x", () => Effect.void, { wait: "forever" }))
      const queue = Effect.map(query(`select queue from ${names.locks}`), ([row]) => row?.[0])
      yield* eventually(Effect.map(queue, (nodes) => Array.isArray(nodes) && nodes.length === 1))
      yield* Fiber.interrupt(waiter)
      yield* eventually(Effect.map(queue, (nodes) => Array.isArray(nodes) && nodes.length === 0))
      assert.lengthOf(yield* query(`select 1 from ${names.locks}`), 1)
      yield* a.close
      assert.strictEqual((yield* held.outcome)._tag, "Failure")
      yield* b.locks.withLock("x", () => Effect.void)
    })
  )
})
