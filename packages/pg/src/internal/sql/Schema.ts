/**
 * The text of what the library has in the database, and the list of it by
 * which a missing part is found. Migrations and the printed script are made of
 * the same text. Each statement can be repeated and does nothing then, so that
 * a schema made by hand (with `sessions` partitioned, say) is left as it is.
 */
import type { Names } from "../Names.ts"
import * as CreateMany from "./CreateMany.ts"
import * as Functions from "./Functions.ts"
import * as LockFunctions from "./LockFunctions.ts"
import * as WriteOne from "./WriteOne.ts"

/** A step of the schema, once published never changed; what a step adds must be in {@link expected}. */
export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: (names: Names) => ReadonlyArray<string>
}

const sessionColumns: ReadonlyArray<readonly [name: string, definition: string]> = [
  ["key", 'text collate "C" primary key'],
  ["secret_hash", "text not null"],
  ["former_hash", "text"],
  ["former_until", "timestamptz"],
  ["user_id", 'text collate "C"'],
  ["group_id", 'text collate "C"'],
  ["version", "bigint not null"],
  ["created_at", "timestamptz not null"],
  ["authenticated_at", "timestamptz"],
  ["last_accessed_at", "timestamptz not null"],
  ["expires_at", "timestamptz not null"],
  ["idle_timeout", "interval"],
  ["attributes", "jsonb not null default '{}'"],
  ["attribute_bytes", "integer not null default 0"],
  ["attributes_expire_at", "timestamptz"]
]

const beatColumns: ReadonlyArray<readonly [name: string, definition: string]> = [
  ["node", 'text collate "C" primary key'],
  ["beat_at", "timestamptz not null"]
]

/**
 * A lock is one row for as long as it is used now and then. Its permits are the positions of the four arrays: who has or had
 * it, on which node, by which token, and when that ended or ends. No index has any of them, so that updates are HOT.
 */
const lockColumns = (sessions: string): typeof sessionColumns => [
  ["name", 'text collate "C" primary key'],
  ["session_key", `text collate "C" references ${sessions} (key) on delete cascade`],
  ["owners", "text[] not null default '{}'"],
  ["nodes", "text[] not null default '{}'"],
  ["tokens", "bigint[] not null default '{}'"],
  ["ends", "timestamptz[] not null default '{}'"],
  ["queue", "text[] not null default '{}'"]
]

/** The index by which the end of a session finds the locks that are tied to it: name without prefix. */
const lockIndex = "session_locks_key_idx"

/** Indexes of `sessions`: name without prefix, and the rest of the definition. */
const indexes: ReadonlyArray<readonly [name: string, definition: string]> = [
  ["sessions_user_id_idx", "(user_id) where user_id is not null"],
  ["sessions_group_id_idx", "(group_id) where group_id is not null"]
]

const table = (name: string, columns: typeof sessionColumns, fillFactor: number): string =>
  `create table if not exists ${name} (
${columns.map(([column, definition]) => `  ${column} ${definition}`).join(",\n")}
) with (fillfactor = ${fillFactor})`

/** All migrations, in order. */
export const migrations: ReadonlyArray<Migration> = [
  {
    id: 1,
    name: "create_sessions",
    statements: (names) => [
      table(names.sessions, sessionColumns, 70),
      ...indexes.map(
        ([name, definition]) =>
          `create index if not exists ${names.unqualified(name)} on ${names.sessions} ${definition}`
      ),
      table(names.beats, beatColumns, 10),
      Functions.create(names),
      CreateMany.definition(names),
      Functions.rotate(names)
    ]
  },
  {
    id: 2,
    name: "create_session_locks",
    statements: (names) => [
      table(names.locks, lockColumns(names.sessions), 50),
      `create index if not exists ${names.unqualified(lockIndex)} on ${names.locks} (session_key) where session_key is not null`,
      // Tokens grow in the order of the grants: a cache of more than one would hand them out in blocks.
      `create sequence if not exists ${names.lockTokens} as bigint no cycle cache 1`,
      ...LockFunctions.all.map(({ definition }) => definition(names))
    ]
  },
  {
    id: 3,
    name: "create_session_write",
    statements: (names) => [WriteOne.write(names)]
  }
]

/** The schema itself, which the role may lack the right to create where it exists: so it is checked first. */
export const createSchema = (names: Names): string => `create schema if not exists ${names.schema}`

/** Something that must be in the database. */
export type Part =
  | { readonly kind: "schema" }
  | { readonly kind: "table" | "index" | "sequence"; readonly name: string }
  | { readonly kind: "column"; readonly table: string; readonly name: string }
  | { readonly kind: "function"; readonly name: string; readonly types: string }

/** Everything that must be in the database; names without prefix. */
export const expected: ReadonlyArray<Part> = [
  { kind: "schema" },
  { kind: "table", name: "sessions" },
  ...sessionColumns.map(([name]) => ({ kind: "column", table: "sessions", name }) as const),
  ...indexes.map(([name]) => ({ kind: "index", name }) as const),
  { kind: "table", name: "session_beats" },
  ...beatColumns.map(([name]) => ({ kind: "column", table: "session_beats", name }) as const),
  { kind: "function", name: Functions.createName, types: Functions.createTypes },
  { kind: "function", name: CreateMany.functionName, types: CreateMany.types },
  { kind: "function", name: Functions.rotateName, types: Functions.rotateTypes },
  { kind: "table", name: "session_locks" },
  ...lockColumns("").map(([name]) => ({ kind: "column", table: "session_locks", name }) as const),
  { kind: "index", name: lockIndex },
  { kind: "sequence", name: "session_lock_tokens" },
  ...LockFunctions.all.map(({ name, types }) => ({ kind: "function", name, types }) as const),
  { kind: "function", name: WriteOne.writeName, types: WriteOne.writeTypes }
]

/**
 * Which of {@link expected} exist: takes `$1`, the schema's name, and `$2`, a JSON array of parts with full names; answers
 * the positions (from 0) of the missing ones. It reads the catalogs only, which needs no rights.
 */
export const missingSql = `select (p.ordinality - 1)::int
from jsonb_array_elements($2::text::jsonb) with ordinality p
left join pg_catalog.pg_namespace n on n.nspname = $1::text
where not case p.value ->> 'kind'
  when 'schema' then n.oid is not null
  when 'table' then exists (select 1 from pg_catalog.pg_class c
    where c.relnamespace = n.oid and c.relname = p.value ->> 'name' and c.relkind in ('r', 'p'))
  when 'index' then exists (select 1 from pg_catalog.pg_class c
    where c.relnamespace = n.oid and c.relname = p.value ->> 'name' and c.relkind in ('i', 'I'))
  when 'sequence' then exists (select 1 from pg_catalog.pg_class c
    where c.relnamespace = n.oid and c.relname = p.value ->> 'name' and c.relkind = 'S')
  when 'column' then exists (select 1 from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = n.oid and c.relname = p.value ->> 'table' and a.attname = p.value ->> 'name'
      and a.attnum > 0 and not a.attisdropped)
  else exists (select 1 from pg_catalog.pg_proc f
    where f.pronamespace = n.oid and f.proname = p.value ->> 'name'
      and pg_catalog.oidvectortypes(f.proargtypes) = p.value ->> 'types')
end
order by 1`
