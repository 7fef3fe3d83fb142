/** Does what a client asks, and says what the library answered: every typed error has its place, anything else is a defect. */
import {
  type AttributeVersionMismatch,
  type Fenced,
  GroupId,
  type LockAlreadyHeld,
  type LockLost,
  type LockService,
  type LockTimeout,
  type ReadError,
  Session,
  SessionId,
  SessionKey,
  type Sessions,
  type TooManySessions,
  UserId,
  type VersionMismatch,
  type WriteError
} from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Outcome, Request } from "../History.ts"
import { Count, Elevated, Note, snapshot } from "./Attributes.ts"
import { underLock } from "./UnderLock.ts"

/** What a node is made of. */
export interface Services {
  readonly sessions: Sessions
  readonly locks: LockService
  readonly sql: SqlClient
}

/** Sessions that this node has seen, by their ids, the latest state of each: a caller that holds one for long. */
const seen = new Map<string, Session>()
const maxSeen = 500

const remember = (session: Session): void => {
  const token = Redacted.value(session.id)
  seen.delete(token)
  seen.set(token, session)
  const [oldest] = seen.keys()
  if (seen.size > maxSeen && oldest !== undefined) seen.delete(oldest)
}

const gone: Outcome = { _tag: "Gone" }

const answered = (session: Session, isNew = false): Effect.Effect<Outcome> =>
  Effect.map(snapshot(session), (taken) => {
    remember(session)
    return { _tag: "Session", session: taken, ...(isNew && { token: Redacted.value(session.id) }) }
  })

const withId = <E>(token: string, use: (id: SessionId) => Effect.Effect<Outcome, E>): Effect.Effect<Outcome, E> =>
  Option.match(SessionId.fromString(token), { onNone: () => Effect.succeed(gone), onSome: use })

const perform = ({ locks, sessions, sql }: Services, request: Request): Effect.Effect<Outcome, LibraryError> => {
  switch (request._tag) {
    case "Create": {
      const options = {
        groupId: request.group === undefined ? undefined : GroupId.make(request.group),
        expiresIn: request.expiresIn,
        idleTimeout: request.idleTimeout
      }
      const created =
        request.user === undefined
          ? sessions.createAnonymous(options)
          : sessions.create(UserId.make(request.user), options)
      return Effect.flatMap(created, (session) => answered(session, true))
    }
    case "Read":
      return withId(request.token, (id) =>
        Effect.flatMap(
          sessions.find(id, {
            touch: request.touch,
            refresh: request.refresh,
            minVersion: request.minVersion === undefined ? undefined : BigInt(request.minVersion)
          }),
          Option.match({ onNone: () => Effect.succeed(gone), onSome: (session) => answered(session) })
        )
      )
    case "Forge":
      return withId(request.token, (id) =>
        Effect.flatMap(
          sessions.find(id),
          Option.match({ onNone: () => Effect.succeed(gone), onSome: (session) => answered(session) })
        )
      )
    case "Update":
      return withId(request.token, (id) =>
        Effect.gen(function* () {
          const old = request.onOld ? seen.get(request.token) : undefined
          const base = old ?? (yield* sessions.get(id, { touch: false }))
          const { write } = request
          const changed =
            write._tag === "Note"
              ? Session.set(base, Note, write.note)
              : yield* Session.modify(base, Count, (count) => count + 1)
          return yield* answered(yield* sessions.update(changed, { check: request.check }))
        })
      )
    case "Increment":
      return withId(request.token, (id) =>
        Effect.flatMap(
          sessions.modify(
            id,
            Session.modify(Count, (count) => count + 1)
          ),
          (session) => answered(session)
        )
      )
    case "Elevate":
      return withId(request.token, (id) =>
        Effect.flatMap(sessions.modify(id, Session.set(Elevated, true), { check: "none" }), (session) =>
          answered(session)
        )
      )
    case "Rotate":
      return withId(request.token, (id) =>
        Effect.flatMap(
          sessions.rotate(id, {
            grace: request.grace,
            userId: request.user === undefined ? undefined : UserId.make(request.user)
          }),
          (session) => answered(session, true)
        )
      )
    case "Delete":
      return withId(request.token, (id) => Effect.as(sessions.delete(id), done(undefined)))
    case "DeleteByKey":
      return Effect.map(sessions.deleteByKey(SessionKey.make(request.key)), (any) => done(any ? 1 : 0))
    case "DeleteUser":
      return Effect.map(
        sessions.deleteAllForUser(UserId.make(request.user), {
          except: request.except === undefined ? undefined : SessionKey.make(request.except)
        }),
        done
      )
    case "DeleteGroup":
      return Effect.map(sessions.deleteAllForGroup(GroupId.make(request.group)), done)
    case "List":
      return Effect.map(sessions.listForUser(UserId.make(request.user)), (found) => ({
        _tag: "Listed",
        sessions: found.map(({ key, version }) => ({ key, version: Number(version) }))
      }))
    case "Lock":
      return underLock({ locks, sessions, sql }, request)
    case "Sweep":
      return Effect.map(sessions.sweep, done)
  }
}

const done = (count: number | undefined): Outcome => ({ _tag: "Done", count })

/** Every error that the operations declare. */
type LibraryError =
  | ReadError
  | WriteError
  | TooManySessions
  | VersionMismatch
  | AttributeVersionMismatch
  | Fenced
  | LockTimeout
  | LockAlreadyHeld
  | LockLost

const failed = (error: LibraryError): Effect.Effect<Outcome> => {
  switch (error._tag) {
    case "SessionNotFound":
      return Effect.succeed(gone)
    case "SessionStoreUnavailable":
      return Effect.succeed({ _tag: "Unavailable", reason: error.reason, applied: error.outcome })
    case "VersionMismatch":
    case "AttributeVersionMismatch":
      return Effect.map(snapshot(error.current), (current) => ({
        _tag: "Mismatch",
        expected: Number(error.expected),
        actual: Number(error.actual),
        current
      }))
    default:
      return Effect.succeed({ _tag: "Refused", error: error._tag })
  }
}

/** Total: a defect is an outcome, too. */
export const outcomeOf = (services: Services, request: Request): Effect.Effect<Outcome> =>
  Effect.result(perform(services, request)).pipe(
    Effect.flatMap(Result.match({ onSuccess: (outcome) => Effect.succeed(outcome), onFailure: failed })),
    Effect.exit,
    Effect.map((exit) =>
      Exit.isSuccess(exit) ? exit.value : { _tag: "Defect", message: Cause.pretty(exit.cause).slice(0, 2_000) }
    )
  )
