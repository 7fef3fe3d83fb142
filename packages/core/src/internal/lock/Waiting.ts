/**
 * Waiting for locks. A waiter joins its lock's queue on this node before anything
 * is asked, so that no news is missed. The node has one place in the lock's queue
 * in the database, and gives it up when its last waiter goes away.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import type { Notice } from "../../SessionNotifier.ts"
import type { AcquireLockOutcome, AcquireLockRequest, LockKey, LockStorage } from "../../SessionLockStorage.ts"
import type { NodeClock } from "../NodeClock.ts"
import type { Board } from "../NoticeBoard.ts"
import type { Watchers } from "../Watchers.ts"
import { type Asked, type Asking, inTime } from "./Asking.ts"
import { type Acquisition, jittered } from "./LockRequests.ts"
import { type Waiter, WaitQueue } from "./WaitQueue.ts"

/** For how long a free lock is kept for the node whose turn it is, in milliseconds: some round trips, as nobody waits longer for a node that has crashed. */
export const turnMillis = 250
/** Waiters of a node, for all locks together. */
const maxWaiting = 10_000
/** The longest pause between questions while notices are not heard, and between looks whether they are, in milliseconds. */
const longestPause = 1_000
/** A question on its way is waited for this much longer than the waiter wants to, in milliseconds: its answer is worth having. */
const answerPatience = 1_000

/** What ends the waiting. */
export type Waited =
  | {
      readonly _tag: "Answered"
      readonly asked: Asked & { readonly outcome: Exclude<AcquireLockOutcome, { _tag: "Held" }> }
    }
  | { readonly _tag: "TimedOut"; readonly holder: string | undefined }

export interface Waiting {
  /** Waits until the lock is granted, or cannot be. Must run uninterruptibly except for what it restores. */
  readonly wait: (
    acquisition: Acquisition,
    owner: string,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ) => Effect.Effect<Waited, SessionStoreUnavailable>
  readonly hear: (notice: Notice) => void
  /** News may have been missed: everybody looks. */
  readonly resume: () => void
  /** Everybody looks whether the layer is closing. */
  readonly wakeAll: () => void
  readonly size: () => number
}

export interface Options {
  readonly clock: NodeClock
  readonly board: Board
  readonly storage: LockStorage
  readonly asking: Asking
  /** This node in the database's queues. */
  readonly node: string
  /** Who must know when something was said about a session. */
  readonly watchers: Watchers
  /** How long after the turn of another node this one asks, in milliseconds; differs from node to node. */
  readonly lag: number
  readonly isOpen: () => boolean
  readonly unavailable: (reason: "Closed" | "Overloaded") => SessionStoreUnavailable
  readonly background: (effect: Effect.Effect<void>) => void
}

export const make = (options: Options): Waiting => {
  const { asking, background, board, clock, node, storage } = options
  const queues = new Map<LockKey, { readonly queue: WaitQueue; readonly forget: () => void }>()
  let waiting = 0

  const queueOf = ({ lock, session }: Acquisition): WaitQueue => {
    const known = queues.get(lock)
    if (known !== undefined) return known.queue
    const queue = new WaitQueue(lock)
    const forget = session === undefined ? () => {} : options.watchers.add(session, () => queue.askNow())
    queues.set(lock, { queue, forget })
    return queue
  }

  const forgetIfIdle = (queue: WaitQueue): void => {
    if (queue.size > 0 || queue.barrier !== undefined) return
    queues.get(queue.lock)?.forget()
    queues.delete(queue.lock)
  }

  /** Settles what a waiter left behind, before anybody asks again. */
  const settle = (queue: WaitQueue, work: Effect.Effect<void>): void => {
    const before = queue.barrier ?? Effect.void
    const done = Deferred.makeUnsafe<void>()
    const barrier = Deferred.await(done)
    queue.barrier = barrier
    const finished = Effect.sync(() => {
      if (queue.barrier === barrier) queue.barrier = undefined
      Deferred.doneUnsafe(done, Effect.void)
      forgetIfIdle(queue)
    })
    background(Effect.ensuring(Effect.andThen(before, work), finished))
  }

  const giveUpPlace = (queue: WaitQueue): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (queue.size > 0 || !queue.isQueued) return Effect.void
      queue.isQueued = false
      // Where this fails, the place is passed over when its turn has ended.
      return Effect.ignore(storage.leave(queue.lock, node))
    })

  const goAway = (queue: WaitQueue, waiter: Waiter, exit: Exit.Exit<Waited, SessionStoreUnavailable>): void => {
    waiting--
    // What it did not take in, the next one finds out.
    if (Exit.isFailure(exit) || exit.value._tag !== "Answered") queue.askNow()
    queue.leave(waiter)
    if (queue.size === 0 && queue.isQueued) settle(queue, giveUpPlace(queue))
    forgetIfIdle(queue)
  }

  /** The question of a waiter that went away may have put this node into the queue, or taken it out. */
  const abandoned =
    (queue: WaitQueue) =>
    (settled: Effect.Effect<void>): void =>
      settle(
        queue,
        Effect.andThen(
          settled,
          Effect.suspend(() => {
            queue.isQueued = true
            queue.askNow()
            return giveUpPlace(queue)
          })
        )
      )

  const wait: Waiting["wait"] = (acquisition, owner, restore) =>
    Effect.suspend(() => {
      if (waiting >= maxWaiting) return Effect.fail(options.unavailable("Overloaded"))
      const queue = queueOf(acquisition)
      const waiter = queue.join()
      waiting++
      const giveUpAt = acquisition.wait === "none" ? -Infinity : clock.now() + acquisition.wait
      const timedOut = (): Waited => ({ _tag: "TimedOut", holder: queue.holder })
      const untilGivenUp = <A>(effect: Effect.Effect<A>) =>
        Effect.suspend(() => restore(inTime(effect, giveUpAt - clock.now())))

      const ask = Effect.suspend(() => {
        const request: AcquireLockRequest = {
          lock: acquisition.lock,
          session: acquisition.session,
          owner,
          node,
          permits: acquisition.permits,
          leaseTime: acquisition.leaseTime,
          queue: queue.size > 1 ? "waitAgain" : "wait",
          turn: turnMillis
        }
        queue.asking()
        const patience = Math.max(giveUpAt - clock.now(), answerPatience)
        return Effect.flatMap(asking.ask(request, acquisition, patience, restore, abandoned(queue)), (asked) =>
          Effect.map(Random.next, (random) => take(request, asked, random))
        )
      })

      /** Takes in an answer; `undefined`: go on waiting. */
      const take = (request: AcquireLockRequest, asked: Option.Option<Asked>, random: number): Waited | undefined => {
        if (Option.isNone(asked)) return timedOut()
        const { outcome } = asked.value
        if (outcome._tag === "SessionGone") return { _tag: "Answered", asked: { ...asked.value, outcome } }
        if (outcome._tag === "Granted") {
          queue.isQueued = request.queue === "waitAgain"
          // Who is next on this node knows until when this lease runs.
          queue.askBy(queue.isQueued ? clock.now() + outcome.expiresAt - outcome.now : -Infinity)
          return { _tag: "Answered", asked: { ...asked.value, outcome } }
        }
        queue.isQueued = true
        queue.holder = outcome.node
        // Whose turn comes first asks on time; the others come after it, and not all at once.
        const jitter = outcome.retryAt > outcome.until ? random * turnMillis : 0
        queue.askBy(clock.now() + outcome.retryAt - outcome.now + 1 + jitter)
        return undefined
      }

      const sleep = (pause: number) =>
        Effect.suspend(() => {
          const now = clock.now()
          const millis = Math.min(queue.askAt - now, giveUpAt - now, board.isHeard() ? longestPause : pause)
          queue.bell.closeUnsafe()
          return restore(inTime(queue.bell.await, millis))
        })

      const asFirst = (pause: number): Effect.Effect<Waited, SessionStoreUnavailable> =>
        Effect.suspend(() => {
          if (!options.isOpen()) return Effect.fail(options.unavailable("Closed"))
          if (queue.barrier !== undefined) {
            return Effect.flatMap(untilGivenUp(queue.barrier), (done) =>
              Option.isNone(done) ? Effect.succeed(timedOut()) : asFirst(pause)
            )
          }
          const now = clock.now()
          if (!queue.isQueued || now >= queue.askAt) {
            return Effect.flatMap(ask, (waited) => (waited === undefined ? asFirst(pause) : Effect.succeed(waited)))
          }
          if (now >= giveUpAt) return Effect.succeed(timedOut())
          return Effect.flatMap(sleep(pause), (rung) => {
            if (Option.isSome(rung) || board.isHeard()) return asFirst(acquisition.retryDelay)
            queue.askNow()
            return Effect.flatMap(jittered(Math.min(longestPause, pause * 2)), asFirst)
          })
        })

      return Effect.flatMap(untilGivenUp(waiter.await), (first) =>
        Option.isNone(first) ? Effect.succeed(timedOut()) : asFirst(acquisition.retryDelay)
      ).pipe(Effect.onExit((exit) => Effect.sync(() => goAway(queue, waiter, exit))))
    })

  const hear = (notice: Notice): void => {
    if (notice._tag !== "LockFreed") return
    const queue = queues.get(notice.lock)?.queue
    if (queue === undefined) return
    if (notice.node === node) queue.askNow()
    else queue.askBy(clock.now() + turnMillis + options.lag)
  }

  return {
    wait,
    hear,
    resume: () => {
      for (const { queue } of queues.values()) queue.askNow()
    },
    wakeAll: () => {
      for (const { queue } of queues.values()) queue.wakeAll()
    },
    size: () => waiting
  }
}
