/** The order in which statements lock rows, so that none wait for each other. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const sql = "packages/pg/src/internal/sql"
const tests = [inPg.keyOrder]

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "order-write",
    guarantee: "G3",
    step: "changes of many lock rows in the order of keys",
    edits: [edit(`${sql}/Write.ts`, " order by s.key for no key update", " for no key update")],
    tests
  },
  {
    name: "order-touch",
    guarantee: "G12",
    step: "so do touches",
    edits: [edit(`${sql}/Touch.ts`, "order by s.key for no key update of s", "for no key update of s")],
    tests
  },
  {
    name: "order-delete",
    guarantee: "G4",
    step: "so do endings of many",
    edits: [edit(`${sql}/Delete.ts`, "order by s.key for update", "for update")],
    tests
  },
  {
    name: "order-attribute",
    guarantee: "G3",
    step: "so does the removal of an attribute everywhere",
    edits: [edit(`${sql}/Delete.ts`, "order by s.key for no key update", "for no key update")],
    tests
  },
  {
    name: "order-create",
    guarantee: "G7",
    step: "so does a login that has to make room",
    edits: [
      edit(
        `${sql}/Functions.ts`,
        "where s.user_id = p_user order by s.key for update;",
        "where s.user_id = p_user for update;"
      )
    ],
    tests
  },
  {
    name: "order-rotate",
    guarantee: "G7",
    step: "also where it takes over a guest's session",
    edits: [
      edit(
        `${sql}/Functions.ts`,
        "or s.user_id = p_user order by s.key for update;",
        "or s.user_id = p_user for update;"
      )
    ],
    tests
  },
  {
    name: "order-locks",
    guarantee: "G8",
    step: "fenced changes lock locks in the order of names",
    edits: [edit(`${sql}/Write.ts`, "order by l.name for share", "for share")],
    tests
  },
  {
    name: "order-locks-after-sessions",
    guarantee: "G8",
    step: "and after sessions",
    edits: [
      edit(
        `${sql}/Write.ts`,
        "where l.name = ${anyLock} and (select count(*) from locked) >= 0",
        "where l.name = ${anyLock}"
      )
    ],
    tests,
    redundant: "as PostgreSQL plans the statement, it counts the sessions, and so locks them, first"
  },
  {
    name: "order-tied-sessions",
    guarantee: "G8",
    step: "and lock the sessions that locks are tied to along with the others",
    edits: [
      edit(
        `${sql}/Write.ts`,
        `fenced && locked === "wait" ? \`any(\${keysWithTied(names)})\` : among("$2")`,
        `among("$2")`
      )
    ],
    tests
  }
]
