/** The short statement behind most updates. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const sql = "packages/pg/src/internal/sql"
const current = `${sql}/WriteCurrent.ts`
const { conformance, tryWrite, tryWriteRaces } = inPg

export const mutations: ReadonlyArray<Mutation> = [
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
  }
]
