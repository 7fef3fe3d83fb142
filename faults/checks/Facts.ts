/**
 * What can be concluded from a history, whatever really happened in between: which
 * operations have certainly or possibly taken effect, whether an id was certainly
 * the current one, and whether a session may have ended. Every check that calls
 * something wrong asks here first whether it may have been right.
 */
import type { History, Operation, Snapshot } from "../History.ts"

/** The public part of an id. */
export const keyOf = (token: string): string => token.slice(0, 22)

/** Whether an operation that changes something did so. */
export type Effected = "Yes" | "No" | "Maybe"

/** An unknown outcome counts as either. */
export const effectOf = ({ outcome }: Operation): Effected => {
  switch (outcome._tag) {
    case "Session":
    case "Done":
      return "Yes"
    case "Unavailable":
      return outcome.applied === "Unknown" ? "Maybe" : "No"
    case "Locked":
      return outcome.ended === "Finished" ? "Yes" : "Maybe"
    case "Unanswered":
    case "Defect":
      return "Maybe"
    case "Gone":
    case "Listed":
    case "Mismatch":
    case "Refused":
      return "No"
  }
}

/** Until when an operation may take effect: a statement of unknown outcome may still wait in the server. */
export const effectEnd = (operation: Operation): number => (effectOf(operation) === "Maybe" ? Infinity : operation.end)

/** The sessions that an operation was told of, with their states. */
export const snapshotsOf = ({ outcome }: Operation): ReadonlyArray<Snapshot> => {
  if (outcome._tag === "Session") return [outcome.session]
  return outcome._tag === "Mismatch" ? [outcome.current] : []
}

/** All that is known of one session. */
export interface SessionFacts {
  readonly key: string
  readonly created: Operation | undefined
  /** The operations that present an id of the session, or name its key, in the order of their starts. */
  readonly operations: ReadonlyArray<Operation>
  /** Rotations that may have taken effect. */
  readonly rotations: ReadonlyArray<Operation>
  /** Each id, and the operation that answered it. */
  readonly tokens: ReadonlyMap<string, Operation>
  /** Users it may have belonged to. */
  readonly users: ReadonlySet<string>
  readonly groups: ReadonlySet<string>
}

interface Collected {
  readonly key: string
  created: Operation | undefined
  readonly operations: Array<Operation>
  readonly rotations: Array<Operation>
  readonly tokens: Map<string, Operation>
  readonly users: Set<string>
  readonly groups: Set<string>
}

export class Facts {
  readonly history: History
  readonly sessions: ReadonlyMap<string, SessionFacts>
  /** Operations that may have ended sessions of a user, or of a group. */
  readonly bulkEnds: ReadonlyArray<Operation>
  /** Logins by user. */
  private readonly logins: ReadonlyMap<string, ReadonlyArray<Operation>>

  constructor(history: History) {
    this.history = history
    const sessions = new Map<string, Collected>()
    const logins = new Map<string, Array<Operation>>()
    const bulkEnds: Array<Operation> = []
    const of = (key: string): Collected => {
      const known = sessions.get(key)
      if (known !== undefined) return known
      const created: Collected = {
        key,
        created: undefined,
        operations: [],
        rotations: [],
        tokens: new Map(),
        users: new Set(),
        groups: new Set()
      }
      sessions.set(key, created)
      return created
    }
    for (const operation of [...history.operations].sort((a, b) => a.start - b.start)) {
      const { outcome, request } = operation
      const mayHaveEffect = effectOf(operation) !== "No"
      if ((request._tag === "Create" || request._tag === "Rotate") && request.user !== undefined && mayHaveEffect) {
        const others = logins.get(request.user)
        if (others === undefined) logins.set(request.user, [operation])
        else others.push(operation)
      }
      if ((request._tag === "DeleteUser" || request._tag === "DeleteGroup") && mayHaveEffect) bulkEnds.push(operation)
      const key = keyNamed(operation)
      if (key === undefined) continue
      const facts = of(key)
      facts.operations.push(operation)
      if (request._tag === "Create") facts.created = operation
      if (request._tag === "Rotate" && mayHaveEffect) {
        facts.rotations.push(operation)
        if (request.user !== undefined) facts.users.add(request.user)
      }
      if (outcome._tag === "Session" && outcome.token !== undefined) facts.tokens.set(outcome.token, operation)
      for (const { group, user } of snapshotsOf(operation)) {
        if (user !== undefined) facts.users.add(user)
        if (group !== undefined) facts.groups.add(group)
      }
    }
    this.sessions = sessions
    this.logins = logins
    this.bulkEnds = bulkEnds
  }

  /** Whether the id was certainly the session's current one from when it was answered up to `time`. */
  isCurrent(token: string, time: number): boolean {
    const session = this.sessions.get(keyOf(token))
    const producer = session?.tokens.get(token)
    if (session === undefined || producer === undefined) return false
    return session.rotations.every(
      (rotation) => rotation === producer || rotation.start >= time || effectEnd(rotation) <= producer.start
    )
  }

  /** Whether the session may have ended, by whatever cause, before `time`. */
  mayHaveEnded(key: string, time: number): boolean {
    const created = this.sessions.get(key)?.created
    if (created?.request._tag !== "Create") return true
    const idleTimeout = created.request.idleTimeout ?? Infinity
    return time > created.start + idleTimeout - clockError || this.mayHaveEndedBusy(key, time)
  }

  /** Whether the session may have ended before `time`, other than by not being used. */
  mayHaveEndedBusy(key: string, time: number): boolean {
    const session = this.sessions.get(key)
    if (session?.created === undefined) return true
    const { created } = session
    if (created.request._tag !== "Create") return true
    if (time > created.start + (created.request.expiresIn ?? Infinity) - clockError) return true
    for (const operation of session.operations) {
      if (operation.start >= time) break
      const isDelete = operation.request._tag === "Delete" || operation.request._tag === "DeleteByKey"
      if (isDelete && effectOf(operation) !== "No") return true
    }
    if (this.bulkEnds.some((operation) => operation.start < time && mayEnd(operation, session, created))) return true
    return this.mayHaveBeenEvicted(session, time)
  }

  private mayHaveBeenEvicted({ users }: SessionFacts, time: number): boolean {
    for (const user of users) {
      const logins = this.logins.get(user) ?? []
      const begun = logins.findIndex((login) => login.start >= time)
      if ((begun === -1 ? logins.length : begun) > this.history.settings.maxSessionsPerUser) return true
    }
    return false
  }
}

/** How far apart PostgreSQL's clock, which counts whole milliseconds, and ours may be within one run. */
export const clockError = 10

/** Whether a bulk operation was certain to find the session, if it was still there. */
export const certainlyEnds = (operation: Operation, session: SessionFacts): boolean => {
  const { created } = session
  if (created?.request._tag !== "Create" || created.end >= operation.start) return false
  const { request } = operation
  if (effectOf(operation) !== "Yes") return false
  if (request._tag === "DeleteGroup") return created.request.group === request.group
  return (
    request._tag === "DeleteUser" &&
    request.except !== session.key &&
    created.request.user === request.user &&
    session.users.size === 1
  )
}

const mayEnd = (operation: Operation, session: SessionFacts, created: Operation): boolean => {
  if (effectEnd(operation) < created.start) return false
  const { request } = operation
  if (request._tag === "DeleteUser") return request.except !== session.key && session.users.has(request.user)
  return request._tag === "DeleteGroup" && session.groups.has(request.group)
}

const keyNamed = ({ outcome, request }: Operation): string | undefined => {
  switch (request._tag) {
    case "Create":
      return outcome._tag === "Session" ? outcome.session.key : undefined
    case "DeleteByKey":
      return request.key
    case "Lock":
      return request.token === undefined ? undefined : keyOf(request.token)
    case "Read":
    case "Update":
    case "Increment":
    case "Elevate":
    case "Rotate":
    case "Delete":
    case "Forge":
      return keyOf(request.token)
    case "DeleteUser":
    case "DeleteGroup":
    case "List":
    case "Sweep":
      return undefined
  }
}
