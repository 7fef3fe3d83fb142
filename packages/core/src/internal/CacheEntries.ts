/**
 * The data structure behind the cache: a bounded LRU of sessions, found by the
 * presented id in one map lookup, and by key, user or group when they have to be
 * dropped. It knows no rules of coherence.
 */
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Session } from "../Session.ts"
import type { SecretHash, SessionId, SessionKey } from "../SessionId.ts"
import { SessionImpl, type SessionView } from "./SessionView.ts"
import type { Activity } from "./TouchBuffer.ts"

/** An id that was verified against an entry: a hit by it hashes nothing. */
export class Handle {
  readonly token: string
  readonly entry: Entry
  readonly session: SessionImpl
  /** The answer to a hit, made once. */
  readonly exit: Exit.Exit<Session>
  private option: Exit.Exit<Option.Option<Session>> | undefined = undefined
  /** Until when the id is accepted, on this node's clock: a former id ends with its grace. */
  readonly acceptedUntil: number
  /** Until when a hit may be answered without asking anybody. */
  readonly serveUntil: number

  constructor(token: string, id: SessionId, entry: Entry, acceptedUntil: number, proof: SecretHash | undefined) {
    this.token = token
    this.entry = entry
    this.session = new SessionImpl(entry.view, id, undefined, undefined, proof)
    this.exit = Exit.succeed(this.session)
    this.acceptedUntil = acceptedUntil
    this.serveUntil = Math.min(acceptedUntil, entry.serveUntil)
  }

  /** The answer to a hit of somebody who asks for an option, made once. */
  get found(): Exit.Exit<Option.Option<Session>> {
    return (this.option ??= Exit.succeed(Option.some(this.session)))
  }
}

/** One cached session. */
export class Entry {
  readonly view: SessionView
  /** Until when the entry is known to be alive: no other node can make that earlier without a notice. */
  readonly validUntil: number
  /** Until when a gathered use must have been written. */
  readonly touchBefore: number
  /** Until when a hit that counts as activity needs no confirmation from the database. */
  readonly serveUntil: number
  current: Handle | undefined = undefined
  former: Handle | undefined = undefined
  newer: Entry | undefined = undefined
  older: Entry | undefined = undefined
  readonly activity: Activity
  cached = false

  constructor(view: SessionView, activity: Activity, validUntil: number, touchBefore: number) {
    this.view = view
    this.activity = activity
    this.validUntil = validUntil
    this.touchBefore = touchBefore
    this.serveUntil = Math.min(validUntil, touchBefore)
  }

  get key(): SessionKey {
    return this.view.row.key
  }

  /** Registers a verified id. */
  accept(token: string, id: SessionId, acceptedUntil: number, proof?: SecretHash): Handle {
    const handle = new Handle(token, id, this, acceptedUntil, proof)
    if (acceptedUntil === Infinity) this.current = handle
    else this.former = handle
    return handle
  }
}

export class CacheEntries {
  private readonly capacity: number
  private readonly byToken = new Map<string, Handle>()
  private readonly byKey = new Map<SessionKey, Entry>()
  private readonly byUser = new Map<string, Entry | Set<Entry>>()
  private readonly byGroup = new Map<string, Entry | Set<Entry>>()
  private newest: Entry | undefined = undefined
  private oldest: Entry | undefined = undefined
  private evictions = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  handle(token: string): Handle | undefined {
    return this.byToken.get(token)
  }

  entry(key: SessionKey): Entry | undefined {
    return this.byKey.get(key)
  }

  /** Inserts an entry in place of the one its key may have; the least recently used one goes if there are too many. */
  put(entry: Entry): void {
    const replaced = this.byKey.get(entry.key)
    if (replaced !== undefined) this.remove(replaced)
    entry.cached = true
    this.byKey.set(entry.key, entry)
    index(this.byUser, entry.view.row.userId, entry)
    index(this.byGroup, entry.view.row.groupId, entry)
    this.link(entry)
    if (this.byKey.size > this.capacity && this.oldest !== undefined) {
      this.evictions++
      this.remove(this.oldest)
    }
  }

  /** Makes a verified id of a cached entry findable. */
  putHandle(handle: Handle): void {
    if (handle.entry.cached) this.byToken.set(handle.token, handle)
  }

  remove(entry: Entry): void {
    if (!entry.cached) return
    entry.cached = false
    this.byKey.delete(entry.key)
    if (entry.current !== undefined) this.byToken.delete(entry.current.token)
    if (entry.former !== undefined) this.byToken.delete(entry.former.token)
    unindex(this.byUser, entry.view.row.userId, entry)
    unindex(this.byGroup, entry.view.row.groupId, entry)
    this.unlink(entry)
  }

  /** Marks an entry as the most recently used. */
  promote(entry: Entry): void {
    if (entry === this.newest || !entry.cached) return
    this.unlink(entry)
    this.link(entry)
  }

  ofUser(userId: string): ReadonlyArray<Entry> {
    return entriesIn(this.byUser, userId)
  }

  ofGroup(groupId: string): ReadonlyArray<Entry> {
    return entriesIn(this.byGroup, groupId)
  }

  /** All keys, the least recently used first. */
  keys(): ReadonlyArray<SessionKey> {
    const keys: Array<SessionKey> = []
    for (let entry = this.oldest; entry !== undefined; entry = entry.newer) keys.push(entry.key)
    return keys
  }

  clear(): void {
    for (const entry of this.byKey.values()) entry.cached = false
    this.byToken.clear()
    this.byKey.clear()
    this.byUser.clear()
    this.byGroup.clear()
    this.newest = undefined
    this.oldest = undefined
  }

  get size(): number {
    return this.byKey.size
  }

  /** How many entries had to go for lack of room. */
  get evicted(): number {
    return this.evictions
  }

  private link(entry: Entry): void {
    entry.older = this.newest
    entry.newer = undefined
    if (this.newest !== undefined) this.newest.newer = entry
    this.newest = entry
    this.oldest ??= entry
  }

  private unlink(entry: Entry): void {
    if (entry.newer === undefined) this.newest = entry.older
    else entry.newer.older = entry.older
    if (entry.older === undefined) this.oldest = entry.newer
    else entry.older.newer = entry.newer
    entry.newer = undefined
    entry.older = undefined
  }
}

// Most users have one session in memory, and a set of one takes as much memory as a small session.
const index = (map: Map<string, Entry | Set<Entry>>, name: string | undefined, entry: Entry): void => {
  if (name === undefined) return
  const present = map.get(name)
  if (present === undefined) map.set(name, entry)
  else if (present instanceof Entry) map.set(name, new Set([present, entry]))
  else present.add(entry)
}

const unindex = (map: Map<string, Entry | Set<Entry>>, name: string | undefined, entry: Entry): void => {
  if (name === undefined) return
  const present = map.get(name)
  if (present === undefined) return
  if (present instanceof Entry) {
    if (present === entry) map.delete(name)
    return
  }
  present.delete(entry)
  if (present.size === 0) map.delete(name)
}

const entriesIn = (map: Map<string, Entry | Set<Entry>>, name: string): ReadonlyArray<Entry> => {
  const present = map.get(name)
  return present === undefined ? [] : present instanceof Entry ? [present] : [...present]
}
