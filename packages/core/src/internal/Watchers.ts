/**
 * Who wants to know when something was said about a session.
 */
import type { SessionKey } from "../SessionId.ts"

export class Watchers {
  private readonly callbacks = new Map<SessionKey, Set<() => void>>()
  private count = 0

  /** Calls back whenever something was said about the key; the result unregisters. */
  add(key: SessionKey, callback: () => void): () => void {
    this.count++
    const callbacks = this.callbacks.get(key)
    if (callbacks === undefined) this.callbacks.set(key, new Set([callback]))
    else callbacks.add(callback)
    return () => {
      const current = this.callbacks.get(key)
      if (current?.delete(callback) === true) this.count--
      if (current?.size === 0) this.callbacks.delete(key)
    }
  }

  signal(key: SessionKey): void {
    const callbacks = this.callbacks.get(key)
    if (callbacks === undefined) return
    for (const callback of callbacks) callback()
  }

  /** Calls back those whose session fulfils a condition. */
  signalWhere(condition: (key: SessionKey) => boolean): void {
    for (const key of this.callbacks.keys()) {
      if (condition(key)) this.signal(key)
    }
  }

  /** How many callbacks there are, for all sessions together. */
  get total(): number {
    return this.count
  }

  /** How many sessions are watched. */
  get size(): number {
    return this.callbacks.size
  }
}
