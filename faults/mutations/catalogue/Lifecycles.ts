/** Logins, rotations, uses and ends in PostgreSQL, and its clock. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const sql = "packages/pg/src/internal/sql"
const functions = `${sql}/Functions.ts`
const texts = `${sql}/Text.ts`
const touch = `${sql}/Touch.ts`
const remove = `${sql}/Delete.ts`
const sweep = `${sql}/Sweep.ts`
const { conformance, limits, storage, storageParts } = inPg

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "sql-touch-live",
    guarantee: "G4",
    step: "a touch revives no session whose deadline has passed",
    edits: [edit(touch, `where \${isLive("l", "c.at")}`, "where c.at is not null")],
    tests: [conformance],
    only: "does not revive|a touch sets the last access"
  },
  {
    name: "sql-touch-larger",
    guarantee: "G6",
    step: "a touch keeps the larger of both times",
    edits: [
      edit(touch, "where s.key = v.key and v.latter > v.former", "where s.key = v.key"),
      edit(
        touch,
        'greatest(l.last_accessed_at, ${earlyClock} - ${interval("l.age")})',
        '${earlyClock} - ${interval("l.age")}'
      )
    ],
    tests: [conformance],
    only: "a last access never moves|a touch sets the last access|a touch tells nobody"
  },
  {
    name: "sql-touch-row-lock",
    guarantee: "G4",
    step: "a touch judges the locked row, by the clock after the wait",
    edits: [edit(touch, "order by s.key for no key update of s", "order by s.key")],
    tests: [storageParts],
    only: "a touch that waits|waiting for a row does not|a batch that must not"
  },
  {
    name: "sql-touch-age",
    guarantee: "G6",
    step: "ages count from before the wait for rows",
    edits: [edit(touch, '${earlyClock} - ${interval("l.age")}', '${lateClock} - ${interval("l.age")}')],
    tests: [storageParts],
    only: "waiting for a row does not|a batch that must not wait"
  },
  {
    name: "sql-delete-proof",
    guarantee: "G9",
    step: "a logout needs the secret's hash",
    edits: [edit(remove, `\${isProven("l", "$2::text", "c.at")}`, "$2::text <> ''")],
    tests: [conformance],
    only: "where a proof is given|a session is ended once"
  },
  {
    name: "sql-delete-expired",
    guarantee: "G6",
    step: "an ending leaves to the sweep what has expired, so that each session is reported once",
    edits: [
      edit(
        remove,
        `where s.key = l.key and \${isLive("l", "c.at")} and \${accepted}`,
        "where s.key = l.key and ${accepted}"
      )
    ],
    tests: [conformance],
    only: "a deletion leaves expired|a session is ended once"
  },
  {
    name: "sql-delete-dubious",
    guarantee: "G4",
    step: "an ending of many waits for sessions that were touched just before their deadline",
    edits: [edit(remove, "union all select d.key from dubious d")],
    tests: [storageParts],
    only: "an ending of many waits|a batch that must not wait"
  },
  {
    name: "sql-delete-notice",
    guarantee: "G4",
    step: "an ending of many announces its user, group or all",
    edits: [edit(remove, "as n from ended) e where e.n > 0`", "as n from ended) e where e.n < 0`")],
    tests: [conformance],
    only: "ending all sessions of a user|all sessions of everybody end"
  },
  {
    name: "sql-delete-notice-each",
    guarantee: "G4",
    step: "an ending of one announces its key",
    edits: [
      edit(
        remove,
        `select 'D' || e.key || '-' as item from ended e`,
        `select 'D' || e.key || '-' as item from ended e where e.key = ''`
      )
    ],
    tests: [conformance],
    only: "a deletion is announced|a session is ended once"
  },
  {
    name: "sql-sweep-row-lock",
    guarantee: "G4",
    step: "a sweep judges rows under their lock: what was touched meanwhile stays",
    edits: [edit(sweep, "order by s.key for update skip locked\n), judged", "order by s.key\n), judged")],
    tests: [storage],
    only: "what a sweep cannot lock|while one node sweeps"
  },
  {
    name: "sql-sweep-one-node",
    guarantee: "G12",
    step: "one node at a time sweeps",
    edits: [
      edit(
        sweep,
        "select pg_try_advisory_xact_lock(hashtextextended(${literal(`sweep ${names.sessions}`)}, 0)) as got",
        "select true as got"
      )
    ],
    tests: [storage],
    only: "what a sweep cannot lock|while one node sweeps"
  },
  {
    name: "sql-sweep-notice",
    guarantee: "G4",
    step: "a sweep announces what has expired",
    edits: [edit(sweep, "as item from expired e\n", "as item from expired e where e.key = ''\n")],
    tests: [conformance],
    only: "expired sessions are ended, reported|a guest's session ends"
  },
  {
    name: "sql-limit",
    guarantee: "G7",
    step: "a login counts the user's sessions",
    edits: [edit(functions, "if cardinality(v_live) >= p_max then", "if cardinality(v_live) < 0 then")],
    tests: [conformance],
    only: "the oldest sessions of a user make room|guests are not limited"
  },
  {
    name: "sql-limit-lock",
    guarantee: "G7",
    step: "logins of one user come one after the other",
    edits: [edit(functions, "`perform pg_advisory_xact_lock(${userLock", "`perform abs(${userLock")],
    tests: [limits],
    only: "reject: exactly|what has expired"
  },
  {
    name: "sql-limit-live",
    guarantee: "G7",
    step: "what has expired does not count",
    edits: [edit(functions, 'where ${others} and ${isLive("s", "v_now")}', "where ${others}")],
    tests: [conformance],
    only: "expired sessions count neither|the oldest sessions of a user make room"
  },
  {
    name: "sql-evicted-notice",
    guarantee: "G4",
    step: "a login announces whom it has ended",
    edits: [edit(functions, 'from unnest(v_evicted) e(key)"', "from unnest(v_evicted) e(key) where e.key = ''\"")],
    tests: [conformance],
    only: "an eviction is announced|the oldest sessions of a user make room"
  },
  {
    name: "sql-rotate-proof",
    guarantee: "G9",
    step: "a rotation needs the secret's hash",
    edits: [edit(functions, ' or ${isProven("v_session", "p_proof", "v_now")} is not true then', " then")],
    tests: [conformance],
    only: "an unknown key or a wrong secret|a rotation replaces the secret"
  },
  {
    name: "load-one-live",
    guarantee: "G6",
    step: "of one session that is loaded the node finds out whether it is live",
    edits: [
      edit(
        "packages/pg/src/internal/sql/Read.ts",
        "const isLive = expiresAt > now && (idleTimeout === undefined || lastAccessedAt + idleTimeout > now)",
        "const isLive = expiresAt > now && (idleTimeout === undefined || lastAccessedAt > 0)"
      )
    ],
    tests: [conformance],
    only: "live exactly until|counts as activity"
  },
  {
    name: "sql-rotate-live",
    guarantee: "G4",
    step: "a rotation revives no session whose deadline has passed",
    edits: [edit(functions, 'if not found or not ${isLive("v_session", "v_now")} or', "if not found or")],
    tests: [conformance],
    only: "is absent for every operation|a rotation replaces the secret"
  },
  {
    name: "sql-rotate-row-lock",
    guarantee: "G4",
    step: "of concurrent rotations with one secret one succeeds",
    edits: [edit(functions, "where s.key = p_key for no key update;", "where s.key = p_key;")],
    tests: [conformance],
    only: "of concurrent rotations|logins of one guest|a rotation replaces the secret"
  },
  {
    name: "sql-rotate-login-grace",
    guarantee: "G4",
    step: "a login leaves the guest's id no grace",
    edits: [edit(functions, "(case when v_changes then 0 else p_grace end)", "p_grace")],
    tests: [conformance],
    only: "the old secret is dead|a rotation replaces the secret"
  },
  {
    name: "sql-rotate-other-user",
    guarantee: "G9",
    step: "a login as somebody else drops what the other one had",
    edits: [
      edit(
        functions,
        "when v_changes and v_session.user_id is not null then '{}'",
        "when v_changes and v_session.user_id = '' then '{}'"
      )
    ],
    tests: [conformance],
    only: "another user does not inherit|a rotation replaces the secret"
  },
  {
    name: "sql-late-clock",
    guarantee: "G6",
    step: "statements that lock judge deadlines by the clock once their locks are held",
    edits: [edit(texts, `"date_trunc('milliseconds', clock_timestamp())"`, `"date_trunc('milliseconds', now())"`)],
    tests: [storage],
    only: "deadline that passes while|attribute lifetimes count|secret that was replaced"
  },
  {
    name: "sql-early-clock",
    guarantee: "G6",
    step: "ages, and deadlines where nothing is locked, count by the clock before the snapshot",
    edits: [edit(texts, `"date_trunc('milliseconds', now())"`, `"date_trunc('milliseconds', clock_timestamp())"`)],
    tests: [storageParts],
    only: "waiting for a row does not|a batch that must not"
  },
  {
    name: "sql-former-secret-grace",
    guarantee: "G4",
    step: "a former secret's hash is accepted within its grace only",
    edits: [edit(texts, " and ${session}.former_until > ${at})", " and (${at} is not null))")],
    tests: [conformance],
    only: "after the grace only|within the grace"
  }
]
