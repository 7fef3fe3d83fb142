/**
 * A lease that this node holds: extended by heartbeats, given up the moment it can
 * no longer be relied upon, released at most once.
 *
 * Its deadline here is counted from before the statement was sent that granted or
 * extended it, less a margin, so it passes before the lease ends by the database's
 * clock. A lease is lost when that deadline has passed, when the database says
 * that it is over, or when the layer closes; then its holder is told, and never
 * again can it be extended.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { LockLost, type SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { GrantedLock, LockKey, LockStorage } from "../../SessionLockStorage.ts"
import type { Lease } from "../../SessionLocks.ts"
import { jittered, leaseMillis } from "./LockRequests.ts"
import type { NodeClock } from "../NodeClock.ts"

/** What is kept back of a lease: the work must be interrupted before the lease ends. At least so many milliseconds, and so great a part. */
const marginMillis = 5
const marginPart = 0.01
/** The longest time between two looks at the clock, in milliseconds: timers stop while a machine sleeps. */
const longestSleep = 1_000
/** The longest pause between heartbeats that failed, in milliseconds. */
const longestRetryDelay = 1_000

/** What a lease needs of those who granted it. */
export interface Grantor {
  readonly clock: NodeClock
  readonly extend: LockStorage["extend"]
  /** Frees the lock in the database; never fails: what does not succeed at once goes on by itself, until this time of the node's. */
  readonly free: (grant: GrantedLock, until: number) => Effect.Effect<void>
  /** The same, without waiting. */
  readonly freeLater: (grant: GrantedLock, until: number) => void
}

/** How a lease is kept. */
export interface Keeping {
  readonly leaseTime: number
  readonly heartbeatInterval: number
  readonly retryDelay: number
}

type State = "Held" | "Lost" | "Released"

export class LeaseImpl implements Lease {
  readonly resource: string
  readonly lock: LockKey
  readonly token: bigint
  readonly session: SessionKey | undefined
  readonly lost: Effect.Effect<never, LockLost>
  readonly release: Effect.Effect<void>
  readonly remaining: Effect.Effect<Duration.Duration>
  private readonly owner: string
  private readonly grantor: Grantor
  private readonly end = Deferred.makeUnsafe<never, LockLost>()
  private readonly onEnd: (lease: LeaseImpl) => void
  private state: State = "Held"
  private deadline = -Infinity
  /** The database's clock when it last answered. */
  private asOf = -Infinity
  /** Whether the database is being asked if the lease stands, and whether it must be asked once more after that. */
  private verifying: "No" | "Once" | "Again" = "No"
  private failure: LockLost | undefined = undefined

  constructor(
    grantor: Grantor,
    grant: GrantedLock,
    about: { readonly resource: string; readonly session: SessionKey | undefined },
    onEnd: (lease: LeaseImpl) => void
  ) {
    this.grantor = grantor
    this.resource = about.resource
    this.session = about.session
    this.lock = grant.lock
    this.token = grant.token
    this.owner = grant.owner
    this.onEnd = onEnd
    this.lost = Deferred.await(this.end)
    this.release = Effect.suspend(() => this.giveBack())
    this.remaining = Effect.sync(() => Duration.millis(this.remainingMillis()))
  }

  /** Takes in the answer to a statement that was sent at this node's time `sentAt`. */
  extendedUntil(sentAt: number, answer: { readonly now: number; readonly expiresAt: number }): void {
    const left = answer.expiresAt - answer.now
    const margin = Math.max(marginMillis, left * marginPart)
    const end = sentAt + left - margin
    // The newest answer holds: where less is left than was known, the database's clock was set forward.
    this.deadline = answer.now > this.asOf ? end : Math.max(this.deadline, end)
    this.asOf = Math.max(this.asOf, answer.now)
  }

  /** Milliseconds for which the lease can still be relied upon; 0 once it is lost or released. */
  remainingMillis(): number {
    return this.state === "Held" ? Math.max(0, this.deadline - this.grantor.clock.now()) : 0
  }

  /** Fails where the lease has been lost, also when no timer had the time to notice. */
  readonly check: Effect.Effect<void, LockLost> = Effect.suspend(() => {
    if (this.state === "Held" && this.remainingMillis() === 0) this.lose("Expired")
    return this.failure === undefined ? Effect.void : Effect.fail(this.failure)
  })

  readonly extend = (duration: Duration.Input): Effect.Effect<void, LockLost | SessionStoreUnavailable> =>
    Effect.suspend(() => {
      if (this.state === "Released") return Effect.fail(this.lossFor("Ended"))
      return Effect.andThen(Effect.andThen(this.check, this.askFor(leaseMillis(duration))), this.check)
    })

  /** The lease is over: tells the holder. What it may still have in the database is freed. */
  lose(reason: LockLost["reason"]): void {
    if (this.state !== "Held") return
    this.state = "Lost"
    this.failure = this.lossFor(reason)
    Deferred.doneUnsafe(this.end, Effect.fail(this.failure))
    // While the layer closes the lock is freed when the work under it has stopped.
    if (reason === "Closed") return
    this.onEnd(this)
    this.grantor.freeLater(this.grant, this.deadline)
  }

  /**
   * Asks the database whether the lease stands, without making it longer. One question at a time: what gives rise to it
   * may be said far more often than it can be asked.
   */
  readonly verify: Effect.Effect<void> = Effect.suspend(() => {
    if (this.state !== "Held") return Effect.void
    if (this.verifying !== "No") {
      this.verifying = "Again"
      return Effect.void
    }
    this.verifying = "Once"
    return Effect.flatMap(Effect.exit(this.askFor(1)), () => {
      const again = this.verifying === "Again"
      this.verifying = "No"
      return again ? this.verify : Effect.void
    })
  })

  /** Tells the holder when the lease can no longer be relied upon. Runs in a scope of the holder's. */
  readonly watch: Effect.Effect<void> = Effect.suspend(() => {
    if (this.state !== "Held") return Effect.void
    const left = this.remainingMillis()
    if (left > 0) return Effect.andThen(pause(left), this.watch)
    return Effect.sync(() => this.lose("Expired"))
  })

  /** Extends the lease in time, for as long as it is held. Runs in a scope of the holder's. */
  readonly heartbeats = ({ heartbeatInterval, leaseTime, retryDelay }: Keeping): Effect.Effect<void> => {
    const interval = Math.min(heartbeatInterval, leaseTime / 3)
    const { clock } = this.grantor
    const sleepUntil = (time: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const left = time - clock.now()
        return left <= 0 ? Effect.void : Effect.andThen(pause(left), sleepUntil(time))
      })
    const beat = (at: number, failures: number): Effect.Effect<void> =>
      Effect.andThen(
        sleepUntil(at),
        Effect.suspend(() => {
          if (this.state !== "Held") return Effect.void
          const sentAt = clock.now()
          return Effect.flatMap(Effect.result(this.askFor(leaseTime)), (result) =>
            Result.isSuccess(result)
              ? beat(sentAt + interval, 0)
              : Effect.flatMap(jittered(this.retryPause(retryDelay * 2 ** failures)), (delay) =>
                  beat(clock.now() + delay, failures + 1)
                )
          )
        })
      )
    return Effect.suspend(() => (heartbeatInterval === Infinity ? Effect.void : beat(clock.now() + interval, 0)))
  }

  /** Grows, but leaves time for some more attempts before the lease ends. */
  private retryPause(millis: number): number {
    return Math.min(longestRetryDelay, millis, this.remainingMillis() / 4)
  }

  private lossFor(reason: LockLost["reason"]): LockLost {
    return new LockLost({ resource: this.resource, token: this.token, reason })
  }

  private get grant(): GrantedLock {
    return { lock: this.lock, token: this.token, owner: this.owner }
  }

  private askFor(leaseTime: number): Effect.Effect<void, SessionStoreUnavailable> {
    return Effect.suspend(() => {
      const sentAt = this.grantor.clock.now()
      return Effect.map(this.grantor.extend({ ...this.grant, session: this.session, leaseTime }), (outcome) => {
        if (outcome._tag === "Extended") this.extendedUntil(sentAt, outcome)
        else this.lose("Ended")
      })
    })
  }

  private giveBack(): Effect.Effect<void> {
    if (this.state === "Released") return Effect.void
    // A lost lease has been freed already, unless the layer is closing.
    const isFreed = this.state === "Lost" && this.failure?.reason !== "Closed"
    this.state = "Released"
    this.onEnd(this)
    return isFreed ? Effect.void : this.grantor.free(this.grant, this.deadline)
  }
}

/** Whole milliseconds, because a part of one may not be a step of the clock. */
const pause = (millis: number): Effect.Effect<void> => Effect.sleep(Math.ceil(Math.min(longestSleep, millis)))
