/**
 * Those of this node who wait for one lock, in the order of their arrival. Only
 * the first one asks the database; it sleeps until it is told that the lock is
 * free, until the present lease or somebody's turn ends, or, while notices are not
 * heard, until it is time to ask again.
 */
import type { Effect } from "effect/Effect"
import * as Latch from "effect/Latch"
import type { LockKey } from "../../SessionLockStorage.ts"

/** One who waits; open once it is the first. */
export type Waiter = Latch.Latch

export class WaitQueue {
  readonly lock: LockKey
  /** Whether this node has, as far as it knows, a place in the lock's queue in the database. */
  isQueued = false
  /** When to ask if nothing is heard before, on this node's clock. */
  askAt = -Infinity
  /** Who was in the way when the lock was last asked for. */
  holder: string | undefined = undefined
  /** What must be over before the lock is asked for again: what became of a waiter that went away. */
  barrier: Effect<void> | undefined = undefined
  /** Opened whenever the first one should look again. */
  readonly bell = Latch.makeUnsafe(false)
  private readonly waiters = new Set<Waiter>()

  constructor(lock: LockKey) {
    this.lock = lock
  }

  get size(): number {
    return this.waiters.size
  }

  join(): Waiter {
    const waiter = Latch.makeUnsafe(this.waiters.size === 0)
    this.waiters.add(waiter)
    return waiter
  }

  leave(waiter: Waiter): void {
    this.waiters.delete(waiter)
    const [next] = this.waiters
    next?.openUnsafe()
  }

  /** It is this node's turn, or might be. */
  askNow(): void {
    this.askBy(-Infinity)
  }

  /** Ask at this time at the latest. */
  askBy(time: number): void {
    this.askAt = Math.min(this.askAt, time)
    this.bell.openUnsafe()
  }

  /** The question is being asked; what is heard from now on may be newer than its answer. */
  asking(): void {
    this.askAt = Infinity
    this.bell.closeUnsafe()
  }

  /** Everybody looks whether the layer is closing. */
  wakeAll(): void {
    for (const waiter of this.waiters) waiter.openUnsafe()
    this.bell.openUnsafe()
  }
}
