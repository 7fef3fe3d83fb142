/**
 * A map with several values for a key. Most keys have one, which is kept by itself: a set of one takes as much memory as a small
 * session, and time to make.
 */
export class MultiMap<K, V extends object> {
  private readonly map = new Map<K, V | Set<V>>()

  add(key: K, value: V): void {
    const present = this.map.get(key)
    if (present === undefined) this.map.set(key, value)
    else if (present instanceof Set) present.add(value)
    else if (present !== value) this.map.set(key, new Set([present, value]))
  }

  delete(key: K, value: V): void {
    const present = this.map.get(key)
    if (present === value) this.map.delete(key)
    else if (present instanceof Set && present.delete(value) && present.size === 0) this.map.delete(key)
  }

  /** The values of a key, as they are now, in the order in which they came. */
  of(key: K): ReadonlyArray<V> {
    const present = this.map.get(key)
    return present === undefined ? [] : present instanceof Set ? [...present] : [present]
  }

  /** The values of all keys. */
  *values(): Generator<V> {
    for (const present of this.map.values()) {
      if (present instanceof Set) yield* present
      else yield present
    }
  }

  clear(): void {
    this.map.clear()
  }
}
