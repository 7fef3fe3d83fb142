/** A storage on a schema of its own, migrated, requests to fill it with, and the means to look behind it. */
import { SessionKey, SessionStorage, UserId } from "@effect-pg-session/core"
import type {
  AttributeWrite,
  CreateRequest,
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
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import * as DatabaseLive from "../../src/internal/DatabaseLive.ts"
import * as Names from "../../src/internal/Names.ts"
import { parse } from "../../src/internal/NotificationPayload.ts"
import * as PgSessionMigrations from "../../src/PgSessionMigrations.ts"
import * as PgSessionStorage from "../../src/PgSessionStorage.ts"
import { databaseUrl, TestDatabase } from "./TestDatabase.ts"

export const minute = 60_000
export const hour = 60 * minute

/** A storage on a pool of its own, as a node has. */
export const storageOn = (
  names: Names.Names,
  options?: { readonly prepare?: boolean; readonly maxConnections?: number }
): Effect.Effect<Storage, never, Scope.Scope> =>
  PgSessionStorage.layer.pipe(
    Layer.provide(
      DatabaseLive.layer({
        names,
        statementTimeout: "20 seconds",
        connection: { url: databaseUrl, maxConnections: options?.maxConnections ?? 4, prepare: options?.prepare }
      })
    ),
    Layer.build,
    Effect.map((context) => Context.get(context, SessionStorage))
  )

const make = Effect.fnUntraced(function* (tablePrefix: string) {
  const { schema } = yield* TestDatabase
  const sql = yield* PgClient.PgClient
  const names = Names.make(schema, tablePrefix)
  yield* PgSessionMigrations.run(names)

  /** Runs SQL in which `@sessions`, `@beats` stand for the tables. */
  const query = (text: string, parameters: ReadonlyArray<unknown> = []) =>
    sql.unsafe(text.replaceAll("@sessions", names.sessions).replaceAll("@beats", names.beats), parameters).values

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

  return { names, sql, storage: yield* storageOn(names), query, noticesOf }
})

/** An empty schema, and a client under both of its names. */
export const schemaLayer = Layer.effect(SqlClient, PgClient.PgClient).pipe(Layer.provideMerge(TestDatabase.layer))

/** One per test file. */
export class Fixture extends Context.Service<Fixture, Effect.Success<ReturnType<typeof make>>>()(
  "@effect-pg-session/pg/test/Fixture"
) {
  static readonly layer = Layer.effect(Fixture, make("")).pipe(Layer.provideMerge(schemaLayer))
}

/** Changes a row by hand in a transaction, runs `during` once somebody waits for it, and commits. */
export const whileLocked = <A, E, E2 = never, R = never>(
  row: SessionRow,
  assignments: string,
  waiting: Effect.Effect<A, E>,
  during: Effect.Effect<unknown, E2, R> = Effect.void
) =>
  Effect.gen(function* () {
    const { query, sql } = yield* Fixture
    const fiber = yield* Effect.gen(function* () {
      yield* query(`update @sessions set ${assignments} where key = $1`, [row.key])
      const [[backend] = []] = yield* query("select pg_backend_pid()")
      const fiber = yield* Effect.forkChild(waiting, { startImmediately: true })
      const blocked = Effect.map(
        query("select count(*)::int from pg_stat_activity a where $1::int = any(pg_blocking_pids(a.pid))", [backend]),
        ([row]) => row?.[0] !== 0
      )
      yield* Effect.repeat(Effect.delay(blocked, 2), { until: (is) => is })
      yield* during
      return fiber
    }).pipe(sql.withTransaction)
    return yield* Fiber.join(fiber)
  })

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
  session: Pick<SessionRow, "key" | "secretHash" | "version">,
  options?: Partial<WriteRequest>
): WriteRequest => ({
  key: session.key,
  proof: session.secretHash,
  baseVersion: session.version,
  expectedVersion: undefined,
  expectedAttributes: [],
  set: [],
  remove: [],
  groupId: undefined,
  lifetime: undefined,
  idleTimeout: undefined,
  notify: true,
  maxBytes: 262_144,
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
