/** What the statements behind changes check, lock and announce. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const sql = "packages/pg/src/internal/sql"
const write = `${sql}/Write.ts`
const one = `${sql}/WriteOne.ts`
const { conformance, fence, lostUpdates, storage, storageParts } = inPg

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
  }
]
