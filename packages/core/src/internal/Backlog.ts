/**
 * Requests that wait for a batch, in the order in which they came. Those with the
 * same key never share a batch and keep their order: the first one waits for a
 * batch, the others for the first one. Every operation takes constant time,
 * however many wait for one key.
 */

/** A waiting request. */
export interface Waiting<Item> {
  readonly item: Item
  readonly key: string | undefined
  state: "Waiting" | "Taken" | "Withdrawn"
}

interface Successors<W> {
  readonly waiting: Array<W>
  /** How many of them have had their turn. */
  taken: number
}

export class Backlog<W extends Waiting<unknown>> {
  private ready: Array<W> = []
  private readonly successors = new Map<string, Successors<W>>()
  private count = 0

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

  /** Takes a request back that has not been taken for a batch. */
  withdraw(waiting: W): void {
    if (waiting.state !== "Waiting") return
    waiting.state = "Withdrawn"
    this.count--
  }

  /** The next batch; empty when nothing waits. */
  take(limit: number): Array<W> {
    const batch: Array<W> = []
    const promoted: Array<W> = []
    let index = 0
    while (index < this.ready.length && batch.length < limit) {
      const first = this.ready[index++]
      if (first === undefined) continue
      if (first.key !== undefined) {
        const next = this.successorOf(first.key)
        if (next !== undefined) (first.state === "Withdrawn" ? this.ready : promoted).push(next)
      }
      if (first.state === "Withdrawn") continue
      first.state = "Taken"
      batch.push(first)
    }
    this.ready = [...this.ready.slice(index), ...promoted]
    this.count -= batch.length
    return batch
  }

  /** Takes everything, in no particular order. */
  takeAll(): ReadonlyArray<W> {
    const all = [...this.ready]
    for (const { taken, waiting } of this.successors.values()) all.push(...waiting.slice(taken))
    this.ready = []
    this.successors.clear()
    this.count = 0
    return all.filter(({ state }) => state === "Waiting")
  }

  /** The next request with the key that still waits; forgets the key when there is none. */
  private successorOf(key: string): W | undefined {
    const successors = this.successors.get(key)
    const next = successors && advance(successors)
    if (next !== undefined) return next
    this.successors.delete(key)
    return undefined
  }
}

const advance = <W extends Waiting<unknown>>(successors: Successors<W>): W | undefined => {
  const { waiting } = successors
  for (let index = successors.taken; index < waiting.length; index++) {
    successors.taken = index + 1
    if (waiting[index]?.state === "Waiting") return waiting[index]
  }
  return undefined
}
