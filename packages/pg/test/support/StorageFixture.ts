/** A storage on a schema of its own, migrated, requests to fill it with, and the means to look behind it. */
import { SessionKey, SessionLockStorage, SessionStorage, UserId } from "@effect-pg-session/core"
import type {
  AcquireLockRequest,
  AttributeWrite,
  CreateRequest,
  LockKey,
  LockStorage,
  Notice,
  RotateRequest,
  SecretHash,
  SessionRow,
  Storage,
  WriteRequest
} from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import * as DatabaseLive from "../../src/internal/DatabaseLive.ts"
import * as Names from "../../src/internal/Names.ts"
import { parse } from "../../src/internal/NotificationPayload.ts"
import * as PgSessionLocks from "../../src/PgSessionLocks.ts"
import * as PgSessionMigrations from "../../src/PgSessionMigrations.ts"
import * as PgSessionStorage from "../../src/PgSessionStorage.ts"
import { databaseUrl, TestDatabase } from "./TestDatabase.ts"

export const minute = 60_000
export const hour = 60 * minute

interface PoolOptions {
  readonly prepare?: boolean
  readonly maxConnections?: number
  readonly url?: Redacted.Redacted
}

/** The storages of sessions and of locks on a pool of their own, as a node has. */
export const storagesOn = (
  names: Names.Names,
  options?: PoolOptions
): Effect.Effect<{ readonly storage: Storage; readonly locks: LockStorage }, never, Scope.Scope> =>
  Layer.mergeAll(PgSessionStorage.layer, PgSessionLocks.layer).pipe(
    Layer.provide(
      DatabaseLive.layer({
        names,
        statementTimeout: "20 seconds",
        connection: {
          url: options?.url ?? databaseUrl,
          maxConnections: options?.maxConnections ?? 4,
          prepare: options?.prepare
        }
      })
    ),
    Layer.build,
    Effect.map((context) => ({
      storage: Context.get(context, SessionStorage),
      locks: Context.get(context, SessionLockStorage)
    }))
  )

/** A storage on a pool of its own. */
export const storageOn = (names: Names.Names, options?: PoolOptions): Effect.Effect<Storage, never, Scope.Scope> =>
  Effect.map(storagesOn(names, options), ({ storage }) => storage)

const make = Effect.fnUntraced(function* (tablePrefix: string) {
  const { schema } = yield* TestDatabase
  const sql = yield* PgClient.PgClient
  const names = Names.make(schema, tablePrefix)
  yield* PgSessionMigrations.run(names)

  /** Runs SQL in which `@sessions`, `@beats`, `@locks` stand for the tables. */
  const query = (text: string, parameters: ReadonlyArray<unknown> = []) =>
    sql.unsafe(
      text.replaceAll("@sessions", names.sessions).replaceAll("@beats", names.beats).replaceAll("@locks", names.locks),
      parameters
    ).values

  /** What was notified while an effect ran, in order: the payloads, and what they say. */
  const noticesOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.scoped(
      Effect.gen(function* () {
        const queue = yield* sql.listen(names.channel)
        const result = yield* effect
        const end = `end ${randomBytes(4).toString("hex")}`
        yield* sql.notify(names.channel, end)
        const payloads: Array<string> = []
        while (true) {
          const { payload } = yield* Queue.take(queue)
          if (payload === end) break
          payloads.push(payload)
        }
        const notices: ReadonlyArray<Notice> = payloads.map(parse)
        return { result, payloads, notices }
      })
    )

  return { names, sql, ...(yield* storagesOn(names)), query, noticesOf }
})

/** An empty schema, and a client under both of its names. */
export const schemaLayer = Layer.effect(SqlClient, PgClient.PgClient).pipe(Layer.provideMerge(TestDatabase.layer))

/** One per test file. */
export class Fixture extends Context.Service<Fixture, Effect.Success<ReturnType<typeof make>>>()(
  "@effect-pg-session/pg/test/Fixture"
) {
  static readonly layer = Layer.effect(Fixture, make("")).pipe(Layer.provideMerge(schemaLayer))
}

/** Runs a statement by hand in a transaction, runs `during` once somebody waits for what it has locked, and commits. */
export const whileHeld = <A, E, E2 = never, R = never>(
  statement: string,
  parameters: ReadonlyArray<unknown>,
  waiting: Effect.Effect<A, E>,
  during: Effect.Effect<unknown, E2, R> = Effect.void
) =>
  Effect.gen(function* () {
    const { query, sql } = yield* Fixture
    const fiber = yield* Effect.gen(function* () {
      yield* query(statement, parameters)
      const [[backend] = []] = yield* query("select pg_backend_pid()")
      const fiber = yield* Effect.forkChild(waiting, { startImmediately: true })
      yield* awaitBlocked(Number(backend), 1)
      yield* during
      return fiber
    }).pipe(sql.withTransaction)
    return yield* Fiber.join(fiber)
  })

/** Waits until so many others wait for a backend, directly or behind each other. */
export const awaitBlocked = (backend: number, count: number) =>
  Effect.gen(function* () {
    const { query } = yield* Fixture
    const blocked = Effect.map(
      query(
        `with recursive blocked(pid) as (
          select $1::int
          union select a.pid from blocked b join pg_stat_activity a on b.pid = any(pg_blocking_pids(a.pid))
        ) select count(*)::int - 1 from blocked`,
        [backend]
      ),
      ([row]) => Number(row?.[0])
    )
    yield* Effect.repeat(Effect.delay(blocked, 2), { until: (is) => is >= count })
  })

/** Changes a session's row by hand in a transaction, runs `during` once somebody waits for it, and commits. */
export const whileLocked = <A, E, E2 = never, R = never>(
  row: SessionRow,
  assignments: string,
  waiting: Effect.Effect<A, E>,
  during?: Effect.Effect<unknown, E2, R>
) => whileHeld(`update @sessions set ${assignments} where key = $1`, [row.key], waiting, during)

const isLockKey = (text: string): text is LockKey => text.length > 0

/** A lock's name that nobody has used, with a beginning by which locks can be put into an order. */
export const newLock = (beginning = "g."): LockKey => {
  const lock = beginning + randomBytes(6).toString("hex")
  return isLockKey(lock) ? lock : newLock(beginning)
}

export const anAcquisition = (lock: LockKey, options?: Partial<AcquireLockRequest>): AcquireLockRequest => ({
  lock,
  session: undefined,
  owner: randomBytes(9).toString("base64url"),
  node: "a",
  permits: 1,
  leaseTime: hour,
  queue: "none",
  turn: minute,
  ...options
})

/** Acquires a lock that is free, and answers what names the grant. */
export const acquired = (locks: LockStorage, lock: LockKey, options?: Partial<AcquireLockRequest>) => {
  const request = anAcquisition(lock, options)
  return Effect.map(locks.acquire(request), (outcome) => {
    if (outcome._tag !== "Granted") throw new Error(`expected a grant, got ${outcome._tag}`)
    return { ...outcome, lock, owner: request.owner, session: request.session }
  })
}

export const newKey = (): SessionKey => SessionKey.make(randomBytes(16).toString("base64url"))

const isHash = (text: string): text is SecretHash => text.length > 0

export const newHash = (): SecretHash => {
  const hash = randomBytes(32).toString("base64url")
  return isHash(hash) ? hash : newHash()
}

export const newUser = (): UserId => UserId.make(`user ${randomBytes(6).toString("hex")}`)

export const attribute = (name: string, value: unknown, timeToLive?: number): AttributeWrite => ({
  name,
  value: JSON.stringify(value),
  timeToLive
})

export const aSession = (options?: Partial<CreateRequest>): CreateRequest => ({
  key: newKey(),
  secretHash: newHash(),
  userId: undefined,
  groupId: undefined,
  lifetime: hour,
  idleTimeout: undefined,
  attributes: [],
  limit: { max: 5, onLimit: "evictOldest" },
  ...options
})

export const aWrite = (
  session: Pick<SessionRow, "key" | "secretHash" | "version"> & Partial<Pick<SessionRow, "attributes">>,
  options?: Partial<WriteRequest>
): WriteRequest => ({
  key: session.key,
  proof: session.secretHash,
  baseVersion: session.version,
  baseAttributes: session.attributes,
  expectedVersion: undefined,
  expectedAttributes: [],
  set: [],
  remove: [],
  groupId: undefined,
  lifetime: undefined,
  idleTimeout: undefined,
  notify: true,
  maxBytes: 262_144,
  fence: undefined,
  ...options
})

export const aRotation = (
  session: Pick<SessionRow, "key" | "secretHash">,
  options?: Partial<RotateRequest>
): RotateRequest => ({
  key: session.key,
  proof: session.secretHash,
  secretHash: newHash(),
  grace: 0,
  login: undefined,
  set: [],
  maxBytes: 262_144,
  ...options
})

/** Creates a session and answers its row. */
export const created = (storage: Storage, options?: Partial<CreateRequest>) =>
  Effect.map(storage.create(aSession(options)), (outcome) => {
    if (outcome._tag !== "Created") throw new Error(`expected a session, got ${outcome._tag}`)
    return outcome.row
  })
