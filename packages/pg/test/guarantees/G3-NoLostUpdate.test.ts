/** G3 on a real PostgreSQL: two nodes race for a session, through real row locks. */
import { Session, type SessionKey } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import {
  Cluster,
  Color,
  Count,
  createNoted,
  fromMemory,
  Note,
  noteOn,
  versionOn,
  writeNote
} from "../support/Coherence.ts"
import { eventually } from "../support/Faults.ts"

const increment = Session.modify(Count, (count) => count + 1)

/** Two nodes that read the same session. */
const both = Effect.gen(function* () {
  const { node, query } = yield* Cluster
  const a = yield* node("a", { maxStaleness: "1 minute" })
  const b = yield* node("b", { maxStaleness: "1 minute" })
  const onA = yield* createNoted(a)
  const onB = yield* b.get(onA.id)
  const stored = (name: string) =>
    Effect.map(
      query(
        "select version::int, attributes -> $2 ->> 'v', (attributes -> $2 ->> 'n')::int from @sessions where key = $1",
        [onA.key, name]
      ),
      ([row]) => row
    )
  return { a, b, onA, onB, id: onA.id, key: onA.key, stored }
})

/** Holds the lock of a session's row while `during` runs, and waits until `waiters` backends wait for it. */
const whileLocked = <A, E>(
  key: SessionKey,
  waiters: number,
  during: Effect.Effect<A, E>,
  meanwhile: () => Effect.Effect<unknown, unknown> = () => Effect.void
) =>
  Effect.gen(function* () {
    const { query, sql } = yield* Cluster
    return yield* Effect.gen(function* () {
      yield* query("select 1 from @sessions where key = $1 for update", [key])
      const [[backend] = []] = yield* query("select pg_backend_pid()")
      const fiber = yield* Effect.forkChild(during, { startImmediately: true })
      yield* eventually(
        Effect.map(
          query("select count(*)::int from pg_stat_activity a where $1::int = any(pg_blocking_pids(a.pid))", [backend]),
          ([row]) => Number(row?.[0]) >= waiters
        )
      )
      yield* meanwhile()
      assert.isUndefined(fiber.pollUnsafe())
      return fiber
    }).pipe(sql.withTransaction)
  })

layer(Cluster.layer, { excludeTestServices: true })("G3 on PostgreSQL: no lost update", (it) => {
  it.effect(
    "two checked writes of one attribute that wait for the same row: one wins, the other learns what stands",
    () =>
      Effect.gen(function* () {
        const { a, b, id, key, onA, onB, stored } = yield* both
        const racing = yield* whileLocked(
          key,
          1,
          Effect.all(
            [
              Effect.result(a.update(Session.set(onA, Note, "by a"))),
              Effect.result(b.update(Session.set(onB, Note, "by b")))
            ],
            { concurrency: "unbounded" }
          )
        )
        const results = yield* Fiber.join(racing)
        assert.deepStrictEqual(results.map(({ _tag }) => _tag).toSorted(), ["Failure", "Success"])
        for (const [index, result] of results.entries()) {
          if (result._tag === "Success") continue
          const winner = index === 0 ? "by b" : "by a"
          assert(result.failure._tag === "AttributeVersionMismatch")
          assert.deepInclude(result.failure, { attribute: "note", expected: 1n, actual: 2n })
          assert.strictEqual(yield* Session.get(result.failure.current, Note), winner)
          assert.strictEqual(yield* noteOn(index === 0 ? a : b, id), winner)
          assert.deepStrictEqual(yield* stored("note"), [2, JSON.stringify(winner), 2])
        }
      })
  )

  it.effect("a write that waits for a locked row holds up no other session's, and is made in the end", () =>
    Effect.gen(function* () {
      const { a, key, onA, stored } = yield* both
      const others = yield* Effect.replicateEffect(a.createAnonymous(), 20)
      const waiting = yield* whileLocked(key, 1, a.update(Session.set(onA, Note, "late")), () =>
        Effect.forEach(others, (session) => a.update(Session.set(session, Note, "soon")), { concurrency: "unbounded" })
      )
      assert.strictEqual((yield* Fiber.join(waiting)).version, 2n)
      assert.deepStrictEqual(yield* stored("note"), [2, '"late"', 2])
    })
  )

  it.effect("a refused write answers the current row, and repairs the memory of its node", () =>
    Effect.gen(function* () {
      const { a, b, id, onA, onB } = yield* both
      const pause = yield* b.pauseBefore("update the session")
      const writing = yield* Effect.forkChild(
        Effect.flip(b.update(Session.set(onB, Color, "blue"), { check: "session" })),
        {
          startImmediately: true
        }
      )
      yield* pause.arrived
      yield* a.update(Session.set(onA, Note, "by a"))
      yield* pause.resume
      const error = yield* Fiber.join(writing)
      assert(error._tag === "VersionMismatch")
      assert.deepInclude(error, { expected: 1n, actual: 2n })
      assert.strictEqual(yield* Session.get(error.current, Note), "by a")
      assert.strictEqual(yield* fromMemory(b, noteOn(b, id)), "by a")
    })
  )

  it.effect("writes of different attributes both stand, and the second answers both", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, stored } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"))
      const written = yield* b.update(Session.set(onB, Color, "blue"))
      assert.strictEqual(yield* Session.get(written, Note), "by a")
      assert.deepStrictEqual(yield* stored("note"), [3, '"by a"', 2])
      assert.deepStrictEqual(yield* stored("color"), [3, '"blue"', 3])
    })
  )

  it.effect("without a check the last one wins for what it writes, and undoes nothing else", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, stored } = yield* both
      yield* a.update(onA.pipe(Session.set(Note, "by a"), Session.set(Color, "red")))
      yield* b.update(Session.set(onB, Note, "by b"), { check: "none" })
      assert.deepStrictEqual(yield* stored("note"), [3, '"by b"', 3])
      assert.deepStrictEqual(yield* stored("color"), [3, '"red"', 2])
    })
  )

  it.effect("an attribute that was removed and set again does not pass for the one that was read", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, stored } = yield* both
      yield* a.update(Session.set(yield* a.update(Session.remove(onA, Note)), Note, "old"))
      const error = yield* Effect.flip(b.update(Session.set(onB, Note, "by b")))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 3n })
      assert.deepStrictEqual(yield* stored("note"), [3, '"old"', 3])
    })
  )

  it.effect("64 concurrent modifications on two nodes lose no count, and no version", () =>
    Effect.gen(function* () {
      const { a, b, id, stored } = yield* both
      yield* Effect.forEach(
        Array.from({ length: 64 }, (_, index) => (index % 2 === 0 ? a : b)),
        (node) => node.modify(id, increment),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* stored("count"), [65, "64", 65])
      for (const node of [a, b]) assert.strictEqual(yield* versionOn(node, id, { refresh: true }), 65n)
    })
  )

  it.effect(
    "of many sessions in shared statements, two nodes at once: each is counted by itself, and nothing deadlocks",
    () =>
      Effect.gen(function* () {
        const { a, b, onA, query } = yield* Effect.zipWith(both, Cluster, (nodes, { query }) => ({ ...nodes, query }))
        const sessions = yield* Effect.replicateEffect(a.createAnonymous(), 20)
        const work = sessions.flatMap(({ id }, index) =>
          [0, 1, 2, 3].map((round) => ({ id, node: (index + round) % 2 === 0 ? a : b }))
        )
        // A refused one among them refuses nobody else.
        yield* writeNote(b, onA.id, "by b")
        const refused = Effect.flip(a.update(Session.set(onA, Note, "by a")))
        const [error] = yield* Effect.all(
          [refused, Effect.forEach(work, ({ id, node }) => node.modify(id, increment), { concurrency: "unbounded" })],
          { concurrency: "unbounded" }
        )
        assert.strictEqual(error._tag, "AttributeVersionMismatch")
        const counts = yield* query(
          "select attributes -> 'count' ->> 'v', version::int from @sessions where key = any($1)",
          [sessions.map(({ key }) => key)]
        )
        assert.deepStrictEqual(
          counts,
          sessions.map(() => ["4", 5])
        )
      })
  )
})
