/**
 * What must be true of a server, and of the sessions that the library's statements
 * run in, for the guarantees to hold. Checked once, when the layer is built.
 */
import { InvalidSessionConfig, SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import type { Row, Statements } from "./Database.ts"

const minVersion = 140_000

const sql = `select pg_is_in_recovery(), current_setting('server_version_num')::int4, current_setting('server_version'),
  current_setting('default_transaction_isolation'), current_setting('synchronous_commit'),
  current_setting('default_transaction_read_only'), 'text'::text, true, 1.5::float8, 7::int4`

/**
 * Fails with `InvalidSessionConfig` for a server or a role that cannot work, and
 * says what to do; with `SessionStoreUnavailable` where PostgreSQL cannot be asked, or is in recovery, which
 * may pass.
 */
export const verifyServer = (
  database: Statements
): Effect.Effect<void, InvalidSessionConfig | SessionStoreUnavailable> =>
  Effect.flatMap(database.read("check the server", sql, []), ([row]) => {
    const problem = row === undefined ? undefined : findProblem(row)
    return problem === undefined ? Effect.void : Effect.fail(problem)
  })

const alterRole = (setting: string, value: string) =>
  `'${value}' in the library's sessions: run "alter role <role> set ${setting} = '${value}'", or remove what sets it otherwise (the role, the database, the connection's settings)`

const findProblem = (row: Row): InvalidSessionConfig | SessionStoreUnavailable | undefined => {
  const [inRecovery, version, versionText, isolation, synchronousCommit, readOnly, ...samples] = row
  const [text, bool, float8, int4] = samples
  if (text !== "text" || bool !== true || float8 !== 1.5 || int4 !== 7) {
    return new InvalidSessionConfig({
      setting: "types",
      value: "a registry that decodes text, bool, int4 or float8 in its own way",
      allowed: "PgClient's own decoding of these types: use PgSession.layer, which has connections of its own"
    })
  }
  if (typeof version !== "number" || version < minVersion) {
    return new InvalidSessionConfig({
      setting: "url",
      value: `a server of version ${String(versionText)}`,
      allowed: "a server of PostgreSQL 14 or later"
    })
  }
  if (inRecovery === true) {
    return new SessionStoreUnavailable({
      operation: "check the server",
      reason: "DatabaseError",
      outcome: "NotApplied",
      detail: "the server is in recovery (a standby), where nothing can be written: point the url to the primary"
    })
  }
  if (isolation !== "read committed") {
    return new InvalidSessionConfig({
      setting: "default_transaction_isolation",
      value: String(isolation),
      allowed: alterRole("default_transaction_isolation", "read committed")
    })
  }
  if (synchronousCommit === "off") {
    return new InvalidSessionConfig({
      setting: "synchronous_commit",
      value: "off",
      allowed: alterRole("synchronous_commit", "on")
    })
  }
  if (readOnly === "on") {
    return new InvalidSessionConfig({
      setting: "default_transaction_read_only",
      value: "on",
      allowed: alterRole("default_transaction_read_only", "off")
    })
  }
  return undefined
}
