/**
 * Which server answers: its system identifier, its timeline, and when it was
 * started, as one text. Another text means other data, or data that may have lost
 * commits in a failover.
 *
 * Managed services withhold some of the functions that this takes. The parts that
 * can be had are found out by trying; texts of different parts never equal each
 * other, so that both kinds of connections must use the same.
 */

const systemIdentifier = "(select c.system_identifier::text from pg_catalog.pg_control_system() as c)"
const timeline = `case when pg_catalog.pg_is_in_recovery() then 'recovery'
  else substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) end`
const startTime = "extract(epoch from pg_catalog.pg_postmaster_start_time())::text"

/** SQL expressions of type text, from the most telling to one that every server has. */
export const expressions: readonly [string, ...Array<string>] = [
  `concat_ws('/', ${systemIdentifier}, ${timeline}, ${startTime})`,
  `concat_ws('/', '-', ${timeline}, ${startTime})`,
  `concat_ws('/', ${systemIdentifier}, '-', ${startTime})`,
  `concat_ws('/', '-', '-', ${startTime})`
]
