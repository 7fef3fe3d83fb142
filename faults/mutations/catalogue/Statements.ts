/** What PostgreSQL's statements and functions check, lock and announce. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const sql = "packages/pg/src/internal/sql"
const write = `${sql}/Write.ts`
const one = `${sql}/WriteOne.ts`
const current = `${sql}/WriteCurrent.ts`
const functions = `${sql}/Functions.ts`
const texts = `${sql}/Text.ts`
const touch = `${sql}/Touch.ts`
const remove = `${sql}/Delete.ts`
const sweep = `${sql}/Sweep.ts`
const { conformance, fence, limits, lostUpdates, storage, storageParts, tryWrite, tryWriteRaces } = inPg

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "sql-write-version",
    guarantee: "G3",
    step: "the statement for many changes compares the session's version",
    edits: [edit(write, "when n.expected_version <> n.version then 'V'", "when n.expected_version < 0 then 'V'")],
    tests: [conformance],
    only: "an expected version is required exactly|an accepted change increments"
  },
  {
    name: "sql-write-attributes",
    guarantee: "G3",
    step: "it compares the versions of attributes",
    edits: [edit(write, "when m.name is not null then 'A'", "when m.name = '' then 'A'")],
    tests: [conformance],
    only: "expected attribute versions are required|an accepted change increments"
  },
  {
    name: "sql-write-proof",
    guarantee: "G9",
    step: "it demands the secret's hash",
    edits: [edit(write, ` or \${isProven("n", "n.proof", "n.at")} is not true then 'G'`, " then 'G'")],
    tests: [conformance],
    only: "proved by the wrong secret|an accepted change increments"
  },
  {
    name: "sql-write-live",
    guarantee: "G6",
    step: "it changes no session that has expired",
    edits: [edit(write, `or not \${isLive("n", "n.at")} or`, "or")],
    tests: [conformance],
    only: "is absent for every operation|an accepted change increments"
  },
  {
    name: "sql-write-size",
    guarantee: "G10",
    step: "it limits the session's size",
    edits: [edit(write, "when n.new_bytes > n.max_bytes then 'B'")],
    tests: [conformance],
    only: "what a change replaces or removes does not count|an accepted change increments"
  },
  {
    name: "sql-write-locked-row",
    guarantee: "G3",
    step: "it computes everything from the locked row",
    edits: [
      edit(write, `order by s.key for no key update\${locked === "skip" ? " skip locked" : ""}`, "order by s.key")
    ],
    tests: [storageParts],
    only: "a batch that waits|a batch that must not|waiting for a row does not"
  },
  {
    name: "sql-write-notice",
    guarantee: "G1",
    step: "it announces what it has changed",
    edits: [edit(write, "where k.notify or k.new_expires_at", "where k.new_expires_at")],
    tests: [conformance],
    only: "a change is announced with|of a batch those are announced|an accepted change increments"
  },
  {
    name: "sql-write-silent-limits",
    guarantee: "G6",
    step: "it announces a limit that became shorter, also where updates are silent",
    edits: [
      edit(
        write,
        "where k.notify or k.new_expires_at < k.expires_at or k.new_idle_timeout < k.idle_timeout",
        "where k.notify"
      )
    ],
    tests: [conformance],
    only: "a limit that becomes shorter|an accepted change increments"
  },
  {
    name: "sql-write-silent-group",
    guarantee: "G4",
    step: "it announces another group, also where updates are silent",
    edits: [edit(write, "or k.new_group_id is distinct from k.group_id")],
    tests: [conformance],
    only: "a limit that becomes shorter|an accepted change increments"
  },
  {
    name: "sql-fence-token",
    guarantee: "G8",
    step: "a write with a fence needs the token of the latest grant",
    edits: [edit(write, "and n.token = any(f.tokens::text[])")],
    tests: [fence]
  },
  {
    name: "sql-fence-lock",
    guarantee: "G8",
    step: "it keeps the lock from being granted until it is committed",
    edits: [edit(write, `order by l.name for share\${locked === "skip" ? " skip locked" : ""}`, "order by l.name")],
    tests: [fence]
  },
  {
    name: "sql-one-version",
    guarantee: "G3",
    step: "the function for one change compares the session's version",
    edits: [edit(one, "if p_version <> v_row.version then", "if p_version < 0 then")],
    tests: [conformance],
    only: "an expected version is required exactly|an accepted change increments"
  },
  {
    name: "sql-one-attributes",
    guarantee: "G3",
    step: "it compares the versions of attributes",
    edits: [edit(one, "if v_actual <> (p_expected -> i ->> 1)::bigint then", "if v_actual < 0 then")],
    tests: [conformance],
    only: "expected attribute versions are required|an accepted change increments"
  },
  {
    name: "sql-one-proof",
    guarantee: "G9",
    step: "it demands the secret's hash",
    edits: [edit(one, ` or \${isProven("v_row", "p_proof", "v_now")} is not true then`, " then")],
    tests: [conformance],
    only: "proved by the wrong secret|an accepted change increments"
  },
  {
    name: "sql-one-live",
    guarantee: "G6",
    step: "it changes no session that has expired",
    edits: [edit(one, `if not \${isLive("v_row", "v_now")} or`, "if")],
    tests: [conformance],
    only: "is absent for every operation|an accepted change increments"
  },
  {
    name: "sql-one-row-lock",
    guarantee: "G3",
    step: "it locks the row before it looks at it",
    edits: [edit(one, "where s.key = p_key for no key update;", "where s.key = p_key;")],
    tests: [lostUpdates]
  },
  {
    name: "sql-one-row-lock-skip",
    guarantee: "G3",
    step: "so it does where it does not wait",
    edits: [edit(one, "where s.key = p_key for no key update skip locked;", "where s.key = p_key;")],
    tests: [storageParts],
    only: "a change alone that must not|a batch that must not"
  },
  {
    name: "sql-one-clock",
    guarantee: "G6",
    step: "it reads the clock once it has the row",
    edits: [edit(one, "  v_now := ${lateClock};", `  v_now := date_trunc('milliseconds', now());`)],
    tests: [storage],
    only: "deadline that passes while|attribute lifetimes count|secret that was replaced"
  },
  {
    name: "sql-one-silent-limits",
    guarantee: "G6",
    step: "it announces a limit that became shorter, also where updates are silent",
    edits: [edit(one, "if p_notify or v_new.expires_at < v_row.expires_at or", "if p_notify or")],
    tests: [conformance],
    only: "a limit that becomes shorter|an accepted change increments"
  },
  {
    name: "sql-current-version",
    guarantee: "G3",
    step: "the short statement changes only the version that it was made on",
    edits: [edit(current, "`l.version = ${version} and ", "`(l.version = ${version} or true) and ")],
    tests: [tryWriteRaces]
  },
  {
    name: "sql-current-proof",
    guarantee: "G9",
    step: "it demands the secret's hash",
    edits: [edit(current, ` and \${isProven("l", proof, at)}`, " and (${proof} is not null)")],
    tests: [tryWrite],
    only: "leaves to the general|keeps values"
  },
  {
    name: "sql-current-live",
    guarantee: "G6",
    step: "it changes no session that has expired",
    edits: [edit(current, ` and \${isLive("l", at)}`)],
    tests: [tryWrite],
    only: "leaves to the general|keeps values"
  },
  {
    name: "sql-current-expired-attributes",
    guarantee: "G6",
    step: "it leaves sessions with expired attributes to the general statement",
    edits: [edit(current, "and (l.attributes_expire_at is null or l.attributes_expire_at > ${at})")],
    tests: [tryWrite],
    only: "leaves to the general|keeps values"
  },
  {
    name: "sql-current-size",
    guarantee: "G10",
    step: "it limits the session's size",
    edits: [
      edit(current, "(${limit} is null or l.attribute_bytes + ${growth} <= ${limit})", "(${limit} is null or true)")
    ],
    tests: [tryWrite],
    only: "leaves to the general|keeps values"
  },
  {
    name: "sql-current-locked-row",
    guarantee: "G3",
    step: "alone, it compares with the locked row, not with its snapshot",
    edits: [edit(current, "where s.key = $1 for no key update skip locked", "where s.key = $1")],
    tests: [tryWriteRaces],
    only: "a touch is|a change of another attribute is|a change of the same attribute is"
  },
  {
    name: "sql-current-locked-rows",
    guarantee: "G3",
    step: "so it does for many",
    edits: [
      edit(current, `where s.key = \${among("$1")} for no key update skip locked`, `where s.key = \${among("$1")}`)
    ],
    tests: [tryWriteRaces],
    only: "a touch is|a change of another attribute is|a change of the same attribute is"
  },
  {
    name: "sql-current-checked-attributes",
    guarantee: "G3",
    step: "it is not for changes whose checks fail on the caller's own copy",
    edits: [edit(current, "if ((baseAttributes.get(name)?.version ?? 0n) !== version) return undefined")],
    tests: [tryWrite],
    only: "leaves to the general|keeps values"
  },
  {
    name: "sql-current-notice",
    guarantee: "G1",
    step: "alone, it announces what it has changed",
    edits: [edit(current, "case when $6::int & ${notifies} <> 0", "case when $6::int & ${notifies} < 0")],
    tests: [conformance],
    only: "a change is announced with|of a batch those are announced|an accepted change increments|must not wait is answered"
  },
  {
    name: "sql-current-notices",
    guarantee: "G1",
    step: "so it does for many",
    edits: [edit(current, "where u.flags & ${notifies} <> 0", "where u.flags & ${notifies} < 0")],
    tests: [conformance],
    only: "a change is announced with|of a batch those are announced|an accepted change increments|must not wait is answered"
  },
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
    only: "a touch that waits|waiting for a row does not"
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
    edits: [edit(functions, "`perform pg_advisory_xact_lock(hashtextextended(", "`perform abs(hashtextextended(")],
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
    step: "statements that only read judge them by the clock before their snapshot",
    edits: [edit(texts, `"date_trunc('milliseconds', now())"`, `"date_trunc('milliseconds', clock_timestamp())"`)],
    tests: [storage],
    only: "somebody else touched while|secret that was replaced"
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
