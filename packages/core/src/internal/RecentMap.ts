/**
 * A map of bounded size that forgets what nobody has asked for lately. It has two generations: what is put or asked for moves to the
 * younger one, and when that is full the older one is forgotten as a whole. At least half of the capacity is remembered, the latest.
 *
 * Taking the oldest entry out of a `Map` one at a time, for the place of each new one, is not constant time: a search for the first
 * entry steps over all that were deleted since the map was last laid out anew, which with 10 000 entries takes 13 microseconds.
 */
export class RecentMap<K, V extends {}> {
  private readonly generation: number
  private young = new Map<K, V>()
  private old = new Map<K, V>()

  /** Holds so many entries at most, at least two. */
  constructor(capacity: number) {
    this.generation = Math.max(1, Math.floor(capacity / 2))
  }

  get(key: K): V | undefined {
    const value = this.young.get(key)
    if (value !== undefined) return value
    const older = this.old.get(key)
    if (older !== undefined) this.put(key, older)
    return older
  }

  has(key: K): boolean {
    return this.get(key) !== undefined
  }

  put(key: K, value: V): void {
    this.old.delete(key)
    this.young.set(key, value)
    if (this.young.size <= this.generation) return
    this.old = this.young
    this.old.delete(key)
    this.young = new Map([[key, value]])
  }

  delete(key: K): void {
    this.young.delete(key)
    this.old.delete(key)
  }

  clear(): void {
    this.young = new Map()
    this.old = new Map()
  }

  get size(): number {
    return this.young.size + this.old.size
  }
}
