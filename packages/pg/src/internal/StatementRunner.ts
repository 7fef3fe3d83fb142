/**
 * Runs statements in fibers of the library's own, each bounded in time.
 *
 * - What a caller gets, it gets in time: sql-pg may need five more seconds to
 *   cancel a statement on a connection that is silent, but nobody waits for that.
 * - Waiting for a connection counts into the time, and may take three quarters of it: what is sent has time left to be
 *   answered. Otherwise, under too great a load, each statement would be sent when nobody waits for it any more. What was not sent is withdrawn.
 * - No operation's crowd stands before the others' statements; see `Lines.ts`.
 * - A statement that was sent is not cancelled because its caller was interrupted.
 * - What only reads is sent again once where the connection turns out to be lost. What may
 *   write is never sent twice.
 * - The number of statements waiting or running is bounded, for each operation: a crowd makes nobody else refused.
 * - When the scope closes, what was not sent is refused, and what was sent is waited for, one second at most; then its
 *   caller is told that the outcome is unknown, and sql-pg, that it is given up.
 *
 * The time is real time, whatever the `Clock` says, because the server's is.
 */
import { SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { SqlError } from "effect/sql/SqlError"
import type { Parameter, Row, Statements } from "./Database.ts"
import { Alarms } from "./Alarms.ts"
import { Lines } from "./Lines.ts"
import { inRealTime } from "./RealTime.ts"
import { isLost, unavailable } from "./SqlFailure.ts"

type Rows = ReadonlyArray<Row>

/**
 * Sends one statement on some connection, in autocommit, outside of any
 * transaction. Calls `onSend` once it has the connection, before anything is sent.
 */
export type Transport = (
  sql: string,
  parameters: ReadonlyArray<Parameter>,
  onSend: () => void
) => Effect.Effect<Rows, SqlError>

/** What bounds the statements. */
export interface Limits {
  /** Milliseconds until the caller has an answer. */
  readonly statementTimeout: number
  /** How many statements of one operation may wait or run. */
  readonly maxPending: number
  /** How many statements of one operation may stand in line for a connection, or have one. */
  readonly maxPerOperation: number
}

interface Job {
  /** Its time is up. */
  readonly expire: (limit: number) => void
  /** `undefined` before its turn. */
  readonly fiber: () => Fiber.Fiber<Rows, SqlError> | undefined
  readonly isSent: () => boolean
  /** Answers the caller, and gives the statement up. */
  readonly abandon: () => void
}

/** The part of the time that may go by before a statement is sent. */
const waitPart = 0.75

const closePatience = "1 second"

/** The two operations on a transport, until the scope closes. */
export const make = Effect.fnUntraced(function* (
  transport: Transport,
  limits: Limits
): Effect.fn.Return<Pick<Statements, "read" | "write">, never, Scope.Scope> {
  // Not the callers' context: theirs may hold a transaction.
  const runFork = Effect.runForkWith(yield* Effect.context())
  const jobs = new Set<Job>()
  const lines = new Lines(limits.maxPerOperation)
  const waitLimit = limits.statementTimeout * waitPart
  const toBeSent = new Alarms<Job>(waitLimit, (job) => {
    if (job.isSent()) toBeAnswered.set(job)
    else job.expire(waitLimit)
  })
  const toBeAnswered = new Alarms<Job>(limits.statementTimeout - waitLimit, (job) =>
    job.expire(limits.statementTimeout)
  )
  let closing = false

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closing = true
      for (const job of jobs) {
        if (!job.isSent()) job.abandon()
      }
      return Effect.timeoutOption(
        Effect.interruptible(Fiber.awaitAll(Array.from(jobs, (job) => job.fiber() ?? []).flat())),
        closePatience
      )
    }).pipe(
      Effect.andThen(
        Effect.sync(() => {
          for (const job of jobs) job.abandon()
          toBeSent.close()
          toBeAnswered.close()
        })
      ),
      inRealTime
    )
  )

  const run = (
    kind: "read" | "write",
    operation: string,
    sql: string,
    parameters: ReadonlyArray<Parameter>
  ): Effect.Effect<Rows, SessionStoreUnavailable> =>
    Effect.callback((resume) => {
      if (closing) return resume(closed(operation))
      if (lines.count(operation) >= limits.maxPending) return resume(overloaded(operation, limits.maxPending))
      let sent = false
      let settled = false

      let fiber: Fiber.Fiber<Rows, SqlError> | undefined = undefined

      const statement = transport(sql, parameters, () => {
        sent = true
      })
      const settle = (answer: Effect.Effect<Rows, SessionStoreUnavailable>) => {
        if (settled) return
        settled = true
        resume(answer)
      }
      /** Gives it up: takes it out of its line, or interrupts it. */
      const giveUp = () => {
        if (fiber !== undefined) return fiber.interruptUnsafe()
        done()
        place.leave()
      }
      const done = () => {
        toBeSent.clear(job)
        toBeAnswered.clear(job)
        jobs.delete(job)
      }

      const job: Job = {
        expire: (limit) => {
          settle(timedOut(operation, sent, sent && kind === "write", limit))
          giveUp()
        },
        fiber: () => fiber,
        isSent: () => sent,
        abandon: () => {
          settle(closed(operation, sent && kind === "write"))
          giveUp()
        }
      }
      jobs.add(job)
      toBeSent.set(job)
      const place = lines.enter(operation, () => {
        const started = runFork(kind === "read" ? Effect.catchIf(statement, isLost, () => statement) : statement)
        fiber = started
        started.addObserver((exit) => {
          done()
          // Not on top of what is going on in the pool just now.
          queueMicrotask(() => place.leave())
          settle(
            Exit.isSuccess(exit)
              ? Effect.succeed(exit.value)
              : Effect.failCause(unavailable(operation, exit.cause, sent, kind === "write"))
          )
        })
      })
      return Effect.sync(() => {
        if (!sent) giveUp()
      })
    })

  const traced =
    (kind: "read" | "write"): Statements["read"] =>
    (operation, sql, parameters) =>
      Effect.withFiber((fiber) => {
        // Nobody listens, and a span costs more than the rest of this.
        if (fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer) return run(kind, operation, sql, parameters)
        // A span keeps what its effect answers: rows are none of its business.
        let rows: Rows = []
        return Effect.useSpan(
          "effect-pg-session.statement",
          {
            kind: "client",
            attributes: { "db.system.name": "postgresql", "db.operation.name": operation, "db.query.text": sql }
          },
          () =>
            Effect.map(run(kind, operation, sql, parameters), (answer) => {
              rows = answer
            })
        ).pipe(Effect.map(() => rows))
      })

  return { read: traced("read"), write: traced("write") }
})

const closed = (operation: string, mayHaveApplied = false) =>
  Effect.fail(
    new SessionStoreUnavailable({
      operation,
      reason: "Closed",
      outcome: mayHaveApplied ? "Unknown" : "NotApplied",
      detail: "the scope has closed"
    })
  )

const overloaded = (operation: string, maxPending: number) =>
  Effect.fail(
    new SessionStoreUnavailable({
      operation,
      reason: "Overloaded",
      outcome: "NotApplied",
      detail: `${maxPending} such statements are waiting`
    })
  )

const timedOut = (operation: string, sent: boolean, mayHaveApplied: boolean, timeout: number) =>
  Effect.fail(
    new SessionStoreUnavailable({
      operation,
      reason: "Timeout",
      outcome: mayHaveApplied ? "Unknown" : "NotApplied",
      detail: sent ? `no answer within ${timeout} ms` : `no connection was free or could be opened within ${timeout} ms`
    })
  )
