/** G4 on a real PostgreSQL: what was ended stays ended, whatever was waiting for its row or was late. */
import { GroupId, Session, type SessionId, type SessionKey } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import {
  alice,
  Cluster,
  createNoted,
  heldUp,
  type Node,
  Note,
  noteOn,
  type Operation,
  versionOn
} from "../support/Coherence.ts"
import { eventually } from "../support/Faults.ts"

/** Two nodes that both have the session in memory. */
const both = Effect.gen(function* () {
  const { node, query } = yield* Cluster
  const a = yield* node("a")
  const b = yield* node("b")
  const session = yield* createNoted(a)
  const { id, key } = session
  yield* noteOn(b, id)
  const isGone = Effect.gen(function* () {
    yield* Effect.all([a.flushActivity, b.flushActivity])
    yield* Effect.all([a.heard, b.heard])
    for (const node of [a, b]) {
      assert.isUndefined(yield* versionOn(node, id), `node ${node.name} answers it`)
      assert.strictEqual(
        (yield* Effect.flip(node.update(Session.set(session, Note, "late"), { check: "none" })))._tag,
        "SessionNotFound"
      )
      assert.strictEqual((yield* Effect.flip(node.rotate(id)))._tag, "SessionNotFound")
    }
    assert.deepStrictEqual(yield* query("select 1 from @sessions where key = $1", [key]), [])
  })
  return { a, b, session, id, key, query, isGone }
})

/** Things that come late, by the statement that they send. */
const late: ReadonlyArray<readonly [Operation, (node: Node, session: Session) => Effect.Effect<unknown, unknown>]> = [
  ["load sessions", (node, { id }) => Effect.andThen(node.clearLocalCache, noteOn(node, id))],
  ["record last accesses", (node, { id }) => Effect.andThen(node.get(id), node.flushActivity)],
  ["update the session", (node, session) => node.update(Session.set(session, Note, "late"), { check: "none" })],
  ["rotate the session", (node, { id }) => node.rotate(id, { grace: "1 minute" })]
]

/** Ends the session in a transaction that commits only when somebody waits for its row. */
const endedWhileWaitedFor = <A, E>(key: SessionKey, waiting: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const { query, sql } = yield* Cluster
    return yield* Effect.gen(function* () {
      yield* query("delete from @sessions where key = $1", [key])
      const [[backend] = []] = yield* query("select pg_backend_pid()")
      const fiber = yield* Effect.forkChild(waiting, { startImmediately: true })
      yield* eventually(
        Effect.map(
          query("select count(*)::int from pg_stat_activity a where $1::int = any(pg_blocking_pids(a.pid))", [backend]),
          ([row]) => Number(row?.[0]) > 0
        )
      )
      return fiber
    }).pipe(sql.withTransaction)
  })

layer(Cluster.layer, { excludeTestServices: true })("G4 on PostgreSQL: no resurrection", (it) => {
  for (const [operation, run] of late) {
    for (const when of ["pauseBefore", "pauseAfter"] as const) {
      it.effect(
        `"${operation}" that is late (${when === "pauseBefore" ? "sent" : "answered"} after the end) brings nothing back`,
        () =>
          Effect.gen(function* () {
            const { a, b, id, isGone, session } = yield* both
            const pause = yield* b[when](operation)
            const fiber = yield* heldUp(pause, Effect.result(run(b, session)))
            yield* a.delete(id)
            yield* b.heard
            yield* pause.resume
            yield* Fiber.join(fiber)
            yield* isGone
          })
      )
    }
  }

  for (const [operation, run] of late.filter(([operation]) => operation !== "load sessions")) {
    it.effect(`"${operation}" that waits for the row while the session ends finds nothing, and inserts nothing`, () =>
      Effect.gen(function* () {
        const { b, key, query, session } = yield* both
        const fiber = yield* endedWhileWaitedFor(key, Effect.result(run(b, session)))
        const result = yield* Fiber.join(fiber)
        assert.strictEqual(result._tag, operation === "record last accesses" ? "Success" : "Failure")
        assert.isUndefined(yield* versionOn(b, session.id))
        assert.deepStrictEqual(yield* query("select 1 from @sessions where key = $1", [key]), [])
      })
    )
  }

  const ends: ReadonlyArray<readonly [string, (node: Node, id: SessionId) => Effect.Effect<unknown, unknown>]> = [
    ["logged out", (node, id) => node.delete(id)],
    ["ended with all of its user's", (node) => node.deleteAllForUser(alice)],
    ["ended with everything", (node) => node.deleteAll]
  ]
  for (const [how, end] of ends) {
    it.effect(`a session that was ${how} is gone from both nodes' memory, and stays so`, () =>
      Effect.gen(function* () {
        const { a, id, isGone } = yield* both
        yield* end(a, id)
        yield* isGone
      })
    )
  }

  it.effect("a session that ends with the group that it had joined silently is gone from every node's memory", () =>
    Effect.gen(function* () {
      const { a, b, id, isGone } = yield* both
      const group = GroupId.make("g")
      yield* a.modify(id, Session.setGroup(Option.some(group)), { notify: false })
      assert.strictEqual(yield* a.deleteAllForGroup(group), 1)
      yield* b.heard
      assert.isUndefined(yield* noteOn(b, id))
      yield* isGone
    })
  )

  it.effect(
    "thousands of sessions that end with their group are gone from the database and from both nodes' memory",
    () =>
      Effect.gen(function* () {
        const { a, b, query } = yield* both
        const group = GroupId.make("many")
        const { key } = yield* a.createAnonymous({ groupId: group })
        yield* query(
          `insert into @sessions (key, secret_hash, group_id, version, created_at, last_accessed_at, expires_at)
          select translate(encode(uuid_send(gen_random_uuid()), 'base64'), '+/=', '-_'), s.secret_hash, s.group_id, 1,
            s.created_at, s.last_accessed_at, s.expires_at
          from @sessions s, generate_series(1, 4500) where s.key = $1`,
          [key]
        )
        const survivor = yield* a.createAnonymous()
        const sample = yield* Effect.replicateEffect(a.createAnonymous({ groupId: group }), 5)
        for (const { id } of [...sample, survivor]) yield* versionOn(b, id)
        assert.strictEqual(yield* a.deleteAllForGroup(group), 4_506)
        assert.deepStrictEqual(yield* query("select count(*)::int from @sessions where group_id = $1", [group]), [[0]])
        yield* b.heard
        for (const node of [a, b]) {
          for (const { id } of sample) assert.isUndefined(yield* versionOn(node, id))
          assert.strictEqual(yield* versionOn(node, survivor.id), 1n)
        }
      })
  )

  it.effect("a session whose idle limit has passed is not revived by what was gathered before", () =>
    Effect.gen(function* () {
      const { a, b, query } = yield* both
      const { id, key } = yield* a.create(alice, { idleTimeout: "1 hour" })
      yield* b.get(id)
      yield* query("update @sessions set last_accessed_at = clock_timestamp() - interval '61 minutes' where key = $1", [
        key
      ])
      yield* b.flushActivity
      yield* a.clearLocalCache
      for (const node of [a, b]) assert.isUndefined(yield* versionOn(node, id))
      assert.strictEqual(yield* a.sweep, 1)
    })
  )

  it.effect("an id that was replaced is refused on both nodes after its grace, though both had it in memory", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      const rotated = yield* a.rotate(id, { grace: "300 millis" })
      yield* b.heard
      for (const node of [a, b]) yield* eventually(Effect.map(node.find(id), Option.isNone))
      for (const node of [a, b]) {
        assert.deepStrictEqual(yield* node.find(id), Option.none())
        assert.strictEqual(yield* versionOn(node, rotated.id), 2n)
      }
    })
  )

  it.effect("a crowd that reads, writes and touches while a session ends sees it end once, and never again", () =>
    Effect.gen(function* () {
      const { a, b, id, isGone, session } = yield* both
      const violations: Array<string> = []
      let ended = false
      const reader = (node: Node) =>
        Effect.gen(function* () {
          let gone = false
          for (let n = 0; n < 60; n++) {
            const wasEnded = ended
            const found = yield* node.find(id, n % 3 === 0 ? { refresh: true } : undefined)
            if (Option.isSome(found) && gone) violations.push(`${node.name} served it after it had served its end`)
            if (Option.isSome(found) && wasEnded && (node === a || n % 3 === 0))
              violations.push(`${node.name} served it`)
            gone ||= Option.isNone(found)
            yield* Effect.yieldNow
          }
        })
      const writer = (node: Node) =>
        Effect.ignore(
          Effect.repeat(
            Effect.andThen(node.update(Session.set(session, Note, "busy"), { check: "none" }), node.flushActivity),
            { times: 30 }
          )
        )
      const ending = Effect.andThen(
        Effect.sleep(20),
        Effect.tap(
          a.delete(id),
          Effect.sync(() => void (ended = true))
        )
      )
      yield* Effect.all([reader(a), reader(b), reader(b), writer(a), writer(b), ending], { concurrency: "unbounded" })
      assert.deepStrictEqual(violations, [])
      yield* isGone
    })
  )
})
