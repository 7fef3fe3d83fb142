/** Sessions that are created together: the statement waits for nobody, and what fails in it is one session's trouble only. */
import {
  type CreateRequest,
  generate,
  GroupId,
  hashOfToken,
  type SessionLimit,
  type SessionRow,
  SessionStoreUnavailable,
  type TryCreateOutcome,
  type UserId
} from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import type { Statements } from "../src/internal/Database.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as CreateMany from "../src/internal/sql/CreateMany.ts"
import { userLock } from "../src/internal/sql/Functions.ts"
import * as PgSessionStorage from "../src/PgSessionStorage.ts"
import { aSession, created, Fixture, newUser } from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const evict = (max: number): SessionLimit => ({ max, onLimit: "evictOldest" })

const tagsOf = (outcomes: ReadonlyArray<TryCreateOutcome>) => outcomes.map(({ _tag }) => _tag)

const evictedBy = (outcome: TryCreateOutcome | undefined) =>
  outcome?._tag === "Created" ? outcome.evicted.map(({ key }) => key) : assert.fail(outcome?._tag ?? "no outcome")

/** Runs SQL by hand, and an effect before that is committed. */
const held = <A, E, R>(text: string, parameters: ReadonlyArray<unknown>, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Fixture, ({ query, sql }) => sql.withTransaction(Effect.andThen(query(text, parameters), effect)))

const userOf = Effect.fnUntraced(function* (count: number) {
  const { storage } = yield* Fixture
  const userId = newUser()
  const rows: Array<SessionRow> = []
  for (const _ of times(count)) rows.push(yield* created(storage, { userId }))
  return { userId, rows: rows.toSorted((a, b) => a.createdAt - b.createdAt || (a.key < b.key ? -1 : 1)) }
})

const keysOf = Effect.fnUntraced(function* (userId: UserId) {
  const { storage } = yield* Fixture
  return (yield* storage.list(userId)).rows.map(({ key }) => key).toSorted()
})

/** A storage whose statements are counted, and fail where the test says so. */
const observed = Effect.gen(function* () {
  const { names } = yield* Fixture
  const database = yield* DatabaseLive.make({ names, connection: { url: databaseUrl, maxConnections: 2 } })
  const control: { readonly sent: Array<string>; lose: boolean } = { sent: [], lose: false }
  const write: Statements["write"] = (operation, sql, parameters) =>
    Effect.suspend(() => {
      control.sent.push(operation)
      const statement = database.write(operation, sql, parameters)
      return control.lose
        ? Effect.andThen(
            statement,
            new SessionStoreUnavailable({ operation, reason: "Unreachable", outcome: "Unknown", detail: "cut" })
          )
        : statement
    })
  return { ...control, control, storage: PgSessionStorage.make({ ...database, write }) }
})

layer(Fixture.layer, { excludeTestServices: true })("sessions that are created together", (it) => {
  it.effect("do not wait for a user whom somebody else is giving a session", () =>
    Effect.gen(function* () {
      const { names, query, storage } = yield* Fixture
      const requests = times(4).map(() => aSession({ userId: newUser() }))
      const { outcomes } = yield* held(
        `select pg_advisory_xact_lock(${userLock(names, "$1::text")})`,
        [requests[2]?.userId],
        Effect.tap(storage.tryCreate(requests), () =>
          Effect.map(
            query("select count(*)::int from @sessions where key = any($1::text[])", [requests.map(({ key }) => key)]),
            (rows) => assert.deepStrictEqual(rows, [[3]])
          )
        )
      )
      assert.deepStrictEqual(tagsOf(outcomes), ["Created", "Created", "Undone", "Created"])
      assert.deepStrictEqual(tagsOf((yield* storage.tryCreate(requests.slice(2, 3))).outcomes), ["Created"])
    })
  )

  it.effect("do not wait for a session that would have to end, and end none of its user's", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const first = yield* userOf(3)
      const second = yield* userOf(3)
      const third = yield* userOf(3)
      const requests = [first, second, third].map(({ userId }) => aSession({ userId, limit: evict(2) }))
      const before = yield* keysOf(second.userId)
      const { outcomes } = yield* held(
        "select 1 from @sessions where key = $1 for update",
        [second.rows[1]?.key],
        storage.tryCreate(requests)
      )
      assert.deepStrictEqual(tagsOf(outcomes), ["Created", "Undone", "Created"])
      assert.deepStrictEqual(yield* keysOf(second.userId), before)
      for (const [index, { rows }] of [first, third].entries()) {
        assert.deepStrictEqual(
          evictedBy(outcomes[index * 2]),
          rows.slice(0, 2).map(({ key }) => key)
        )
      }
    })
  )

  it.effect("do not wait for the locks that end with a session", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      const { rows, userId } = yield* userOf(2)
      const name = `tied to ${userId}`
      yield* query("insert into @locks (name, session_key) values ($1, $2)", [name, rows[0]?.key])
      const request = aSession({ userId, limit: evict(2) })
      const { outcomes } = yield* held(
        "select 1 from @locks where name = $1 for update",
        [name],
        storage.tryCreate([request, aSession({ userId: newUser() })])
      )
      assert.deepStrictEqual(tagsOf(outcomes), ["Undone", "Created"])
      assert.deepStrictEqual(evictedBy(yield* storage.create(request)), [rows[0]?.key])
    })
  )

  it.effect("do not end a session that became another user's since it was chosen", () =>
    Effect.gen(function* () {
      const { names, query, sql, storage } = yield* Fixture
      const { rows, userId } = yield* userOf(2)
      const [oldest] = rows
      assert(oldest !== undefined)
      // The statement stops after it has chosen who has to go, where the test holds this lock.
      const stop = 4_711
      const chosen = CreateMany.definition(names).replace(
        "v_held :=",
        `perform pg_advisory_xact_lock(${stop}); v_held :=`
      )
      assert.include(chosen, String(stop))
      yield* Effect.acquireRelease(sql.unsafe(chosen), () => Effect.orDie(sql.unsafe(CreateMany.definition(names))))
      const other = newUser()
      const login = Effect.fnUntraced(function* () {
        const batch = yield* Effect.forkChild(storage.tryCreate([aSession({ userId, limit: evict(2) })]), {
          startImmediately: true
        })
        yield* query("select count(*)::int from pg_locks where locktype = 'advisory' and objid = $1 and not granted", [
          stop
        ]).pipe(Effect.repeat({ until: ([row]) => row?.[0] === 1 }))
        const outcome = yield* storage.rotate({
          key: oldest.key,
          proof: oldest.secretHash,
          secretHash: hashOfToken(Redacted.value(generate(oldest.key))),
          grace: 0,
          login: { userId: other, lifetime: 60_000, idleTimeout: undefined, limit: evict(5) },
          set: [],
          maxBytes: 10_000
        })
        assert.strictEqual(outcome._tag, "Rotated")
        return batch
      })
      const batch = yield* held("select pg_advisory_xact_lock($1)", [stop], login())
      const { outcomes } = yield* Fiber.join(batch)
      assert.deepStrictEqual(tagsOf(outcomes), ["Undone"])
      assert.deepStrictEqual(yield* keysOf(other), [oldest.key])
    }).pipe(Effect.scoped)
  )

  it.effect("end the oldest although somebody holds the session that stays", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const { rows, userId } = yield* userOf(2)
      const { outcomes } = yield* held(
        "update @sessions set last_accessed_at = now() where key = $1",
        [rows[1]?.key],
        storage.tryCreate([aSession({ userId, limit: evict(2) })])
      )
      assert.deepStrictEqual(evictedBy(outcomes[0]), [rows[0]?.key])
    })
  )

  it.effect("leave it to the database's locks whether a session has expired", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      const { rows, userId } = yield* userOf(2)
      const key = rows[1]?.key
      // It was active in time, which nobody else can see yet.
      yield* query(
        "update @sessions set idle_timeout = interval '1 hour', last_accessed_at = now() - interval '2 hours' where key = $1",
        [key]
      )
      const limit = { max: 2, onLimit: "reject" } as const
      const outcomes = yield* held(
        "update @sessions set last_accessed_at = now() where key = $1",
        [key],
        Effect.map(storage.tryCreate([aSession({ userId, limit }), aSession()]), ({ outcomes }) => outcomes)
      )
      assert.deepStrictEqual(tagsOf(outcomes), ["Undone", "Created"])
    })
  )

  it.effect("fail by themselves where the database refuses one of them, and nothing is done twice", () =>
    Effect.gen(function* () {
      const { names, query } = yield* Fixture
      const { sent, storage } = yield* observed
      const full = yield* userOf(1)
      yield* query(`alter table ${names.sessions} add constraint picky check (group_id is distinct from 'refused')`)
      const requests: ReadonlyArray<CreateRequest> = [
        aSession({ userId: full.userId, limit: evict(1) }),
        aSession({ userId: newUser(), groupId: GroupId.make("refused") }),
        aSession()
      ]
      const { outcomes } = yield* storage.tryCreate(requests)
      assert.deepStrictEqual(tagsOf(outcomes), ["Undone", "Undone", "Undone"])
      assert.lengthOf(sent, 1)
      assert.deepStrictEqual(
        yield* keysOf(full.userId),
        full.rows.map(({ key }) => key)
      )
      const exits = yield* Effect.forEach(requests, (request) => Effect.exit(storage.create(request)))
      assert.deepStrictEqual(
        exits.map(({ _tag }) => _tag),
        ["Success", "Failure", "Success"]
      )
      yield* query(`alter table ${names.sessions} drop constraint picky`)
    })
  )

  it.effect("are not answered as created where something in the database kept one from being inserted", () =>
    Effect.gen(function* () {
      const { names, query, storage } = yield* Fixture
      const full = yield* userOf(1)
      yield* query(`create function ${names.schema}.keep_out() returns trigger language plpgsql as $$
        begin return case when new.group_id = 'nobody' then null else new end; end $$`)
      yield* query(
        `create trigger keep_out before insert on ${names.sessions} for each row execute function ${names.schema}.keep_out()`
      )
      const { outcomes } = yield* storage.tryCreate([
        aSession({ userId: full.userId, limit: evict(1), groupId: GroupId.make("nobody") }),
        aSession()
      ])
      assert.deepStrictEqual(tagsOf(outcomes), ["Undone", "Undone"])
      assert.deepStrictEqual(
        yield* keysOf(full.userId),
        full.rows.map(({ key }) => key)
      )
      yield* query(`drop trigger keep_out on ${names.sessions}`)
    })
  )

  it.effect("have an unknown outcome where the answer is lost, and are not sent again", () =>
    Effect.gen(function* () {
      const { storage: other } = yield* Fixture
      const { control, sent, storage } = yield* observed
      const requests = times(3).map(() => aSession({ userId: newUser() }))
      control.lose = true
      const error = yield* Effect.flip(storage.tryCreate(requests))
      assert.deepInclude(error, { reason: "Unreachable", outcome: "Unknown" })
      assert.lengthOf(sent, 1)
      assert.lengthOf((yield* other.load(requests.map(({ key }) => key))).rows, 3)
    })
  )
})
