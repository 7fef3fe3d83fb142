/** Histories written by hand: what a check must find, and what it must not complain about. */
import type { History, Operation, Outcome, Request, Row, Section, Snapshot } from "../../History.ts"

export const key = "AAAAAAAAAAAAAAAAAAAAAA"
export const otherKey = "BBBBBBBBBBBBBBBBBBBBBA"

/** An id of a session; `secret` tells them apart. */
export const token = (secret: string, of = key): string => of + secret.padEnd(43, "A")

export const settings = {
  maxStaleness: 1_000,
  statementTimeout: 1_500,
  shutdownTimeout: 3_000,
  maxSessionsPerUser: 2,
  elevatedFor: 500
} as const

export const history = (operations: ReadonlyArray<Operation>, rest: Partial<History> = {}): History => ({
  settings,
  operations,
  rows: undefined,
  counters: new Map(),
  overLimit: [],
  ends: [],
  unrecovered: [],
  health: [],
  statements: [],
  leaks: [],
  farewell: undefined,
  ...rest
})

export const snapshot = (version: number, rest: Partial<Snapshot> = {}): Snapshot => ({
  key,
  version,
  user: "solo",
  group: undefined,
  count: 0,
  guarded: 0,
  note: "",
  elevated: false,
  ...rest
})

export const session = (version: number, rest: Partial<Snapshot> & { readonly token?: string } = {}): Outcome => {
  const { token: id, ...shown } = rest
  return { _tag: "Session", session: snapshot(version, shown), ...(id !== undefined && { token: id }) }
}

export const gone: Outcome = { _tag: "Gone" }
export const done: Outcome = { _tag: "Done", count: 1 }
export const unknown: Outcome = { _tag: "Unavailable", reason: "Unreachable", applied: "Unknown" }
export const notApplied: Outcome = { _tag: "Unavailable", reason: "Unreachable", applied: "NotApplied" }

let nextId = 1

/** An operation from `start` to `end`, on node "0" unless said otherwise. */
export const operation = (
  start: number,
  end: number,
  request: Request,
  outcome: Outcome,
  rest: Partial<Pick<Operation, "node" | "pause">> = {}
): Operation => ({ id: nextId++, node: "0", pause: 0, start, end, request, outcome, ...rest })

type Of<Tag extends Request["_tag"]> = Extract<Request, { readonly _tag: Tag }>

export const create = (rest: Partial<Of<"Create">> = {}): Request => ({
  _tag: "Create",
  user: "solo",
  group: undefined,
  expiresIn: undefined,
  idleTimeout: undefined,
  ...rest
})

/** The session of every test, begun from 0 to 10. */
export const created = (rest: Partial<Of<"Create">> = {}): Operation =>
  operation(0, 10, create(rest), session(1, { token: token("first"), user: rest.user ?? "solo", group: rest.group }))

export const read = (rest: Partial<Of<"Read">> = {}): Request => ({
  _tag: "Read",
  token: token("first"),
  touch: true,
  refresh: false,
  minVersion: undefined,
  ...rest
})

export const note = (text: string): Request => ({
  _tag: "Update",
  token: token("first"),
  check: "none",
  onOld: false,
  write: { _tag: "Note", note: text }
})

export const increment: Request = { _tag: "Increment", token: token("first") }
export const rotate: Request = { _tag: "Rotate", token: token("first"), user: undefined, grace: 0 }
export const remove: Request = { _tag: "DeleteByKey", key }

export const row = (rest: Partial<Row> = {}): Row => ({
  key,
  user: "solo",
  version: 1,
  count: 0,
  guarded: 0,
  note: "",
  live: true,
  lastAccessedAt: 0,
  ...rest
})

/** Work under a lock, from the grant on in three steps of ten milliseconds. */
export const locked = (
  start: number,
  lockToken: number,
  rest: Partial<Section> & { readonly ended?: string; readonly session?: boolean; readonly stubborn?: boolean } = {}
): Operation => {
  const { ended = "Finished", session: inSession = false, stubborn = false, ...section } = rest
  return operation(
    start,
    start + 40,
    { _tag: "Lock", lock: "lock", token: inSession ? token("first") : undefined, hold: 10, stubborn },
    {
      _tag: "Locked",
      ended,
      section: {
        token: lockToken,
        grantedAt: start + 10,
        knownAt: start + 10,
        writing: true,
        steps: [
          { at: start + 10, pause: 0 },
          { at: start + 20, pause: 0 }
        ],
        written: undefined,
        fenced: false,
        ...section
      }
    }
  )
}
