/** The server of a run, a client that looks around in it (never through a proxy), and the tables of the harness. */
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Row } from "./History.ts"
import { now } from "./Timing.ts"

/** Durable, talkative in its log, and with a queue of notifications that can be filled. */
const serverSettings = {
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  max_connections: "80",
  max_notify_queue_pages: "64",
  max_wal_size: "256MB",
  // The whole write-ahead log of a run is searched.
  wal_keep_size: "256MB",
  shared_preload_libraries: "pg_stat_statements",
  logging_collector: "on",
  log_directory: "log",
  // Slow and failing statements with their parameters: whatever is in them must be fit for a log.
  log_min_duration_statement: "250",
  log_parameter_max_length_on_error: "-1"
} as const

const tables = `
create extension pg_stat_statements;
create table faults_counters (name text primary key, value int not null default 0, token bigint not null default 0);
`

const StoredRow = Schema.Struct({
  key: Schema.String,
  user: Schema.NullOr(Schema.String),
  version: Schema.Finite,
  count: Schema.NullOr(Schema.String),
  guarded: Schema.NullOr(Schema.String),
  note: Schema.NullOr(Schema.String),
  live: Schema.Boolean,
  unused: Schema.Finite
})
const decodeRows = Schema.decodeUnknownEffect(Schema.Array(StoredRow))
const decodeNote = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.String))

const Counters = Schema.Array(Schema.Struct({ name: Schema.String, value: Schema.Finite }))
const Texts = Schema.Array(Schema.Struct({ name: Schema.String }))

const live = `expires_at > clock_timestamp()
  and (idle_timeout is null or last_accessed_at + idle_timeout > clock_timestamp())`

export class Database extends Context.Service<Database, Effect.Success<typeof make>>()(
  "@effect-pg-session/faults/Database"
) {}

const make = Effect.gen(function* () {
  const postgres = yield* EmbeddedPostgres.make({ settings: serverSettings })
  const client = yield* Layer.build(
    PgClient.layer({ url: postgres.url, maxConnections: 8, applicationName: "faults observer" })
  )
  const sql = Context.get(client, PgClient.PgClient)
  for (const statement of tables.split(";").filter((text) => text.trim() !== "")) yield* sql.unsafe(statement)

  const rows = sql
    .unsafe(
      `select key, user_id as user, version::float8 as version, attributes -> 'count' ->> 'v' as count,
        attributes -> 'guarded' ->> 'v' as guarded, attributes -> 'note' ->> 'v' as note, (${live}) as live,
        (extract(epoch from clock_timestamp() - last_accessed_at) * 1000)::float8 as unused
      from sessions`
    )
    .pipe(
      Effect.flatMap(decodeRows),
      Effect.map((stored) => {
        const readAt = now()
        return stored.map((row): Row => ({
          key: row.key,
          user: row.user ?? undefined,
          version: row.version,
          count: Number(row.count ?? 0),
          guarded: Number(row.guarded ?? 0),
          note: Option.getOrElse(decodeNote(row.note), () => ""),
          live: row.live,
          lastAccessedAt: readAt - row.unused
        }))
      })
    )

  const counters = sql`select name, value from faults_counters`.pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Counters)),
    Effect.map((found) => new Map(found.map(({ name, value }) => [name, value])))
  )

  /** Every table of everybody's, and what the server keeps of statements, as text. */
  const dump = Effect.gen(function* () {
    const tables = yield* Effect.flatMap(
      sql`select quote_ident(schemaname) || '.' || quote_ident(tablename) as name from pg_tables
        where schemaname <> 'information_schema'`,
      Schema.decodeUnknownEffect(Texts)
    )
    const views = ["pg_stat_statements", "pg_stat_activity", "pg_prepared_statements"]
    const dumped: Array<readonly [string, string]> = []
    for (const name of [...tables.map(({ name }) => name), ...views]) {
      const rows = yield* Effect.flatMap(
        sql.unsafe(`select t::text as name from ${name} t`),
        Schema.decodeUnknownEffect(Texts)
      )
      dumped.push([name, rows.map((row) => row.name).join("\n")])
    }
    return dumped
  })

  return { postgres, sql, rows, counters, dump }
})

export const layer = Layer.effect(Database, make)
