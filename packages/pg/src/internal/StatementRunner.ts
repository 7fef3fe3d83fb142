/**
 * Runs statements in fibers of the library's own, each bounded in time.
 *
 * - What a caller gets, it gets in time: sql-pg may need five more seconds to
 *   cancel a statement on a connection that is silent, but nobody waits for that.
 * - Waiting for a connection counts into the time; what was not sent is withdrawn.
 * - A statement that was sent is not cancelled because its caller was interrupted.
 * - What only reads is sent again once where the connection turns out to be lost. What may
 *   write is never sent twice.
 * - The number of statements waiting or running is bounded.
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
  /** How many statements may wait or run. */
  readonly maxPending: number
}

interface Job {
  readonly fiber: Fiber.Fiber<Rows, SqlError>
  readonly isSent: () => boolean
  /** Answers the caller, and gives the statement up. */
  readonly abandon: () => void
}

const closePatience = "1 second"

/** setTimeout fires at once where it is given more. */
const maxTimer = 2 ** 31 - 1

/** The two operations on a transport, until the scope closes. */
export const make = Effect.fnUntraced(function* (
  transport: Transport,
  limits: Limits
): Effect.fn.Return<Pick<Statements, "read" | "write">, never, Scope.Scope> {
  // Not the callers' context: theirs may hold a transaction.
  const runFork = Effect.runForkWith(yield* Effect.context())
  const jobs = new Set<Job>()
  let closing = false

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closing = true
      for (const job of jobs) {
        if (!job.isSent()) job.fiber.interruptUnsafe()
      }
      return Effect.timeoutOption(
        Effect.interruptible(Fiber.awaitAll(Array.from(jobs, (job) => job.fiber))),
        closePatience
      )
    }).pipe(
      Effect.andThen(
        Effect.sync(() => {
          for (const job of jobs) job.abandon()
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
      if (jobs.size >= limits.maxPending) return resume(overloaded(operation, limits.maxPending))
      let sent = false
      let settled = false

      const statement = transport(sql, parameters, () => {
        sent = true
      })
      const fiber = runFork(kind === "read" ? Effect.catchIf(statement, isLost, () => statement) : statement)
      const settle = (answer: Effect.Effect<Rows, SessionStoreUnavailable>) => {
        if (settled) return
        settled = true
        resume(answer)
      }
      const expire = () => {
        if (fiber.pollUnsafe() !== undefined) return
        settle(timedOut(operation, sent, sent && kind === "write", limits.statementTimeout))
        fiber.interruptUnsafe()
      }

      const job: Job = {
        fiber,
        isSent: () => sent,
        abandon: () => {
          settle(closed(operation, sent && kind === "write"))
          fiber.interruptUnsafe()
        }
      }
      jobs.add(job)
      // After a pause of this process its timers run before its sockets are read: look there first.
      const timer = setTimeout(() => setImmediate(expire), Math.min(limits.statementTimeout, maxTimer))
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        jobs.delete(job)
        settle(
          Exit.isSuccess(exit)
            ? Effect.succeed(exit.value)
            : Effect.failCause(unavailable(operation, exit.cause, sent, kind === "write"))
        )
      })
      return Effect.sync(() => {
        if (!sent) fiber.interruptUnsafe()
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
      detail: `${maxPending} statements are waiting`
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
