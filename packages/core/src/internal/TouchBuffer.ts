/**
 * Activity that waits to be written. A hit only marks; a scoped fiber writes the
 * marks in batches (`TouchFlush.ts`). Marks outlive the cache entries they were
 * made on, so that an eviction loses no activity.
 */
import type { SessionKey } from "../SessionId.ts"

/** The last use of one session on this node. */
export class Activity {
  readonly key: SessionKey
  /** {@link NodeClock} at the last use, in whole milliseconds: the engine keeps those in the object itself. */
  touchedAt = 0
  queued = false
  /** When it must have been sent, on this node's clock, while it is queued; in whole milliseconds, too. */
  flushBy = 0

  constructor(key: SessionKey) {
    this.key = key
  }
}

export class TouchBuffer {
  private readonly queued = new Map<SessionKey, Activity>()
  private readonly interval: number
  private readonly capacity: number
  private earliest = Infinity
  /** `take` has not looked at all marks: there may be more that are due. */
  private partlyTaken = false
  /** Called when the next flush is due earlier than it was before. */
  onEarlier: () => void = () => {}

  /** With `capacity` marks everything is written at once, whatever is due. */
  constructor(interval: number, capacity: number) {
    this.interval = interval
    this.capacity = capacity
  }

  /** The mark of a session that has one waiting. */
  waiting(key: SessionKey): Activity | undefined {
    return this.queued.get(key)
  }

  /** The mark of a session that has one waiting, or a fresh one. */
  activity(key: SessionKey): Activity {
    return this.queued.get(key) ?? new Activity(key)
  }

  /** A mark that waits must be written earlier than it was queued for. */
  hasten(activity: Activity, flushBy: number): void {
    this.enqueue(activity, flushBy)
  }

  /**
   * Queues a mark that was made `now`. `idleFlushBy` is when it must be written for the session not to be taken for
   * idle.
   */
  queue(activity: Activity, now: number, idleFlushBy: number): void {
    this.enqueue(activity, Math.floor(Math.min(now + this.interval, idleFlushBy)))
    if (this.queued.size === this.capacity) this.dueFrom(-Infinity)
  }

  /** Takes the marks that are due at `time`, at most `limit`; looks at no more of them than it must. */
  take(time: number, limit: number): ReadonlyArray<Activity> {
    const due: Array<Activity> = []
    const all = this.queued.size >= this.capacity
    let earliest = Infinity
    let looked = 0
    for (const activity of this.queued.values()) {
      if (due.length === limit) break
      looked++
      if (all || activity.flushBy <= time) due.push(activity)
      else if (activity.flushBy < earliest) earliest = activity.flushBy
    }
    const complete = looked === this.queued.size
    for (const activity of due) {
      activity.queued = false
      this.queued.delete(activity.key)
    }
    if (complete) this.nextIs(earliest)
    else this.partlyTaken = true
    return due
  }

  /** Puts marks back that could not be written. A use since then counts. */
  putBack(activities: ReadonlyArray<Activity>, flushBy: number): void {
    for (const activity of activities) this.enqueue(activity, flushBy)
    if (!this.partlyTaken) return
    let earliest = Infinity
    for (const waiting of this.queued.values()) earliest = Math.min(earliest, waiting.flushBy)
    this.nextIs(earliest)
  }

  get size(): number {
    return this.queued.size
  }

  /** Marks come in faster than they can be written: further uses must wait for the database. */
  get isFull(): boolean {
    return this.queued.size >= 2 * this.capacity
  }

  /** When the next mark must be written; infinite when there is none. */
  get nextFlushAt(): number {
    return this.partlyTaken ? -Infinity : this.earliest
  }

  /** All marks were looked at. */
  private nextIs(earliest: number): void {
    this.earliest = earliest
    if (!this.partlyTaken) return
    this.partlyTaken = false
    // Who looked meanwhile knows a later time.
    this.onEarlier()
  }

  private enqueue(activity: Activity, flushBy: number): void {
    const waiting = this.queued.get(activity.key)
    if (waiting === undefined) {
      activity.queued = true
      activity.flushBy = flushBy
      this.queued.set(activity.key, activity)
    } else {
      waiting.touchedAt = Math.max(waiting.touchedAt, activity.touchedAt)
      waiting.flushBy = Math.min(waiting.flushBy, flushBy)
    }
    this.dueFrom(flushBy)
  }

  private dueFrom(time: number): void {
    if (time >= this.earliest) return
    this.earliest = time
    this.onEarlier()
  }
}
