/**
 * Remembers cookies that were verified, so that the next request with the same one
 * costs a lookup instead of an HMAC. Only what a key has signed gets in, so nobody
 * can fill it from outside; it forgets the oldest beyond its capacity.
 */
export class RecentlyVerified<A> {
  private readonly capacity: number
  private readonly entries = new Map<string, A>()

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get(value: string): A | undefined {
    return this.entries.get(value)
  }

  put(value: string, verified: A): A {
    if (this.entries.size >= this.capacity) {
      for (const oldest of this.entries.keys()) {
        this.entries.delete(oldest)
        break
      }
    }
    this.entries.set(value, verified)
    return verified
  }

  get size(): number {
    return this.entries.size
  }
}
