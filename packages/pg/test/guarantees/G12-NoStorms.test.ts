/** G12 on a real PostgreSQL: statements and notifications, counted. */
import { Session, type SessionId } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { generate, hashOfToken, keyOfToken } from "../../../core/src/SessionId.ts"
import { Cluster, createNoted, Note, noteOn, quiet, versionOn } from "../support/Coherence.ts"
import { eventually } from "../support/Faults.ts"

const unbounded = { concurrency: "unbounded" } as const

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const two = Effect.gen(function* () {
  const { node } = yield* Cluster
  return { a: yield* node("a"), b: yield* node("b") }
})

/** Sessions that were put into the table by hand, many at once. */
const crowd = (count: number) =>
  Effect.gen(function* () {
    const { query } = yield* Cluster
    const ids = times(count).map(() => generate())
    const tokens = ids.map((id) => Redacted.value(id))
    yield* query(
      `insert into @sessions (key, secret_hash, version, created_at, last_accessed_at, expires_at)
        select key, hash, 1, now(), now(), now() + interval '1 hour' from unnest($1::text[], $2::text[]) as x(key, hash)`,
      [tokens.map(keyOfToken), tokens.map(hashOfToken)]
    )
    return ids
  })

const readAll = (
  node: {
    readonly find: (id: SessionId, options: { readonly touch: false }) => Effect.Effect<Option.Option<Session>, unknown>
  },
  ids: ReadonlyArray<SessionId>
) =>
  Effect.map(
    Effect.forEach(ids, (id) => node.find(id, quiet), unbounded),
    (found) => found.filter(Option.isSome).length
  )

layer(Cluster.layer, { excludeTestServices: true })("G12 on PostgreSQL: no storms", (it) => {
  it.effect("100 fibers that miss one session cause one statement; 1 000 sessions missed at once cause a few", () =>
    Effect.gen(function* () {
      const { a, b } = yield* two
      const { id } = yield* createNoted(a)
      const notes = yield* Effect.forEach(times(100), () => noteOn(b, id), unbounded)
      assert.deepStrictEqual([...new Set(notes)], ["old"])
      assert.strictEqual(b.statements("load sessions"), 1)
      assert.strictEqual(yield* readAll(b, yield* crowd(1_000)), 1_000)
      assert.isAtMost(b.statements("load sessions"), 1 + 7)
    })
  )

  it.effect("a reconnect with 5 000 cached sessions compares them in batches, and keeps them", () =>
    Effect.gen(function* () {
      const { cut, node } = yield* Cluster
      const b = yield* node("full")
      const ids = yield* crowd(5_000)
      assert.strictEqual(yield* readAll(b, ids), 5_000)
      const loads = b.statements("load sessions")
      const compared = b.statements("revalidate sessions")
      yield* cut("full")
      yield* eventually(Effect.map(b.health, ({ listener, synced }) => synced && listener.reconnects === 1))
      assert.isAtMost(b.statements("revalidate sessions") - compared, 5)
      assert.strictEqual((yield* b.health).cache.size, 5_000)
      yield* b.heard
      assert.strictEqual(yield* readAll(b, ids), 5_000)
      assert.strictEqual(b.statements("load sessions"), loads)
    })
  )

  it.effect("activity of 1 000 sessions is one statement, changes no version, and is announced to nobody", () =>
    Effect.gen(function* () {
      const { notices, query } = yield* Cluster
      const { b } = yield* two
      const ids = yield* crowd(1_000)
      const told = yield* notices(
        Effect.gen(function* () {
          for (let round = 0; round < 3; round++) yield* Effect.forEach(ids, (id) => b.get(id), unbounded)
          assert.strictEqual((yield* b.health).activity.pending, 1_000)
          yield* b.flushActivity
        })
      )
      assert.deepStrictEqual(told, [])
      assert.strictEqual(b.statements("record last accesses"), 1)
      const keys = ids.map((id) => keyOfToken(Redacted.value(id)))
      const versions = yield* query(
        "select distinct version::int, last_accessed_at > created_at from @sessions where key = any($1)",
        [keys]
      )
      assert.deepStrictEqual(versions, [[1, true]])
    })
  )

  it.effect("updates of 300 sessions at once share statements and notifications, and reach the other node", () =>
    Effect.gen(function* () {
      const { notices } = yield* Cluster
      const { a, b } = yield* two
      const ids = yield* crowd(300)
      const sessions = yield* Effect.forEach(ids, (id) => a.get(id), unbounded)
      yield* readAll(b, ids)
      const told = yield* notices(
        Effect.forEach(sessions, (session) => a.update(Session.set(session, Note, "new")), unbounded)
      )
      assert.isAtMost(a.statements("update the session"), 4)
      assert.isAtMost(told.length, 8)
      yield* b.heard
      for (const id of ids.slice(0, 5)) assert.strictEqual(yield* noteOn(b, id), "new")
    })
  )

  it.effect("made-up ids are asked for once, evict no session, and are bounded", () =>
    Effect.gen(function* () {
      const { node } = yield* Cluster
      const b = yield* node("attacked", { cacheCapacity: 10, maxStaleness: "1 minute" })
      const ids = yield* crowd(10)
      yield* readAll(b, ids)
      const [madeUp] = [generate()]
      const before = b.statements("load sessions")
      for (let n = 0; n < 3; n++) yield* Effect.forEach(times(50), () => versionOn(b, madeUp), unbounded)
      assert.strictEqual(b.statements("load sessions") - before, 1)
      assert.strictEqual(
        yield* readAll(
          b,
          times(11_000).map(() => generate())
        ),
        0
      )
      const { absent } = (yield* b.health).cache
      assert.isTrue(absent >= 5_000 && absent <= 10_000, `${absent} are remembered`)
      const loads = b.statements("load sessions")
      assert.isAtMost(loads - before, 40)
      assert.strictEqual(yield* readAll(b, ids), 10)
      assert.strictEqual(b.statements("load sessions"), loads)
    })
  )

  it.effect("an id that somebody presented before it was issued is found at once when it is", () =>
    Effect.gen(function* () {
      const { names, query } = yield* Cluster
      const { a, b } = yield* two
      const { key } = yield* createNoted(a)
      const later = generate(key)
      assert.isUndefined(yield* versionOn(b, later))
      // What a rotation does.
      yield* query("update @sessions set secret_hash = $2, version = 2 where key = $1", [
        key,
        hashOfToken(Redacted.value(later))
      ])
      yield* query("select pg_notify($1, $2)", [names.channel, `1CR${key}2`])
      yield* b.heard
      assert.strictEqual(yield* versionOn(b, later), 2n)
    })
  )
})
