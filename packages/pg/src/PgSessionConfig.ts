/**
 * The settings of the PostgreSQL adapter, beside those of `SessionOptions`: where
 * the database is, how connections are kept, and what the library's tables are
 * called. From code, or from Effect's `Config` (the environment).
 */
import { InvalidSessionConfig, optionsFromConfig, type SessionOptions, Setting } from "@effect-pg-session/core"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { ConnectionSettings } from "./internal/DatabaseLive.ts"
import { maxIdentifierBytes } from "./internal/Names.ts"
import type { MigrationMode } from "./PgSessionMigrations.ts"

/** What the library's tables are called, and who creates them. */
export interface SchemaSettings {
  /** The schema that holds the library's tables; created if it is missing and `migrations` is "run". Default "public". */
  readonly schemaName?: string | undefined
  /** Stands before the name of every table, index, sequence and function. Default "". */
  readonly tablePrefix?: string | undefined
  /**
   * `"run"` (default) creates what is missing, `"verify"` fails with `SessionSchemaMissing` and needs no rights to create
   * anything, `"skip"` does neither.
   */
  readonly migrations?: MigrationMode | undefined
}

/** How the listener reaches PostgreSQL where queries go another way. */
export interface ListenSettings {
  /**
   * A direct connection to the primary for LISTEN, for when `url` leads to a pooler in transaction mode. Default: as for
   * queries. A pooler also needs `prepare: false`.
   */
  readonly listenUrl?: Redacted.Redacted | undefined
}

/** Where PostgreSQL is. */
export interface ConnectionOptions {
  /** `postgres://user:password@host:port/database`. What it leaves out is PgClient's default. */
  readonly url?: Redacted.Redacted | undefined
  /**
   * How many connections statements may use. A node has two more: one for the listener, and one for the beats, which is
   * joined by a second one while it does not answer. Default 10.
   */
  readonly maxConnections?: number | undefined
  /** How many are kept open when nothing is to do. Default 0. */
  readonly minConnections?: number | undefined
  /** How long a connection is used before it is replaced. Default: for ever. */
  readonly connectionTTL?: Duration.Input | undefined
  /** How long a connection may be unused before it is closed. Default 60 seconds. */
  readonly connectionIdleTimeout?: Duration.Input | undefined
  /** Whether statements are prepared by name. Default true; set it to false behind a pooler in transaction mode. */
  readonly prepare?: boolean | undefined
  /** Further settings of `PgClient`, such as `ssl`, `host` or `stream`; those above take precedence. */
  readonly connection?: ConnectionSettings | undefined
}

/** Everything that `PgSession.layer` takes; all is optional but a way to find the database. */
export interface PgSessionOptions extends SessionOptions, SchemaSettings, ListenSettings, ConnectionOptions {}

/**
 * Everything that `PgSession.layerFromClient` takes. A node has two connections beside the client's pool: one for the
 * listener, and one for the beats, which is joined by a second one while it does not answer.
 */
export interface PgSessionClientOptions extends SessionOptions, SchemaSettings, ListenSettings {}

interface PgSettings {
  readonly schemaName: string
  readonly tablePrefix: string
  readonly migrations: MigrationMode
  readonly maxConnections: number
  readonly minConnections: number
  readonly prepare: boolean
  readonly connectionTTL: number
  readonly connectionIdleTimeout: number
}

/** The longest name that the library puts a prefix before. */
const longestName = "sessions_group_id_idx"
const maxPrefixBytes = maxIdentifierBytes - longestName.length

const isIdentifier =
  (maxBytes: number) =>
  (text: string): boolean =>
    Buffer.byteLength(text) <= maxBytes && !text.includes("\u0000") && text.isWellFormed()

const table: Setting.Table<PgSettings> = {
  schemaName: Setting.text({
    default: "public",
    allowed: `1 to ${maxIdentifierBytes} bytes without NUL, and not starting with "pg_"`,
    isAllowed: (text) => text.length > 0 && !text.startsWith("pg_") && isIdentifier(maxIdentifierBytes)(text)
  }),
  tablePrefix: Setting.text({
    default: "",
    allowed: `at most ${maxPrefixBytes} bytes without NUL`,
    isAllowed: isIdentifier(maxPrefixBytes)
  }),
  migrations: Setting.choice<MigrationMode>({ default: "run", of: ["run", "verify", "skip"] }),
  maxConnections: Setting.integer({ default: 10, min: 1, max: 1_000 }),
  minConnections: Setting.integer({ default: 0, min: 0, max: 1_000 }),
  prepare: Setting.boolean({ default: true }),
  connectionTTL: Setting.duration({ default: Infinity, min: 1_000, max: Infinity }),
  connectionIdleTimeout: Setting.duration({ default: 60_000, min: 1_000, max: Infinity })
}

/** The settings of the adapter, checked. */
export interface ResolvedPgSettings {
  readonly schema: { readonly schemaName: string; readonly tablePrefix: string }
  readonly migrations: MigrationMode
  readonly connection: ConnectionSettings
}

/** Checks the adapter's own options and fills in the defaults; those of the session are checked by core. */
export const resolve = (options: PgSessionOptions): Effect.Effect<ResolvedPgSettings, InvalidSessionConfig> =>
  Effect.flatMap(Setting.resolve<PgSettings>(table, options), (settings) => {
    const { connectionIdleTimeout, connectionTTL, maxConnections, migrations, minConnections, prepare } = settings
    if (minConnections > maxConnections) {
      return Effect.fail(
        new InvalidSessionConfig({
          setting: "minConnections",
          value: String(minConnections),
          allowed: `at most maxConnections (${maxConnections})`
        })
      )
    }
    return Effect.succeed({
      schema: { schemaName: settings.schemaName, tablePrefix: settings.tablePrefix },
      migrations,
      connection: {
        ...options.connection,
        ...(options.url !== undefined && { url: options.url }),
        maxConnections,
        minConnections,
        prepare,
        idleTimeout: connectionIdleTimeout,
        ...(Number.isFinite(connectionTTL) && { connectionTTL })
      }
    })
  })

/**
 * Reads all options from Effect's `Config`: `DATABASE_URL` and, optionally, `SESSION_LISTEN_URL`, and every setting in
 * constant case after `SESSION_`. Text is checked when the layer is built.
 */
export const fromConfig: Config.Config<PgSessionOptions> = Config.all({
  session: optionsFromConfig,
  pg: Setting.fromConfig<PgSettings>("SESSION", table),
  url: Config.Redacted("DATABASE_URL"),
  listenUrl: Config.Redacted("SESSION_LISTEN_URL").pipe(Config.withDefault(undefined))
}).pipe(Config.map(({ listenUrl, pg, session, url }) => ({ ...session, ...pg, url, listenUrl })))
