/**
 * Rings for what is not over within a time that is the same for all. So they ring
 * in the order in which they were set, and one timer does for all of them: setting
 * and clearing a timer for each statement takes as long as decoding its answer.
 *
 * The time is real time. After a pause of this process its timers run before its
 * sockets are read, so it rings one turn of the event loop later.
 */

/** setTimeout fires at once where it is given more. */
const maxTimer = 2 ** 31 - 1

export class Alarms<A> {
  private readonly millis: number
  private readonly ring: (item: A) => void
  /** When each is due, the earliest first. */
  private readonly due = new Map<A, number>()
  private timer: NodeJS.Timeout | undefined

  /** `ring` is called for what was not cleared within so many milliseconds. */
  constructor(millis: number, ring: (item: A) => void) {
    this.millis = millis
    this.ring = ring
  }

  set(item: A): void {
    this.due.set(item, performance.now() + this.millis)
    if (this.timer === undefined) this.arm(this.millis)
  }

  /** It is over. The timer stays: the next one needs it. */
  clear(item: A): void {
    this.due.delete(item)
  }

  /** Nothing rings any more. */
  close(): void {
    this.due.clear()
    clearTimeout(this.timer)
    this.timer = undefined
  }

  private arm(left: number): void {
    this.timer = setTimeout(() => setImmediate(() => this.look()), Math.min(left, maxTimer))
  }

  private look(): void {
    this.timer = undefined
    const now = performance.now()
    const over: Array<A> = []
    for (const [item, due] of this.due) {
      if (due > now) {
        this.arm(due - now)
        break
      }
      over.push(item)
    }
    // One that rings may clear others, and set new ones.
    for (const item of over) {
      if (this.due.delete(item)) this.ring(item)
    }
  }
}
