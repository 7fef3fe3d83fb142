/**
 * Ids that the database has just said do not exist, remembered briefly so that
 * asking for them again and again is cheap. They have a memory of their own:
 * somebody who presents made-up ids must not evict sessions.
 */
import type { SessionKey } from "../SessionId.ts"
import { RecentMap } from "./RecentMap.ts"

/** How many are remembered at most; the latest half is in any case. About 200 bytes each. */
const capacity = 10_000

interface Absent {
  readonly token: string
  readonly until: number
}

export class AbsentKeys {
  private readonly keys = new RecentMap<SessionKey, Absent>(capacity)

  remember(key: SessionKey, token: string, until: number): void {
    this.keys.put(key, { token, until })
  }

  has(key: SessionKey, token: string, now: number): boolean {
    const absent = this.keys.get(key)
    if (absent === undefined || absent.token !== token) return false
    if (now < absent.until) return true
    this.keys.delete(key)
    return false
  }

  forget(key: SessionKey): void {
    this.keys.delete(key)
  }

  clear(): void {
    this.keys.clear()
  }

  get size(): number {
    return this.keys.size
  }
}
