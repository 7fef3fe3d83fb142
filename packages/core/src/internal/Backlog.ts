/**
 * Requests that wait for a batch, in the order in which they came. Those with the
 * same key never share a batch and keep their order: the first one waits for a
 * batch, the next one until that is settled. Every operation takes constant time,
 * however many wait for one key.
 */

/** A waiting request. */
export interface Waiting<Item> {
  readonly item: Item
  readonly key: string | undefined
  state: "Waiting" | "Taken" | "Withdrawn"
}

interface Successors<W> {
  /** `undefined` in the place of those that have had their turn, so that nothing keeps them. */
  waiting: Array<W | undefined>
  /** How many have had their turn. */
  taken: number
}

/** Bookkeeping is cleared of requests that have had their turn, or were taken back, when there are this many. */
const tolerated = 1_024

export class Backlog<W extends Waiting<unknown>> {
  private ready: Array<W> = []
  private readonly successors = new Map<string, Successors<W>>()
  private count = 0
  private withdrawn = 0

  /** How many wait, without those that were taken back. */
  get size(): number {
    return this.count
  }

  add(waiting: W): void {
    this.count++
    const { key } = waiting
    if (key === undefined) {
      this.ready.push(waiting)
      return
    }
    const successors = this.successors.get(key)
    if (successors === undefined) {
      this.successors.set(key, { waiting: [], taken: 0 })
      this.ready.push(waiting)
    } else {
      successors.waiting.push(waiting)
    }
  }

  /** Takes a request back that has not been taken for a batch; answers whether it could be. */
  withdraw(waiting: W): boolean {
    if (waiting.state !== "Waiting") return false
    waiting.state = "Withdrawn"
    this.count--
    this.withdrawn++
    if (this.withdrawn > Math.max(tolerated, this.count)) this.compact()
    return true
  }

  /** Whether a batch can be taken: others may wait for one that is under way. */
  get isReady(): boolean {
    return this.ready.length > 0
  }

  /** How many could be taken now, at most. */
  get readyCount(): number {
    return this.ready.length
  }

  /**
   * The next batch, of at most `limit` requests that together weigh at most `maxWeight`; at least one, if any is ready. Give
   * it to {@link done} once it is settled.
   */
  take(limit: number, weigh: (waiting: W) => number, maxWeight: number): Array<W> {
    const batch: Array<W> = []
    let index = 0
    let weight = 0
    for (; index < this.ready.length && batch.length < limit; index++) {
      const first = this.ready[index]
      if (first === undefined) continue
      if (first.state !== "Waiting") {
        this.promote(first)
        continue
      }
      weight += weigh(first)
      if (weight > maxWeight && batch.length > 0) break
      first.state = "Taken"
      batch.push(first)
    }
    this.ready = this.ready.slice(index)
    this.count -= batch.length
    return batch
  }

  /** A batch is settled: whoever waited for one of its requests is ready. */
  done(batch: ReadonlyArray<W>): void {
    for (const request of batch) this.promote(request)
  }

  /** Takes everything, in no particular order. */
  takeAll(): ReadonlyArray<W> {
    const all: Array<W | undefined> = [...this.ready]
    for (const { taken, waiting } of this.successors.values()) all.push(...waiting.slice(taken))
    this.ready = []
    this.successors.clear()
    this.count = 0
    const waiting = all.filter(isWaiting)
    for (const request of waiting) request.state = "Taken"
    return waiting
  }

  /** The next one that waits for the same key; forgets the key when there is none. */
  private successorOf({ key }: W): W | undefined {
    if (key === undefined) return undefined
    const successors = this.successors.get(key)
    const next = successors && advance(successors)
    if (next === undefined) this.successors.delete(key)
    return next
  }

  private promote(request: W): void {
    const next = this.successorOf(request)
    if (next !== undefined) this.ready.push(next)
  }

  /** Lets go of requests that were taken back. */
  private compact(): void {
    this.withdrawn = 0
    for (const successors of this.successors.values()) trim(successors)
    this.ready = this.ready.flatMap((first) => {
      const kept = first.state === "Waiting" ? first : this.successorOf(first)
      return kept === undefined ? [] : [kept]
    })
  }
}

const advance = <W extends Waiting<unknown>>(successors: Successors<W>): W | undefined => {
  if (successors.taken > tolerated && successors.taken * 2 > successors.waiting.length) trim(successors)
  const { waiting } = successors
  for (let index = successors.taken; index < waiting.length; index++) {
    const next = waiting[index]
    waiting[index] = undefined
    successors.taken = index + 1
    if (isWaiting(next)) return next
  }
  return undefined
}

const trim = <W extends Waiting<unknown>>(successors: Successors<W>): void => {
  successors.waiting = successors.waiting.slice(successors.taken).filter(isWaiting)
  successors.taken = 0
}

const isWaiting = <W extends Waiting<unknown>>(request: W | undefined): request is W => request?.state === "Waiting"
