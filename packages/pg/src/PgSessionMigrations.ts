/**
 * The library's tables, indexes, sequence and functions: creating them, checking them, and
 * printing them as a script. `effect/sql`'s Migrator does the bookkeeping, in a
 * table of the library's own.
 *
 * What the Migrator does not do by itself is done around it:
 *
 * - It quotes a table's name but splits it at dots, and a client of the
 *   application may rename identifiers (camel to snake case, say). It is therefore given a
 *   client whose identifiers are taken as they are, on connections of the given client.
 * - Nodes that start at once would collide when the migrations table is created. Everything happens in one
 *   transaction behind an advisory lock.
 * - It locks its table and writes to it, which a role without such rights cannot. Where
 *   nothing is missing, it is not run at all; a regular start costs one query of the catalogs.
 */
import { SessionSchemaMissing, SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import { SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Names from "./internal/Names.ts"
import * as Schema from "./internal/sql/Schema.ts"
import { literal } from "./internal/sql/Text.ts"
import { classify, sqlState } from "./internal/SqlFailure.ts"

/**
 * What is done about the schema at the start:
 *
 * - `"run"`: what is missing is created (the default). Nothing is changed, and no right is needed for it, where nothing is missing.
 * - `"verify"`: what is missing is named by a `SessionSchemaMissing`.
 * - `"skip"`: nothing; the first statement will tell.
 */
export type MigrationMode = "run" | "verify" | "skip"

/** Where the library's tables are. */
export interface SchemaOptions {
  /** Default: `"public"`. */
  readonly schemaName?: string | undefined
  /** Stands before the name of every table, index, sequence and function. Default: `""`. */
  readonly tablePrefix?: string | undefined
}

type MigrationFailure = SessionSchemaMissing | SessionStoreUnavailable

const namesOf = (options: SchemaOptions | undefined): Names.Names =>
  Names.make(options?.schemaName ?? "public", options?.tablePrefix ?? "")

/** Does what the mode says. */
export const apply = (
  mode: MigrationMode,
  options?: SchemaOptions
): Effect.Effect<void, MigrationFailure, SqlClient.SqlClient> => {
  switch (mode) {
    case "run":
      return run(options)
    case "verify":
      return verify(options)
    case "skip":
      return Effect.void
  }
}

/**
 * Creates what is missing, the schema included. Any number of nodes may do so at
 * once. Fails with `SessionSchemaMissing` where the role may not create what is
 * missing.
 */
export const run = (options?: SchemaOptions): Effect.Effect<void, MigrationFailure, SqlClient.SqlClient> => {
  const names = namesOf(options)
  return withVerbatimClient(
    "create the session tables",
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const found = yield* findMissing(names)
      if (found.length === 0) return
      yield* sql
        .withTransaction(create(names))
        .pipe(Effect.catchIf(isDenied, () => Effect.fail(schemaMissing(names, found))))
    })
  )
}

/** Fails with `SessionSchemaMissing`, which names everything that is missing. Needs no rights. */
export const verify = (options?: SchemaOptions): Effect.Effect<void, MigrationFailure, SqlClient.SqlClient> => {
  const names = namesOf(options)
  return withVerbatimClient(
    "verify the session tables",
    Effect.flatMap(findMissing(names), (missing) =>
      missing.length === 0 ? Effect.void : Effect.fail(schemaMissing(names, missing))
    )
  )
}

/**
 * The whole schema as a script, for those who apply migrations by other means.
 * It can be repeated. Afterwards `"verify"` succeeds, and `"run"` has nothing to do.
 */
export const schemaSql = (options?: SchemaOptions): string => {
  const names = namesOf(options)
  const statements = [
    Schema.createSchema(names),
    ...Schema.migrations.flatMap((migration) => migration.statements(names)),
    createMigrationsTable(names),
    ...Schema.migrations.map(
      ({ id, name }) =>
        `insert into ${names.migrations} (migration_id, name) values (${id}, ${literal(name)}) on conflict do nothing`
    )
  ]
  return statements.map((statement) => `${statement};\n`).join("\n")
}

/** The migrator's own table. */
const createMigrationsTable = (names: Names.Names): string =>
  `create table if not exists ${names.migrations} (
  migration_id integer primary key,
  created_at timestamp with time zone not null default now(),
  name text not null
)`

/** Everything below runs in one transaction. */
const create = Effect.fnUntraced(function* (names: Names.Names) {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`select pg_advisory_xact_lock(hashtextextended(${literal(`migrate ${names.sessions}`)}, 0))`)
  const missing = yield* findMissing(names)
  if (missing.length === 0) return
  if (missing.some(({ kind }) => kind === "schema")) yield* sql.unsafe(Schema.createSchema(names))
  // The migrator would hide why it cannot create it: it looks for the table again, in the transaction that has just failed.
  yield* sql.unsafe(createMigrationsTable(names))
  yield* Migrator.make({})({
    loader: Migrator.fromRecord(
      Object.fromEntries(
        Schema.migrations.map((migration) => [`${migration.id}_${migration.name}`, execute(migration, names)])
      )
    ),
    table: names.migrations
  })
  // Somebody may have dropped what had been created.
  if ((yield* findMissing(names)).length > 0) {
    yield* Effect.forEach(Schema.migrations, (migration) => execute(migration, names), { discard: true })
  }
  // A table that was there without a column stays as it is.
  const left = yield* findMissing(names)
  if (left.length > 0) return yield* schemaMissing(names, left)
})

const execute = (migration: Schema.Migration, names: Names.Names): Effect.Effect<void, SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(migration.statements(names), (statement) => sql.unsafe(statement), { discard: true })
  )

const findMissing = Effect.fnUntraced(function* (names: Names.Names) {
  const sql = yield* SqlClient.SqlClient
  const parts = Schema.expected.map((part) => ({
    ...part,
    ...("name" in part && part.kind !== "column" && { name: names.tablePrefix + part.name }),
    ...("table" in part && { table: names.tablePrefix + part.table })
  }))
  const rows = yield* sql.unsafe(Schema.missingSql, [names.schemaName, JSON.stringify(parts)]).values
  const missing = new Set(rows.map((row) => row[0]))
  return Schema.expected.filter((_, index) => missing.has(index))
})

const schemaMissing = (names: Names.Names, missing: ReadonlyArray<Schema.Part>): SessionSchemaMissing => {
  const isMissingTable = (table: string) => missing.some((part) => part.kind === "table" && part.name === table)
  return new SessionSchemaMissing({
    schemaName: names.schemaName,
    missing: missing.flatMap((part) => {
      switch (part.kind) {
        case "schema":
          return [`schema ${names.schema}`]
        case "table":
        case "index":
        case "sequence":
          return [`${part.kind} ${names.qualified(part.name)}`]
        case "column":
          return isMissingTable(part.table) ? [] : [`column ${names.qualified(part.table)}."${part.name}"`]
        case "function":
          return [`function ${names.qualified(part.name)}(${part.types})`]
      }
    })
  })
}

const causeOf = (error: SqlError | Migrator.MigrationError): unknown =>
  error._tag === "SqlError" ? error : error.cause

const isDenied = (error: SqlError | Migrator.MigrationError | SessionSchemaMissing): boolean => {
  const cause = error._tag === "SessionSchemaMissing" ? error : causeOf(error)
  return cause instanceof SqlError && sqlState(cause) === "42501"
}

const unavailable =
  (operation: string) =>
  (error: SqlError | Migrator.MigrationError): SessionStoreUnavailable => {
    const cause = causeOf(error)
    const { detail, reason } =
      cause instanceof SqlError ? classify(cause) : { detail: error.message, reason: "DatabaseError" as const }
    // Every step can be repeated, so that it does not matter whether it was applied.
    return new SessionStoreUnavailable({ operation, reason, outcome: "NotApplied", detail })
  }

const verbatim = Statement.makeCompiler({
  dialect: "pg",
  placeholder: (index) => `$${index}`,
  onIdentifier: (identifier) => identifier,
  onRecordUpdate: () => ["", []],
  onCustom: () => ["", []]
})

/** Runs with a client that takes identifiers as quoted already, outside of any transaction of the caller. */
const withVerbatimClient = <A>(
  operation: string,
  effect: Effect.Effect<A, SqlError | Migrator.MigrationError | SessionSchemaMissing, SqlClient.SqlClient>
): Effect.Effect<A, MigrationFailure, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, ({ reserve }) =>
    SqlClient.make({
      acquirer: reserve,
      compiler: verbatim,
      driver: "pg",
      spanAttributes: [["db.system.name", "postgresql"]],
      // A later snapshot than the wait for the lock is needed, whatever the client's default is.
      beginTransaction: "BEGIN ISOLATION LEVEL READ COMMITTED",
      releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`
    })
  ).pipe(
    Effect.flatMap((client) => Effect.provideService(effect, SqlClient.SqlClient, client)),
    Effect.provide(Reactivity.layer),
    Effect.catchTag(["SqlError", "MigrationError"], (error) => Effect.fail(unavailable(operation)(error)))
  )
