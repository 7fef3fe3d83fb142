/**
 * Gathers concurrent requests into batches without a timer: while one batch is in
 * flight the next one gathers, so a lone request waits for nobody and a crowd
 * shares a statement. Batches run in fibers of the layer's scope: whoever asked
 * may be interrupted, what was sent runs to its end and is settled.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { SessionStoreUnavailable, type UnavailableReason } from "../SessionError.ts"
import { Backlog, type Waiting } from "./Backlog.ts"

interface Pending<Item, A, E> extends Waiting<Item> {
  readonly since: number
  readonly resume: (exit: Exit.Exit<A, E | SessionStoreUnavailable>) => void
}

export interface Options<Item, A, E> {
  /** Completes the sentence "could not ..." when too many are waiting. */
  readonly operation: string
  /** How many requests a batch holds at most. */
  readonly maxBatch: number
  /** What a request weighs, and how much a batch may weigh; a heavier one goes alone. Default: nothing, and any weight. */
  readonly weigh?: ((item: Item) => number) | undefined
  readonly maxWeight?: number | undefined
  /** How many requests may wait; one more fails with `Overloaded`. */
  readonly maxPending: number
  /** How many batches may be in flight. */
  readonly concurrency: number
  /**
   * While a batch is in flight another one begins only where so many requests have gathered, and a crowd is dealt out in equal
   * parts: a small batch beside a large one costs as much and carries little. Default: another one begins at once, and takes what it can.
   */
  readonly minShare?: number | undefined
  /** A request whose turn comes later than this is not sent but fails with `Timeout`: an outage must not be waited for one batch after the other. */
  readonly patience?: { readonly millis: number; readonly now: () => number } | undefined
  /** Requests with the same key never share a batch, and keep their order. `undefined`: no such rule. */
  readonly keyOf?: ((item: Item) => string | undefined) | undefined
  /**
   * Sends one batch; answers in the order of the items. It must not fail, and must settle whatever the items registered.
   */
  readonly send: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Exit.Exit<A, E>>>
}

export interface Coalescer<Item, A, E> {
  /** Sends a request; an interruption takes it back if it has not been sent. */
  readonly submit: (item: Item) => Effect.Effect<A, E | SessionStoreUnavailable>
  /** Sends a request on behalf of several, who are called back; the result takes it back, and says whether it was not yet sent. */
  readonly submitUnsafe: (
    item: Item,
    resume: (exit: Exit.Exit<A, E | SessionStoreUnavailable>) => void
  ) => () => boolean
  /** Waits until nothing is pending or in flight. */
  readonly drained: Effect.Effect<void>
  /** Requests that wait for a batch. */
  readonly pending: () => number
}

const nothing = () => false

/** How many are refused in one go because their turn came too late: there may be thousands, and everybody shares one thread. */
const refusedAtOnce = 500

/** Few requests wait for a batch that is in flight, because another statement would cost more than it saves; but not for one that takes so long. */
const stalledMillis = 250

export const make = Effect.fnUntraced(function* <Item, A, E>(
  options: Options<Item, A, E>
): Effect.fn.Return<Coalescer<Item, A, E>, never, Scope.Scope> {
  const run = yield* FiberSet.makeRuntime<never>()
  const backlog = new Backlog<Pending<Item, A, E>>()
  const idle: Array<() => void> = []
  const weigh = (pending: Pending<Item, A, E>): number => options.weigh?.(pending.item) ?? 0
  let inFlight = 0
  /** Requests in the batches that are in flight. */
  let sent = 0
  /** When the last batch was sent, by the clock of `patience`. */
  let lastSent = -Infinity
  let closed = false

  const unavailable = (
    reason: UnavailableReason,
    outcome: SessionStoreUnavailable["outcome"],
    detail: string
  ): Exit.Exit<never, SessionStoreUnavailable> =>
    Exit.fail(new SessionStoreUnavailable({ operation: options.operation, reason, outcome, detail }))
  const interrupted = unavailable("Closed", "Unknown", "the session layer was closed meanwhile")
  const failed = unavailable("DatabaseError", "Unknown", "the library failed unexpectedly, which its log explains")
  const refused = unavailable("Closed", "NotApplied", "the session layer is closed")

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const pending of backlog.takeAll()) pending.resume(refused)
    })
  )

  /** Refuses those that have waited too long. */
  const inTime = (batch: Array<Pending<Item, A, E>>): Array<Pending<Item, A, E>> => {
    const { patience } = options
    if (patience === undefined) return batch
    const deadline = patience.now() - patience.millis
    // One for all: there may be thousands.
    let tooLate: Exit.Exit<never, SessionStoreUnavailable> | undefined
    return batch.filter((pending) => {
      if (pending.since > deadline) return true
      tooLate ??= unavailable("Timeout", "NotApplied", `it was not its turn within ${patience.millis} ms`)
      pending.resume(tooLate)
      backlog.done([pending])
      return false
    })
  }

  const settle = (
    batch: ReadonlyArray<Pending<Item, A, E>>,
    exit: Exit.Exit<ReadonlyArray<Exit.Exit<A, E>>>
  ): Effect.Effect<void> | undefined => {
    const answers = Exit.isSuccess(exit) ? exit.value : []
    const otherwise = Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? failed : interrupted
    for (let index = 0; index < batch.length; index++) batch[index]?.resume(answers[index] ?? otherwise)
    sent -= batch.length
    backlog.done(batch)
    if (backlog.isReady && !closed) start()
    return Exit.isFailure(exit) && otherwise === failed
      ? Effect.logError("A batch of session operations failed unexpectedly", exit.cause)
      : undefined
  }

  const share = (): number =>
    options.minShare === undefined
      ? options.maxBatch
      : Math.min(options.maxBatch, Math.max(options.minShare, Math.ceil((backlog.size + sent) / options.concurrency)))

  /** Not a generator: a lone request shall wait for the database only, and this runs for each of them. */
  const sendBatches: Effect.Effect<void> = Effect.suspend(() => {
    const before = backlog.size
    while (backlog.isReady) {
      const batch = inTime(backlog.take(share(), weigh, options.maxWeight ?? Infinity))
      if (batch.length === 0) {
        if (before - backlog.size >= refusedAtOnce) return Effect.andThen(Effect.yieldNow, sendBatches)
        continue
      }
      sent += batch.length
      if (options.patience !== undefined) lastSent = options.patience.now()
      const settled = Effect.onExitPrimitive(options.send(batch.map((pending) => pending.item)), (exit) =>
        settle(batch, exit)
      )
      return Effect.flatMap(settled, sendMore)
    }
    return Effect.void
  })
  const sendMore = () => (backlog.isReady ? sendBatches : Effect.void)

  const ended = Effect.sync(() => {
    inFlight--
    // Somebody may have come since the last look, or the batch was cut off by a defect.
    if (backlog.isReady && !closed) start()
    if (inFlight === 0 && backlog.size === 0) {
      for (const resume of idle.splice(0)) resume()
    }
  })
  const runBatches = Effect.ensuring(sendBatches, ended)
  /** Those who come at the same moment come along. */
  const runSoon = Effect.ensuring(Effect.andThen(Effect.yieldNow, sendBatches), ended)

  const isStalled = () => options.patience !== undefined && options.patience.now() - lastSent >= stalledMillis

  const start = () => {
    if (inFlight >= options.concurrency) return
    if (inFlight === 0 || options.minShare === undefined) {
      inFlight++
      run(runBatches)
    } else if (backlog.readyCount >= options.minShare || isStalled()) {
      inFlight++
      run(runSoon)
    }
  }

  const submitUnsafe = (
    item: Item,
    resume: (exit: Exit.Exit<A, E | SessionStoreUnavailable>) => void
  ): (() => boolean) => {
    if (closed) {
      resume(refused)
      return nothing
    }
    if (backlog.size >= options.maxPending) {
      resume(unavailable("Overloaded", "NotApplied", `${backlog.size} requests are waiting already`))
      return nothing
    }
    const since = options.patience?.now() ?? 0
    const pending: Pending<Item, A, E> = { item, key: options.keyOf?.(item), state: "Waiting", since, resume }
    backlog.add(pending)
    start()
    return () => backlog.withdraw(pending)
  }

  return {
    submit: (item) =>
      Effect.callback<A, E | SessionStoreUnavailable>((resume) => {
        const takeBack = submitUnsafe(item, resume)
        return Effect.sync(takeBack)
      }),
    submitUnsafe,
    drained: Effect.callback<void>((resume) => {
      if (inFlight === 0 && backlog.size === 0) resume(Effect.void)
      else idle.push(() => resume(Effect.void))
    }),
    pending: () => backlog.size
  }
})
