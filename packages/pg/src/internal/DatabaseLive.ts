/**
 * The library's connections to PostgreSQL: a pool of its own, or the one of a
 * `PgClient` that the application has. Neither ever joins a transaction of the
 * application, because neither asks the fiber's context for one.
 *
 * A pool of its own is preferable: a burst of the application cannot starve it,
 * and its sessions are set up as the guarantees need them. All that is unstable in
 * `@effect/sql-pg`'s pool is used here only.
 */
import { PgClient, PgPool } from "@effect/sql-pg"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { Database } from "./Database.ts"
import type { Statements } from "./Database.ts"
import type { Names } from "./Names.ts"
import * as Endpoint from "./Endpoint.ts"
import { inRealTime } from "./RealTime.ts"
import * as Sockets from "./Sockets.ts"
import * as StatementRunner from "./StatementRunner.ts"

/**
 * Where PostgreSQL is and how many connections to keep: the settings of
 * `PgClient`, without those that change what statements mean. `keepAlive` defaults to 10 seconds and
 * `applicationName` to the URL's or else "effect-pg-session"; the listener and the beats add a word to it. `prepare: false` says that a pooler
 * is in between.
 */
export type ConnectionSettings = Omit<
  PgClient.PgPoolConfig,
  | "multiplex"
  | "multiplexConcurrency"
  | "spanAttributes"
  | "transformJson"
  | "transformQueryNames"
  | "transformResultNames"
  | "types"
>

/** What a `Database` is made with. */
export interface Options {
  readonly names: Names
  /** How long a caller waits at most, for a connection (three quarters of it at most) and for its answer. Default: 5 seconds. */
  readonly statementTimeout?: Duration.Input | undefined
  /** How many statements of one operation may wait or run; further ones fail with `Overloaded`. Default: 10 000. */
  readonly maxPending?: number | undefined
}

const defaultStatementTimeout = Duration.seconds(5)
const defaultMaxPending = 10_000
/**
 * How many statements of one operation may stand in line for each connection. With fewer, batches have their turn so soon that they are
 * small, and a node that does all it can does less; with more, they wait longer.
 */
const linePerConnection = 8
/** sql-pg's own default. */
const defaultMaxConnections = 10
const defaultKeepAlive = Duration.seconds(10)
export const defaultApplicationName = "effect-pg-session"

const timeoutMillis = (options: Pick<Options, "statementTimeout">): number =>
  Duration.toMillis(Duration.fromInputUnsafe(options.statementTimeout ?? defaultStatementTimeout))

/**
 * The settings as sql-pg takes them. Session parameters are left out where a pooler is in between, because
 * PgBouncer refuses those it does not know, and shares sessions anyway.
 */
export const clientConfig = (
  settings: ConnectionSettings,
  startupParameters: Readonly<Record<string, string>>
): PgClient.PgPoolConfig => ({
  ...settings,
  keepAlive: settings.keepAlive ?? defaultKeepAlive,
  applicationName: Endpoint.applicationName(settings) ?? defaultApplicationName,
  startupParameters:
    settings.prepare === false ? settings.startupParameters : { ...startupParameters, ...settings.startupParameters }
})

const sessionParameters = { synchronous_commit: "on", default_transaction_isolation: "read committed" } as const

/**
 * Statements on a pool of the library's own. It connects when it is first used
 * and reconnects by itself. The server gives up on a statement somewhat earlier
 * than its caller, so that the caller of a slow write learns that it was not applied.
 *
 * Closing the scope takes a second and a half at most: one for statements in flight, half of one for connections to
 * close. Sockets that are open then are destroyed, and nothing is left.
 */
export const make = (
  options: Options & { readonly connection: ConnectionSettings }
): Effect.Effect<Statements, never, Scope.Scope> => {
  const timeout = timeoutMillis(options)
  const config = clientConfig(options.connection, {
    ...sessionParameters,
    ...(Number.isFinite(timeout) && { statement_timeout: String(Math.max(1, Math.floor(timeout * 0.9))) })
  })
  return statements(options, pooled(config), pooled(reservedConfig(config)), config.maxConnections)
}

/**
 * Statements on the application's client. Each takes a connection out of the application's
 * pool for itself, even while the caller is in a transaction: a pool of one connection would wait for
 * itself until the statement timeout. What is reserved is a connection beside the application's pool.
 *
 * A statement that is given up when the scope closes may keep its connection for five seconds more, in the application's
 * pool.
 */
export const fromClient = (
  client: PgClient.PgClient,
  options: Options
): Effect.Effect<Statements, never, Scope.Scope> => {
  const shared: StatementRunner.Transport = (sql, parameters, onSend) =>
    Effect.scoped(
      Effect.flatMap(client.reserve, (connection) => {
        onSend()
        return connection.executeValues(sql, parameters)
      })
    )
  const config = { ...client.config, multiplex: false, types: undefined }
  const reserved = pooled(reservedConfig(clientConfig(config, {})))
  const { maxConnections }: PgClient.PgPoolConfig = client.config
  return statements(options, Effect.succeed(shared), reserved, maxConnections)
}

const reservedConfig = (config: PgClient.PgPoolConfig): PgPool.Config => ({
  ...config,
  applicationName: `${config.applicationName} beats`,
  minConnections: 0,
  maxConnections: 2
})

/** A pool whose closing has an end. */
const pooled = Effect.fnUntraced(function* (
  config: PgPool.Config
): Effect.fn.Return<StatementRunner.Transport, never, Scope.Scope> {
  const sockets = Sockets.make()
  const scope = Scope.makeUnsafe()
  // Making a pool opens no connection that it waits for, so that it cannot fail.
  const pool = yield* PgPool.make(sockets.track(config)).pipe(Scope.provide(scope), Effect.orDie, inRealTime)
  // Connections in use are closed when they are given back, so that both must go on at once.
  yield* Effect.addFinalizer(() =>
    Effect.all([Scope.close(scope, Exit.void), sockets.end], { concurrency: 2, discard: true })
  )
  return (sql, parameters, onSend) =>
    pool.use((connection) => {
      onSend()
      return connection.queryValues(sql, parameters)
    })
})

const statements = Effect.fnUntraced(function* (
  options: Options,
  general: Effect.Effect<StatementRunner.Transport, never, Scope.Scope>,
  reserved: Effect.Effect<StatementRunner.Transport, never, Scope.Scope>,
  maxConnections: number | undefined
): Effect.fn.Return<Statements, never, Scope.Scope> {
  const limits = {
    statementTimeout: timeoutMillis(options),
    maxPending: options.maxPending ?? defaultMaxPending,
    maxPerOperation: linePerConnection * (maxConnections ?? defaultMaxConnections)
  }
  const parts = Scope.makeUnsafe("parallel")
  yield* Effect.addFinalizer((exit) => Scope.close(parts, exit))
  const runner = Effect.fnUntraced(function* (transport: typeof general) {
    const scope = yield* Scope.fork(parts, "sequential")
    return yield* Scope.provide(
      Effect.flatMap(transport, (send) => StatementRunner.make(send, limits)),
      scope
    )
  })
  return { names: options.names, ...(yield* runner(general)), reserved: yield* runner(reserved) }
})

/** {@link make} as a layer. */
export const layer = (options: Options & { readonly connection: ConnectionSettings }): Layer.Layer<Database> =>
  Layer.effect(Database, make(options))

/** {@link fromClient} as a layer. */
export const layerFromClient = (options: Options): Layer.Layer<Database, never, PgClient.PgClient> =>
  Layer.effect(
    Database,
    Effect.flatMap(PgClient.PgClient, (client) => fromClient(client, options))
  )

/**
 * A client for the migrations of a library with a pool of its own: one connection, opened when it is first
 * used, without a statement timeout, since an index on a large table takes its time.
 */
export const layerMigrationClient = (settings: ConnectionSettings): Layer.Layer<PgClient.PgClient | SqlClient> =>
  Layer.orDie(PgClient.layer({ ...clientConfig(settings, sessionParameters), minConnections: 0, maxConnections: 1 }))
