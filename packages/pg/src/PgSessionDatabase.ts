/**
 * The connections that `PgSessionStorage.layer` and `PgSessionNotifier.layer`
 * stand on, for those who put a stack together by themselves. `PgSession` is the
 * whole stack in one layer.
 */
import type { PgClient } from "@effect/sql-pg"
import type * as Duration from "effect/Duration"
import type * as Layer from "effect/Layer"
import type { Database } from "./internal/Database.ts"
import * as DatabaseLive from "./internal/DatabaseLive.ts"
import * as Names from "./internal/Names.ts"
import type { SchemaOptions } from "./PgSessionMigrations.ts"

/** What the tables are called, and how long a statement may take. */
export interface Options extends SchemaOptions {
  /** How long a caller waits at most, for a connection and for its answer. Default: 5 seconds. */
  readonly statementTimeout?: Duration.Input | undefined
}

const names = ({ schemaName, tablePrefix }: Options): Names.Names =>
  Names.make(schemaName ?? "public", tablePrefix ?? "")

/** Connections of the library's own. They are opened when first needed, so that building the layer cannot fail. */
export const layer = (
  options: Options & { readonly connection: DatabaseLive.ConnectionSettings }
): Layer.Layer<Database> => DatabaseLive.layer({ ...options, names: names(options) })

/** The connections of the application's `PgClient`, outside of any transaction. */
export const layerFromClient = (options: Options = {}): Layer.Layer<Database, never, PgClient.PgClient> =>
  DatabaseLive.layerFromClient({ ...options, names: names(options) })
