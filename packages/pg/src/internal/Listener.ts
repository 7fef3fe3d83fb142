/**
 * One dedicated connection that listens to one channel. What it adds to
 * `PgConnection`: opening and closing are bounded in time where the network is
 * silent and sql-pg itself would wait for an answer; and what is not taken is
 * bounded in size, as sql-pg's own queue is not.
 *
 * It is a connection of its own, not one of a pool: a small pool must not lose
 * one to a listener, and behind a pooler only a direct connection hears anything.
 */
import { PgConnection } from "@effect/sql-pg"
import { SessionStoreUnavailable } from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { Row } from "./Database.ts"
import { Mailbox } from "./Mailbox.ts"
import { inRealTime } from "./RealTime.ts"
import * as Sockets from "./Sockets.ts"
import { unavailable } from "./SqlFailure.ts"

/** An open listener. */
export interface Listener {
  /** The backend as the server announced it; behind a pooler, the pooler's invention. */
  readonly processId: number
  /** Runs a statement without parameters on the connection. */
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<Row>, SessionStoreUnavailable>
  /**
   * All payloads that have arrived, at least one; waits for them. Once the connection is lost, what is left, then the
   * failure.
   */
  readonly take: Effect.Effect<ReadonlyArray<string>, SessionStoreUnavailable>
}

/** What a listener needs. */
export interface Options {
  readonly connection: PgConnection.Config
  /** Not quoted. */
  readonly channel: string
  /** How long opening may take, preparation included. */
  readonly openTimeout: Duration.Input
  /** How many characters of payloads may wait to be taken, each payload counting 64 more. */
  readonly maxBuffered: number
}

/** Completes the sentence "could not ...". */
export const operation = "listen for changes"

const closeTimeout = "1 second"

interface Link {
  readonly connection: Scope.Closeable
  readonly listener: Scope.Closeable
  readonly payloads: Mailbox<SessionStoreUnavailable>
  readonly sockets: Sockets.Sockets
}

/** Opens listeners. */
export interface Opener<A> {
  /**
   * Opens a listener and answers what was prepared with it. Closing the scope
   * closes the connection and waits for that: on a silent network half a second, after which nothing is left.
   */
  readonly open: Effect.Effect<A, SessionStoreUnavailable, Scope.Scope>
}

/** Makes an opener whose listeners are each prepared by `prepare` before they are handed out. */
export const make = Effect.fnUntraced(function* <A>(
  options: Options,
  prepare: (listener: Listener) => Effect.Effect<A, SessionStoreUnavailable>
): Effect.fn.Return<Opener<A>, never, Scope.Scope> {
  const fibers = yield* FiberSet.make<unknown, unknown>()

  const establish = Effect.fnUntraced(function* (link: Link) {
    const connection = yield* attempt(
      Scope.provide(PgConnection.make(link.sockets.track(options.connection)), link.connection)
    )
    const pinned = yield* Scope.provide(connection.pin, link.listener)
    const source = yield* Scope.provide(pinned.listen(options.channel), link.listener).pipe(
      attempt,
      Effect.mapError(explainStandby)
    )
    yield* Effect.forkIn(pump(source, link), link.listener, { startImmediately: true })
    return yield* prepare({
      processId: connection.processId,
      query: (sql) => attempt(pinned.queryValues(sql)),
      take: link.payloads.take
    })
  })

  const pump = (source: Queue.Dequeue<PgConnection.Notification, SqlError>, link: Link) =>
    Queue.takeAll(source).pipe(
      attempt,
      Effect.flatMap((notifications) => {
        for (const { payload } of notifications) link.payloads.put(payload)
        return link.payloads.deliver() ? Effect.void : Effect.fail(overflowed())
      }),
      // It waits for the socket each time, and need not make way besides.
      Effect.forever({ disableYield: true }),
      Effect.onExit((exit) => {
        link.payloads.fail(Exit.isFailure(exit) ? withoutInterrupts(exit.cause) : Cause.fail(closed()))
        // A listener that nobody drains holds up the notifications of the whole server.
        return Effect.asVoid(FiberSet.run(fibers, Effect.uninterruptible(close(link))))
      })
    )

  const start = Effect.gen(function* () {
    const link: Link = {
      connection: Scope.makeUnsafe(),
      listener: Scope.makeUnsafe(),
      payloads: new Mailbox<SessionStoreUnavailable>(options.maxBuffered),
      sockets: Sockets.make()
    }
    return { link, opening: yield* FiberSet.run(fibers, Effect.interruptible(establish(link))) }
  })

  const stop = ({
    link,
    opening
  }: {
    readonly link: Link
    readonly opening: Fiber.Fiber<A, SessionStoreUnavailable>
  }) =>
    close(link, Fiber.interrupt(opening)).pipe(
      Effect.uninterruptible,
      (closing) => FiberSet.run(fibers, closing),
      Effect.flatMap((closing) => Effect.timeoutOption(Effect.interruptible(Fiber.await(closing)), closeTimeout)),
      inRealTime
    )

  const open = Effect.flatMap(Effect.acquireRelease(start, stop), ({ opening }) =>
    Fiber.await(opening).pipe(
      Effect.timeoutOrElse({ duration: options.openTimeout, orElse: () => Effect.fail(openTimedOut()) }),
      Effect.flatMap((exit) =>
        Exit.isSuccess(exit) ? Effect.succeed(exit.value) : Effect.failCause(withoutInterrupts(exit.cause))
      )
    )
  )
  return { open: inRealTime(open) }
})

/**
 * The connection's scope is closed before the listener's, whose UNLISTEN would wait
 * for an answer. Where the network is silent, all of this ends when the socket is destroyed.
 */
const close = (link: Link, before: Effect.Effect<void> = Effect.void): Effect.Effect<void> =>
  Effect.all(
    [
      before.pipe(
        Effect.andThen(Scope.close(link.connection, Exit.void)),
        Effect.andThen(Scope.close(link.listener, Exit.void))
      ),
      link.sockets.end
    ],
    { concurrency: 2, discard: true }
  )

const attempt = <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, SessionStoreUnavailable, R> =>
  Effect.catchCause(effect, (cause) => Effect.failCause(unavailable(operation, cause, false, false)))

const failure = (reason: SessionStoreUnavailable["reason"], detail: string) =>
  new SessionStoreUnavailable({ operation, reason, outcome: "NotApplied", detail })

const closed = () => failure("Closed", "the listener was closed")
const openTimedOut = () => failure("Timeout", "the listener's connection was not ready in time")
const overflowed = () => failure("Overloaded", "the listener's buffer overflowed")

// Whoever waits is not interrupted, though what they wait for was.
const withoutInterrupts = (cause: Cause.Cause<SessionStoreUnavailable>): Cause.Cause<SessionStoreUnavailable> =>
  Cause.hasInterruptsOnly(cause) ? Cause.fail(closed()) : cause

const explainStandby = (error: SessionStoreUnavailable): SessionStoreUnavailable =>
  error.detail.startsWith("25006")
    ? failure(error.reason, `${error.detail}: it delivers no notifications; point the url or listenUrl to the primary`)
    : error
