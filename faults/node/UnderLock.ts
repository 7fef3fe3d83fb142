/**
 * Increments something under a lock, on purpose not atomically: reads, waits, and
 * writes one more. Whoever receives the write checks the token of the lease.
 */
import {
  type Lease,
  type LockService,
  Session,
  SessionId,
  SessionNotFound,
  type Sessions,
  SessionStoreUnavailable
} from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Outcome, Request, Section } from "../History.ts"
import { now } from "../Timing.ts"
import { Guarded } from "./Attributes.ts"
import { longestSince } from "./Pauses.ts"

type LockRequest = Extract<Request, { readonly _tag: "Lock" }>

/** The receiver that the harness brings along: a row that remembers the largest token it has seen. */
const counterTable = "faults_counters"

class Notes {
  readonly token: number
  readonly grantedAt = now()
  readonly steps: Array<{ readonly at: number; readonly pause: number }> = []
  knownAt: number | undefined = undefined
  writing = false
  written: number | undefined = undefined
  fenced = false

  constructor(lease: Lease) {
    this.token = Number(lease.token)
  }

  readonly step = Effect.sync(() => {
    this.steps.push({ at: now(), pause: longestSince(this.grantedAt) })
  })

  get section(): Section {
    const { fenced, grantedAt, knownAt, steps, token, writing, written } = this
    return { token, grantedAt, knownAt: knownAt ?? grantedAt, steps, writing, written, fenced }
  }
}

/** How long a part of the work takes, in milliseconds: after each it is noted that it goes on. */
const part = 50

const work = (notes: Notes, millis: number): Effect.Effect<void> =>
  Effect.suspend(() =>
    millis <= 0
      ? Effect.void
      : Effect.andThen(Effect.sleep(Math.min(part, millis)), Effect.andThen(notes.step, work(notes, millis - part)))
  )

const lost = () =>
  new SessionStoreUnavailable({
    operation: "count under the lock",
    reason: "Unreachable",
    outcome: "Unknown",
    detail: "the harness's own statement failed"
  })

const countInRow = (sql: SqlClient, lease: Lease, { hold, lock }: LockRequest, notes: Notes) =>
  Effect.gen(function* () {
    const token = String(lease.token)
    // Until the receiver has been told of this token it must take the one before: a statement that gets lost on the way tells it nothing.
    notes.knownAt = Number.MAX_SAFE_INTEGER
    yield* notes.step
    const [row] = yield* sql<{ readonly value: number }>`
      update ${sql(counterTable)} set token = ${token}::bigint
      where name = ${lock} and token <= ${token}::bigint returning value`
    if (row === undefined) {
      notes.fenced = true
      return
    }
    notes.knownAt = now()
    yield* work(notes, hold)
    const value = row.value + 1
    notes.writing = true
    const written = yield* sql`
      update ${sql(counterTable)} set value = ${value} where name = ${lock} and token = ${token}::bigint returning 1`
    if (written.length === 0) notes.fenced = true
    else notes.written = value
  }).pipe(Effect.mapError(lost))

const countInSession = (sessions: Sessions, id: SessionId, lease: Lease, { hold }: LockRequest, notes: Notes) =>
  Effect.gen(function* () {
    yield* notes.step
    const session = yield* sessions.get(id, { refresh: true, touch: false })
    const value = (yield* Effect.orDie(Session.get(session, Guarded))) + 1
    yield* work(notes, hold)
    notes.writing = true
    // Whether the lease has been lost or not: what the database says of the token is worth knowing.
    const saved = yield* Effect.uninterruptible(
      Effect.result(sessions.update(Session.set(session, Guarded, value), { check: "none", fence: lease }))
    )
    if (Result.isSuccess(saved)) notes.written = value
    else if (saved.failure._tag === "Fenced") notes.fenced = true
    else return yield* saved.failure
  })

/** The whole of it, from asking for the lock to what became of it. */
export const underLock = (
  services: { readonly sessions: Sessions; readonly locks: LockService; readonly sql: SqlClient },
  request: LockRequest
) =>
  Effect.gen(function* () {
    const { locks, sessions, sql } = services
    const id = Option.getOrUndefined(SessionId.fromString(request.token ?? ""))
    if (request.token !== undefined && id === undefined) return yield* new SessionNotFound({ key: undefined })
    let notes: Notes | undefined = undefined
    const ended = yield* Effect.result(
      locks.withLock(
        request.lock,
        (lease) => {
          const taken = new Notes(lease)
          notes = taken
          const counting =
            id === undefined
              ? countInRow(sql, lease, request, taken)
              : countInSession(sessions, id, lease, request, taken)
          return request.stubborn ? Effect.uninterruptible(counting) : counting
        },
        { wait: "2 seconds" }
      )
    )
    const granted: Notes | undefined = notes
    return yield* outcome(granted, ended)
  })

const outcome = <E extends { readonly _tag: string }>(
  notes: Notes | undefined,
  ended: Result.Result<void, E>
): Effect.Effect<Outcome, E> => {
  if (notes !== undefined) {
    const how = Result.isSuccess(ended) ? "Finished" : ended.failure._tag
    return Effect.succeed({ _tag: "Locked", section: notes.section, ended: how })
  }
  return Result.isFailure(ended)
    ? Effect.fail(ended.failure)
    : Effect.die(new Error("a lock was held, and nothing was done under it"))
}
