/**
 * The whole stack in one layer: settings, migrations, connections, storages,
 * notifier, store and locks. When its scope closes, the store writes what it still has to write, then locks are
 * released, then connections are closed.
 *
 * The layer fails when it is built, and says what to do, where the settings are
 * wrong (`InvalidSessionConfig`), tables are missing (`SessionSchemaMissing`) or
 * PostgreSQL cannot be asked (`SessionStoreUnavailable`). Once built it survives
 * everything: PostgreSQL may go away and come back.
 */
import { PgClient } from "@effect/sql-pg"
import {
  InvalidSessionConfig,
  SessionConfig,
  SessionLocks,
  SessionNotifier,
  type SessionSchemaMissing,
  SessionStore,
  type SessionStoreUnavailable
} from "@effect-pg-session/core"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"

import * as DatabaseLive from "./internal/DatabaseLive.ts"
import * as Names from "./internal/Names.ts"
import { verifyServer } from "./internal/VerifyServer.ts"
import { Database } from "./internal/Database.ts"
import * as PgSessionConfig from "./PgSessionConfig.ts"
import type { PgSessionClientOptions, PgSessionOptions } from "./PgSessionConfig.ts"
import * as PgSessionLocks from "./PgSessionLocks.ts"
import * as PgSessionMigrations from "./PgSessionMigrations.ts"
import * as PgSessionNotifier from "./PgSessionNotifier.ts"
import * as PgSessionStorage from "./PgSessionStorage.ts"

/** What can go wrong while a layer is built. */
export type PgSessionError = InvalidSessionConfig | SessionSchemaMissing | SessionStoreUnavailable

/** The parts that depend on whose connections are used. */
interface Connections<R> {
  readonly database: Layer.Layer<Database, never, R>
  readonly migrationClient: Layer.Layer<SqlClient, never, R>
  readonly notifier: Layer.Layer<SessionNotifier, never, R | Database>
}

const assemble = <R>(
  options: PgSessionOptions | PgSessionClientOptions,
  connectionsOf: (resolved: PgSessionConfig.ResolvedPgSettings, statementTimeout: number) => Connections<R>
): Layer.Layer<SessionStore | SessionLocks, PgSessionError, R> =>
  Layer.unwrap(
    Effect.gen(function* () {
      // Everything is checked before anything is touched.
      const resolved = yield* PgSessionConfig.resolve(options)
      const settings = yield* Effect.provide(SessionConfig, SessionConfig.layer(options))
      const connections = connectionsOf(resolved, settings.statementTimeout)

      const checked = Layer.effectDiscard(
        Effect.gen(function* () {
          yield* verifyServer(yield* Database)
          yield* PgSessionMigrations.apply(resolved.migrations, resolved.schema).pipe(
            Effect.provide(connections.migrationClient)
          )
          if (options.listenUrl !== undefined) yield* verifyListener(yield* SessionNotifier)
        })
      )
      const adapters = Layer.mergeAll(PgSessionStorage.layer, PgSessionLocks.layer).pipe(
        Layer.provideMerge(checked),
        Layer.provideMerge(connections.notifier),
        Layer.provideMerge(connections.database)
      )
      return SessionStore.layer.pipe(
        Layer.provideMerge(SessionLocks.layer),
        Layer.provide(adapters),
        Layer.provide(SessionConfig.layer(options))
      )
    })
  )

/**
 * Where the listener goes another way than the queries, both must reach the same server. A listener that cannot connect at
 * all does not prevent the start: reads stay correct without it, and `health` says what is wrong.
 */
const verifyListener = (notifier: SessionNotifier["Service"]): Effect.Effect<void, PgSessionError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const connected = yield* Effect.result(notifier.connect)
      if (connected._tag === "Failure") return
      const { server } = yield* notifier.beat("start", "start")
      if (server.identity === connected.success.server.identity) return
      return yield* new InvalidSessionConfig({
        setting: "listenUrl",
        value: "a connection to another server than the queries reach",
        allowed: "a direct connection to the primary that the queries reach"
      })
    })
  )

/**
 * Sessions and locks on connections of their own, with settings from code.
 *
 * @example
 * ```ts
 * const SessionsLive = PgSession.layer({ url: Redacted.make("postgres://localhost/app"), idleTimeout: "30 minutes" })
 * ```
 */
const layer = (options: PgSessionOptions): Layer.Layer<SessionStore | SessionLocks, PgSessionError> =>
  assemble(options, ({ connection, schema }, statementTimeout) => ({
    database: DatabaseLive.layer({
      names: Names.make(schema.schemaName, schema.tablePrefix),
      statementTimeout,
      connection
    }),
    migrationClient: DatabaseLive.layerMigrationClient(connection),
    notifier: PgSessionNotifier.layer({ connection, listenUrl: options.listenUrl, connectTimeout: statementTimeout })
  }))

/** Sessions and locks with every option taken from a `Config` of its own. */
const layerConfig = (
  options: Config.Wrap<PgSessionOptions>
): Layer.Layer<SessionStore | SessionLocks, PgSessionError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * Sessions and locks on the `PgClient` that the application has. Statements take connections from its pool, outside of any
 * transaction; the listener opens one beside it. The pool must be set up as the guarantees need it (see
 * `InvalidSessionConfig`), and must have more than one connection.
 */
const layerFromClient = (
  options: PgSessionClientOptions = {}
): Layer.Layer<SessionStore | SessionLocks, PgSessionError, PgClient.PgClient> =>
  assemble(options, ({ schema }, statementTimeout) => ({
    database: DatabaseLive.layerFromClient({
      names: Names.make(schema.schemaName, schema.tablePrefix),
      statementTimeout
    }),
    migrationClient: Layer.effect(SqlClient, PgClient.PgClient),
    notifier: PgSessionNotifier.layerFromClient({ listenUrl: options.listenUrl, connectTimeout: statementTimeout })
  }))

/** The layers of the library on PostgreSQL. */
export const PgSession = { layer, layerConfig, layerFromClient }

/**
 * Sessions and locks with settings from the environment: `DATABASE_URL`, and every setting in constant case after `SESSION_`, such
 * as `SESSION_IDLE_TIMEOUT="30 minutes"`.
 */
export const PgSessionLive: Layer.Layer<SessionStore | SessionLocks, PgSessionError | Config.ConfigError> =
  Layer.unwrap(Effect.map(PgSessionConfig.fromConfig, layer))
