/**
 * How the library's statements reach PostgreSQL: outside of any transaction of
 * the application, in autocommit, in fibers of the library's own, each bounded
 * in time, with every failure turned into `SessionStoreUnavailable`.
 */
import type { SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Names } from "./Names.ts"

/** What a statement may take. JSON goes in as text and is cast in the statement; bigints go in as text. */
export type Parameter = string | number | boolean | null

/** One row: columns by position. Statements return `text`, `bool`, `int4` and `float8` only, whatever types the application registered. */
export type Row = ReadonlyArray<unknown>

/** The two ways to run a statement. */
export interface Runner {
  /**
   * Runs one statement that changes nothing. A failure is `NotApplied`.
   * `operation` completes the sentence "could not ...".
   */
  readonly read: (
    operation: string,
    sql: string,
    parameters: ReadonlyArray<Parameter>
  ) => Effect.Effect<ReadonlyArray<Row>, SessionStoreUnavailable>
  /**
   * Runs one statement that may change something. When the connection breaks or the time is up after it was sent, the
   * outcome is `Unknown`; it is never sent twice.
   */
  readonly write: (
    operation: string,
    sql: string,
    parameters: ReadonlyArray<Parameter>
  ) => Effect.Effect<ReadonlyArray<Row>, SessionStoreUnavailable>
}

/** What the library runs statements with. */
export interface Statements extends Runner {
  /** The quoted names of everything the library has in the database. */
  readonly names: Names
  /**
   * For what must not wait behind other statements, such as beats: a connection of its own, which takes the same way to the
   * same server. A second one is opened only while the first one does not answer.
   */
  readonly reserved: Runner
}

/** The connections that queries go through. */
export class Database extends Context.Service<Database, Statements>()("@effect-pg-session/pg/Database") {}
