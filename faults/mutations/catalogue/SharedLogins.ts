/** Logins that share a statement in PostgreSQL. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const many = "packages/pg/src/internal/sql/CreateMany.ts"
const { conformance, tryCreate } = inPg
const inBatches =
  "each user has a limit|evictions are announced|expired sessions count neither|sessions of users and guests are created at once"

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "sql-logins-lock",
    guarantee: "G7",
    step: "a shared login has the lock of its user, or leaves it",
    edits: [edit(many, '${userLock(names, "u.name")}) is false then', '${userLock(names, "u.name")}) is null then')],
    tests: [tryCreate]
  },
  {
    name: "sql-logins-limit",
    guarantee: "G7",
    step: "a shared login counts the user's sessions",
    edits: [edit(many, "s where s.user_id = u.name) >= u.max)", "s where s.user_id = u.name) < 0)")],
    tests: [conformance],
    only: inBatches
  },
  {
    name: "sql-logins-reject",
    guarantee: "G7",
    step: "a shared login beyond the limit is refused where that is the rule",
    edits: [edit(many, "when u.reject then 'T'\n")],
    tests: [conformance],
    only: inBatches
  },
  {
    name: "sql-logins-expired",
    guarantee: "G6",
    step: "whether one of the user's sessions has expired is left to who has its lock",
    edits: [edit(many, "when not bool_and(s.live) then 'L'\n")],
    tests: [tryCreate, conformance],
    only: `leave it to the database's locks|${inBatches}`
  },
  {
    name: "sql-logins-oldest",
    guarantee: "G7",
    step: "those of the oldest logins end",
    edits: [edit(many, "order by l.login desc, l.key desc", "order by l.login, l.key")],
    tests: [conformance],
    only: inBatches
  },
  {
    name: "sql-logins-held",
    guarantee: "G7",
    step: "a shared login ends only sessions whose locks it has",
    edits: [edit(many, "<@ v_held then o.outcome", "is not null then o.outcome")],
    tests: [tryCreate]
  },
  {
    name: "sql-logins-owner",
    guarantee: "G4",
    step: "a shared login ends no session that became another user's since it was chosen",
    edits: [edit(many, " and s.user_id = ${among(losers)}")],
    tests: [tryCreate]
  },
  {
    name: "sql-logins-tied",
    guarantee: "G12",
    step: "a shared login does not wait for the locks that end with a session",
    edits: [edit(many, "l.session_key = s.key)", "l.session_key = s.key and false)")],
    tests: [tryCreate]
  },
  {
    name: "sql-logins-notice",
    guarantee: "G4",
    step: "shared logins announce whom they have ended",
    edits: [edit(many, "if cardinality(v_evicted) > 0 then", "if cardinality(v_evicted) < 0 then")],
    tests: [conformance],
    only: inBatches
  },
  {
    name: "sql-logins-inserted",
    guarantee: "G5",
    step: "a shared login that was not inserted is not answered as done",
    edits: [edit(many, "if v_created <> ", "if v_created < 0 and v_created <> ")],
    tests: [tryCreate]
  }
]
