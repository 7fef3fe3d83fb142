/** What the functions behind locks check, lock and announce. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const functions = "packages/pg/src/internal/sql/LockFunctions.ts"
const { conformance, locks } = inPg

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "sql-lock-held",
    guarantee: "G8",
    step: "a lock that is held is not granted",
    edits: [edit(functions, "      v_live := v_live + 1;", "      v_live := v_live + 0;")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-row",
    guarantee: "G8",
    step: "a lock's row is locked before it is decided whom it is granted to",
    edits: [
      edit(
        functions,
        "v_queue\n    from ${names.locks} l where l.name = p_lock for no key update;\n    exit",
        "v_queue\n    from ${names.locks} l where l.name = p_lock;\n    exit"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-token",
    guarantee: "G8",
    step: "a token that is not larger than those before fails the grant",
    edits: [edit(functions, "if v_token <= any(v_tokens) then", "if v_token < 0 then")],
    tests: [locks],
    only: "nothing is granted by a sequence|a lock has one holder"
  },
  {
    name: "sql-lock-turn",
    guarantee: "G8",
    step: "a lock that was freed is kept for the node whose turn it is",
    edits: [
      edit(
        functions,
        "(cardinality(v_queue) = 0 or v_queue[1] = p_node or",
        "(cardinality(v_queue) >= 0 or v_queue[1] = p_node or"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-turn-ends",
    guarantee: "G8",
    step: "a node that does not come in its turn holds nobody up",
    edits: [edit(functions, 'v_now >= v_ends[v_free] + ${interval("p_turn")} or', "v_now < '-infinity' or")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-clock-back",
    guarantee: "G8",
    step: "nor does a clock that was set back",
    edits: [edit(functions, ' or v_now < v_ends[v_free] - ${interval("p_turn")}) then', ") then")],
    tests: [locks],
    only: "a released permit is free although|a lock has one holder"
  },
  {
    name: "sql-lock-fewer-permits",
    guarantee: "G8",
    step: "where a lock has fewer permits than before, no former token stays valid",
    edits: [edit(functions, "if cardinality(v_ends) > p_permits then", "if cardinality(v_ends) < 0 then")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-same-owner",
    guarantee: "G8",
    step: "who asks again, because an answer was lost, is answered the same grant",
    edits: [edit(functions, "if v_owners[i] = p_owner then", "if v_owners[i] = '' then")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-lock-session",
    guarantee: "G8",
    step: "no lock of a session that has ended is granted or extended",
    edits: [edit(functions, "`p_session is not null\n    and not exists", "`p_session = ''\n    and not exists")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-extend-token",
    guarantee: "G8",
    step: "a lease is extended by its token",
    edits: [edit(functions, "v_tokens[v_slot]::text <> p_token or ")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-extend-owner",
    guarantee: "G8",
    step: "and only by its owner",
    edits: [
      edit(
        functions,
        "v_slot := array_position(v_owners, p_owner);\n  if v_slot is null or v_tokens",
        "v_slot := array_position(v_tokens::text[], p_token);\n  if v_slot is null or v_tokens"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-extend-ended",
    guarantee: "G8",
    step: "a lease that has ended is not extended",
    edits: [edit(functions, " or v_ends[v_slot] <= v_now or ", " or ")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-extend-row-lock",
    guarantee: "G8",
    step: "an extension looks at the locked row",
    edits: [
      edit(
        functions,
        "into v_owners, v_tokens, v_ends\n  from ${names.locks} l where l.name = p_lock for no key update;",
        "into v_owners, v_tokens, v_ends\n  from ${names.locks} l where l.name = p_lock;"
      )
    ],
    tests: [locks],
    only: "who waited for the row|a lock has one holder|who was granted it extends it"
  },
  {
    name: "sql-extend-never-shorter",
    guarantee: "G8",
    step: "an extension never shortens a lease",
    edits: [edit(functions, 'if v_ends[v_slot] < v_now + ${interval("p_lease")} then', "if v_slot > 0 then")],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-release-owner",
    guarantee: "G8",
    step: "only its owner releases a lock",
    edits: [
      edit(
        functions,
        "v_slot := array_position(v_owners, p_owner);\n  if v_slot is null then return; end if;",
        "v_slot := coalesce(array_position(v_owners, p_owner), 1);"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-release-keeps-token",
    guarantee: "G8",
    step: "a released lock keeps its token, which fencing compares with",
    edits: [
      edit(
        functions,
        "v_owners[v_slot] := null;\n  if released then v_ends[v_slot] := v_now; end if;\n  update ${names.locks} l set owners = v_owners, ends = v_ends where",
        "v_owners[v_slot] := null;\n  if released then v_ends[v_slot] := v_now; end if;\n  update ${names.locks} l set owners = v_owners, ends = v_ends, tokens = array_fill(0::bigint, array[cardinality(v_ends)]) where"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-release-row-lock",
    guarantee: "G8",
    step: "a release looks at the locked row",
    edits: [
      edit(
        functions,
        "  v_slot int;\nbegin\n  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue\n  from ${names.locks} l where l.name = p_lock for no key update;",
        "  v_slot int;\nbegin\n  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue\n  from ${names.locks} l where l.name = p_lock;"
      )
    ],
    tests: [locks],
    only: "a release that waited|a lock has one holder|who was granted it extends it"
  },
  {
    name: "sql-leave-tells",
    guarantee: "G8",
    step: "a node that gives up its turn tells the next one",
    edits: [
      edit(
        functions,
        "if v_first = p_node and cardinality(v_queue) > 0",
        "if v_first = '' and cardinality(v_queue) > 0"
      )
    ],
    tests: [conformance],
    only: "PgSessionLocks"
  },
  {
    name: "sql-queue-bound",
    guarantee: "G10",
    step: "a lock's queue is bounded",
    edits: [edit(functions, "const maxQueue = 256", "const maxQueue = 1_000_000")],
    tests: [locks],
    only: "no more than 256|a lock has one holder"
  }
]
