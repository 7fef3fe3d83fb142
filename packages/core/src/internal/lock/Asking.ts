/**
 * Asks the database for a lock. The statement runs in a fiber of the layer's and
 * is repeated where the database failed; the owner's nonce makes that safe, and
 * an answer that was lost can be asked for. What is granted to somebody who
 * no longer waits for it is freed.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import type { AcquireLockOutcome, AcquireLockRequest, GrantedLock, LockStorage } from "../../SessionLockStorage.ts"
import type { Answer } from "../../SessionStorage.ts"
import type { NodeClock } from "../NodeClock.ts"
import { jittered } from "./LockRequests.ts"

/** An answer, and when its question was sent, on this node's clock. */
export interface Asked {
  readonly sentAt: number
  readonly outcome: Answer & AcquireLockOutcome
}

/** How often and how soon to repeat a statement that failed. */
export interface Retries {
  readonly retryDelay: number
  readonly maxRetries: number
}

export interface Asking {
  /**
   * Answers `None` when it took longer than `patience`, in milliseconds. Must run uninterruptibly except for what it restores. When the
   * caller goes away before the answer, `abandoned` must run what it gets: it ends once the question is settled and what was granted is free.
   */
  readonly ask: (
    request: AcquireLockRequest,
    retries: Retries,
    patience: number,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>,
    abandoned: (settled: Effect.Effect<void>) => void
  ) => Effect.Effect<Option.Option<Asked>, SessionStoreUnavailable>
}

export const make = (
  clock: NodeClock,
  acquire: LockStorage["acquire"],
  free: (grant: GrantedLock, until: number) => Effect.Effect<void>,
  background: (effect: Effect.Effect<void>) => void,
  /** For those whose question is cut off because the layer closes. */
  cutOff: () => SessionStoreUnavailable
): Asking => ({
  ask: (request, { maxRetries, retryDelay }, patience, restore, abandoned) =>
    Effect.suspend(() => {
      const answer = Deferred.makeUnsafe<Asked, SessionStoreUnavailable>()
      const settled = Deferred.makeUnsafe<void>()
      let isWanted = true
      let mayBeGranted = false

      const attempt = (failures: number): Effect.Effect<Asked, SessionStoreUnavailable> =>
        Effect.suspend(() => {
          const sentAt = clock.now()
          return Effect.map(acquire(request), (outcome) => ({ sentAt, outcome }))
        }).pipe(
          Effect.catch((error) => {
            mayBeGranted ||= error.outcome === "Unknown"
            return isWanted && failures < maxRetries && error.reason !== "Closed"
              ? Effect.flatMap(jittered(retryDelay * 2 ** failures), (delay) =>
                  Effect.andThen(Effect.sleep(delay), attempt(failures + 1))
                )
              : Effect.fail(error)
          })
        )

      const freeGranted = Effect.suspend(() =>
        // A token is not asked for: what this owner has is freed.
        free({ lock: request.lock, token: 0n, owner: request.owner }, clock.now() + request.leaseTime)
      )

      const discard = (exit: Exit.Exit<Asked, SessionStoreUnavailable>): Effect.Effect<void> =>
        (Exit.isSuccess(exit) && exit.value.outcome._tag === "Granted") || (Exit.isFailure(exit) && mayBeGranted)
          ? freeGranted
          : Effect.void

      background(
        Effect.exit(attempt(0)).pipe(
          Effect.flatMap((exit) => {
            if (!isWanted) return discard(exit)
            Deferred.doneUnsafe(answer, exit)
            return Exit.isFailure(exit) ? discard(exit) : Effect.void
          }),
          Effect.ensuring(
            Effect.sync(() => {
              if (answer.effect === undefined) Deferred.doneUnsafe(answer, Effect.fail(cutOff()))
              Deferred.doneUnsafe(settled, Effect.void)
            })
          )
        )
      )

      const abandon = Effect.sync(() => {
        isWanted = false
        const known = answer.effect
        // An answer that came, but was not taken.
        const taken = known === undefined ? Effect.void : Effect.flatMap(Effect.exit(known), discard)
        abandoned(Effect.andThen(Deferred.await(settled), taken))
      })

      return restore(inTime(Deferred.await(answer), patience)).pipe(
        Effect.tap((asked) => (Option.isNone(asked) ? abandon : Effect.void)),
        Effect.onInterrupt(() => abandon)
      )
    })
})

/** `None` when it took longer; the time may be infinite. */
export const inTime = <A, E>(effect: Effect.Effect<A, E>, millis: number): Effect.Effect<Option.Option<A>, E> =>
  millis === Infinity ? Effect.asSome(effect) : Effect.timeoutOption(effect, Math.ceil(Math.max(0, millis)))
