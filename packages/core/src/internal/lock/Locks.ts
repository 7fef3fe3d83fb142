/**
 * The locks of a node: who holds which lease, who waits for which lock, and in
 * which order all of that ends. Statements run in fibers of the layer's own.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { Session } from "../../Session.ts"
import type { LockWait, Settings } from "../../SessionConfig.ts"
import { LockAlreadyHeld, LockTimeout, SessionNotFound, SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { GrantedLock, LockStorage } from "../../SessionLockStorage.ts"
import type { AcquireError, Lease, LockOptions, LockService } from "../../SessionLocks.ts"
import type { Notice } from "../../SessionNotifier.ts"
import { randomBase64Url } from "../Crypto.ts"
import type { NodeClock } from "../NodeClock.ts"
import type { Board } from "../NoticeBoard.ts"
import { Watchers } from "../Watchers.ts"
import * as Asking from "./Asking.ts"
import { LeaseImpl } from "./Lease.ts"
import { type Acquisition, acquisitionOf, jittered } from "./LockRequests.ts"
import * as Removal from "./Removal.ts"
import * as Waiting from "./Waiting.ts"

/** The longest pause between attempts to free a lock, in milliseconds. */
const longestFreeDelay = 1_000
/** How many locks are freed at once when the layer closes. */
const closingConcurrency = 16

type Failure = LockAlreadyHeld | LockTimeout | SessionNotFound | SessionStoreUnavailable

export const make = Effect.fnUntraced(function* (
  storage: LockStorage,
  settings: Settings,
  clock: NodeClock,
  board: Board
): Effect.fn.Return<LockService, never, Scope.Scope> {
  const node = `${settings.nodeName}#${randomBase64Url(6)}`
  const fibers = yield* FiberSet.make<void>()
  const runFork = Effect.runForkWith(yield* Effect.context())
  const watchers = new Watchers()
  const held = new Set<LeaseImpl>()
  /** Those under which an effect of `withLock` runs. */
  const working = new Set<LeaseImpl>()
  const allReturned = Deferred.makeUnsafe<void>()
  let open = true

  const background = (effect: Effect.Effect<void>): void => FiberSet.addUnsafe(fibers, runFork(effect))

  const unavailable = (reason: "Closed" | "Overloaded"): SessionStoreUnavailable =>
    new SessionStoreUnavailable({
      operation: "acquire the lock",
      reason,
      outcome: "NotApplied",
      detail: reason === "Closed" ? "the session layer is closed" : "too many are waiting for locks"
    })

  /** Repeats what failed until the lease would have ended anyway. */
  const freeAgain = (grant: GrantedLock, until: number, failures: number): Effect.Effect<void> =>
    Effect.flatMap(jittered(Math.min(longestFreeDelay, settings.lockRetryDelay * 2 ** failures)), (delay) =>
      Effect.andThen(
        Effect.sleep(delay),
        Effect.catch(Effect.asVoid(storage.release(grant.lock, grant.owner)), (error) =>
          clock.now() < until && error.reason !== "Closed"
            ? freeAgain(grant, until, failures + 1)
            : Effect.logWarning(`A lock could not be released, and is free when its lease ends: ${error.message}`)
        )
      )
    )

  const free = (grant: GrantedLock, until: number): Effect.Effect<void> =>
    Effect.catch(Effect.asVoid(storage.release(grant.lock, grant.owner)), () =>
      Effect.sync(() => background(freeAgain(grant, until, 0)))
    )

  const asking = Asking.make(clock, storage.acquire, free, background, () => unavailable("Closed"))
  const waiting = Waiting.make({
    clock,
    board,
    storage,
    asking,
    node,
    lag: yield* Random.nextBetween(1, Waiting.turnMillis),
    watchers,
    isOpen: () => open,
    unavailable,
    background
  })

  const tryOnce = (
    acquisition: Acquisition,
    owner: string,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ): Effect.Effect<Asking.Asked, Failure> => {
    const { leaseTime, lock, permits, resource, session } = acquisition
    const request = {
      lock,
      session,
      owner,
      // Not the name that waits in queues: others of this node may wait, and it is not their turn that is taken.
      node: `${settings.nodeName}#`,
      permits,
      leaseTime,
      queue: "none",
      turn: Waiting.turnMillis
    } as const
    return Effect.flatMap(asking.ask(request, acquisition, Infinity, restore, background), (answer) => {
      // It is not given up for lack of time.
      if (Option.isNone(answer)) return Effect.never
      const { outcome } = answer.value
      return outcome._tag === "Held"
        ? Effect.fail(
            new LockAlreadyHeld({
              resource,
              node: nameOf(outcome.node),
              remaining: Duration.millis(Math.max(0, outcome.until - outcome.now))
            })
          )
        : Effect.succeed(answer.value)
    })
  }

  const obtain = (
    acquisition: Acquisition,
    owner: string,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ): Effect.Effect<Asking.Asked, Failure> => {
    const { resource, wait } = acquisition
    if (wait === "none") return tryOnce(acquisition, owner, restore)
    return Effect.flatMap(waiting.wait(acquisition, owner, restore), (waited) =>
      waited._tag === "Answered"
        ? Effect.succeed(waited.asked)
        : Effect.fail(
            new LockTimeout({
              resource,
              waited: Duration.millis(wait),
              node: waited.holder === undefined ? undefined : nameOf(waited.holder)
            })
          )
    )
  }

  const acquireIn = (
    scope: Scope.Scope,
    resource: string,
    options: LockOptions | undefined
  ): Effect.Effect<LeaseImpl, Failure> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (!open) return Effect.fail(unavailable("Closed"))
        const acquisition = acquisitionOf(resource, options, settings)
        const owner = randomBase64Url(12)
        return Effect.flatMap(
          obtain(acquisition, owner, restore),
          ({ outcome, sentAt }): Effect.Effect<LeaseImpl, Failure> => {
            if (outcome._tag !== "Granted") return Effect.fail(new SessionNotFound({ key: acquisition.session }))
            const grant = { lock: acquisition.lock, owner, token: outcome.token }
            // It came while the layer was closing: nothing would keep it.
            if (!open) return Effect.andThen(free(grant, clock.now()), Effect.fail(unavailable("Closed")))
            const lease = hold(acquisition, grant)
            lease.extendedUntil(sentAt, outcome)
            return Scope.addFinalizer(scope, lease.release).pipe(
              Effect.andThen(Effect.forkIn(lease.watch, scope)),
              Effect.andThen(Effect.forkIn(lease.heartbeats(acquisition), scope)),
              Effect.as(lease)
            )
          }
        )
      })
    )

  const hold = (acquisition: Acquisition, grant: GrantedLock): LeaseImpl => {
    const lease = new LeaseImpl({ clock, extend: storage.extend, free, freeLater }, grant, acquisition, (ended) => {
      unwatch()
      held.delete(ended)
      working.delete(ended)
      if (!open && working.size === 0) Deferred.doneUnsafe(allReturned, Effect.void)
    })
    const { session } = acquisition
    const unwatch = session === undefined ? () => {} : watchers.add(session, () => background(lease.verify))
    held.add(lease)
    return lease
  }

  const freeLater = (grant: GrantedLock, until: number): void => background(free(grant, until))

  const hear = (notice: Notice): void => {
    waiting.hear(notice)
    switch (notice._tag) {
      case "Changes":
        for (const { key, version } of notice.changes) {
          if (version === undefined) watchers.signal(key)
        }
        break
      case "User":
      case "Group":
      case "All":
        // Which sessions these are the database knows.
        watchers.signalWhere(() => true)
        break
      default:
        break
    }
  }

  const unregister = board.add({
    hear,
    resume: () => {
      waiting.resume()
      // The database's clock may have jumped, or another server may have taken over that lacks what was granted last.
      for (const lease of held) background(lease.verify)
    }
  })

  const inTime = (what: string, effect: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.timeoutOrElse(effect, {
      duration: settings.shutdownTimeout / 2,
      orElse: () => Effect.logWarning(`The lock layer could not ${what} within ${settings.shutdownTimeout / 2} ms`)
    })

  // Runs before all fibers and connections end.
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      open = false
      unregister()
      waiting.wakeAll()
      const leases = Array.from(held)
      for (const lease of leases) lease.lose("Closed")
      const returned = working.size === 0 ? Effect.void : Deferred.await(allReturned)
      const releaseAll = Effect.forEach(leases, (lease) => lease.release, {
        concurrency: closingConcurrency,
        discard: true
      })
      return Effect.andThen(
        // Who holds a lock has been told, and releases it once the work under it has stopped.
        inTime("end the work under its locks", returned),
        inTime("release its locks", Effect.andThen(releaseAll, FiberSet.awaitEmpty(fibers)))
      )
    })
  )

  yield* Removal.make(storage, settings)

  // The options ask for one way of waiting, so only its error can be the answer; so with the session.
  const acquireAs = <W extends LockWait, S extends SessionKey | Session>(
    scope: Scope.Scope,
    resource: string,
    options: LockOptions<W, S> | undefined
  ) => acquireIn(scope, resource, options) as Effect.Effect<LeaseImpl, AcquireError<W, S>>

  return {
    withLock: <A, E, R, W extends LockWait, S extends SessionKey | Session>(
      resource: string,
      use: (lease: Lease) => Effect.Effect<A, E, R>,
      options?: LockOptions<W, S>
    ) =>
      Effect.scopedWith((scope) =>
        Effect.flatMap(acquireAs(scope, resource, options), (lease) =>
          Effect.suspend(() => {
            working.add(lease)
            const work = Effect.suspend(() => use(lease))
            // An answer may come so late that the lease is over before the work begins.
            return Effect.andThen(
              lease.check,
              Effect.flatMap(Effect.raceFirst(work, lease.lost), (result) => Effect.as(lease.check, result))
            )
          })
        )
      ),
    acquire: (resource, options) => Effect.flatMap(Effect.scope, (scope) => acquireAs(scope, resource, options)),
    tryAcquire: (resource, options) =>
      Effect.flatMap(Effect.scope, (scope) => acquireAs(scope, resource, { ...options, wait: "none" })),
    health: Effect.sync(() => ({ held: held.size, waiting: waiting.size() }))
  }
})

/** A node's name without the part that tells it apart in queues. */
const nameOf = (node: string): string => node.slice(0, Math.max(0, node.lastIndexOf("#")))
