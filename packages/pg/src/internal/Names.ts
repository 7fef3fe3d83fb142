/**
 * The names of everything that the library has in a database. Identifiers are
 * quoted, so that any `schemaName` and `tablePrefix` works, whatever characters
 * it has.
 */
import { createHash } from "node:crypto"

/** Quoted and schema-qualified, ready to stand in SQL, unless said otherwise. */
export interface Names {
  /** The schema as given, not quoted. */
  readonly schemaName: string
  /** The prefix as given, not quoted. */
  readonly tablePrefix: string
  readonly schema: string
  readonly sessions: string
  readonly beats: string
  readonly locks: string
  /** The sequence that tokens are drawn from. */
  readonly lockTokens: string
  readonly migrations: string
  /** Qualifies and quotes another name with the prefix, such as a function's or an index's table. */
  readonly qualified: (name: string) => string
  /** Quotes the name of an index, which PostgreSQL does not let us qualify where it is created. */
  readonly unqualified: (name: string) => string
  /** The notification channel, not quoted. */
  readonly channel: string
}

/** PostgreSQL silently truncates longer identifiers (NAMEDATALEN - 1). */
export const maxIdentifierBytes = 63

const quote = (identifier: string): string => `"${identifier.replaceAll('"', '""')}"`

/** Names for a schema and a prefix; both are part of the channel's name, so that two libraries in one database do not hear each other. */
export const make = (schemaName: string, tablePrefix: string): Names => {
  const unqualified = (name: string) => quote(tablePrefix + name)
  const qualified = (name: string) => `${quote(schemaName)}.${unqualified(name)}`
  return {
    schemaName,
    tablePrefix,
    schema: quote(schemaName),
    sessions: qualified("sessions"),
    beats: qualified("session_beats"),
    locks: qualified("session_locks"),
    lockTokens: qualified("session_lock_tokens"),
    migrations: qualified("session_migrations"),
    qualified,
    unqualified,
    channel: channelOf(`${schemaName}.${tablePrefix}sessions`)
  }
}

const channelOf = (name: string): string =>
  Buffer.byteLength(name) <= maxIdentifierBytes
    ? name
    : `sessions_${createHash("sha256").update(name).digest("hex").slice(0, 40)}`
