/**
 * The data structure behind the cache: a bounded number of sessions, found by the
 * presented id in one map lookup, and by key, user or group when they have to be
 * dropped. It knows no rules of coherence.
 *
 * What goes when there is no more room is decided by SIEVE (Zhang et al., NSDI 2024): sessions stand in the order in which they came,
 * a use only marks one, and a hand that goes round takes the first that was not used since it came by last. A use so writes one
 * field, where a list by the order of use has to write six in three sessions; and sessions that are looked at only once, as a crawler's
 * are, go before those that are used again.
 */
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import type { Session } from "../Session.ts"
import type { SessionId, SessionKey } from "../SessionId.ts"
import { MultiMap } from "./MultiMap.ts"
import { SessionImpl } from "./SessionImpl.ts"
import { SessionView } from "./SessionView.ts"
import type { Activity } from "./TouchBuffer.ts"
import { Link, Whereabouts } from "./Whereabouts.ts"

/** A session in memory, by an id that was verified against it: a hit by that id hashes nothing. */
export class Handle extends SessionImpl {
  declare readonly view: Entry
  /** What leads here without a lookup, once an id does. */
  private way: Link | undefined = undefined

  /** The answer to a hit. A visit to one that was kept would take longer, with many sessions in memory. */
  get exit(): Exit.Exit<Session> {
    return Exit.succeed(this)
  }

  get entry(): Entry {
    return this.view
  }

  /** Until when a hit may be answered without asking anybody: a former id ends with its grace. */
  get serveUntil(): number {
    const { view } = this
    return this === view.former ? Math.min(view.serveUntil, view.formerDeadline) : view.serveUntil
  }

  /** What an id of this session remembers, for as long as it is in the cache of that mark. */
  link(mark: object): Link {
    return (this.way ??= new Link(this, mark))
  }

  /** No id leads here any more. */
  vacate(): void {
    if (this.way === undefined) return
    this.way.handle = undefined
    this.way = undefined
  }
}

/** A version of a session with what memory has to know of it. */
export class Entry extends SessionView {
  /** Until when a hit that counts as activity needs no confirmation from the database, on this node's clock. */
  serveUntil = 0
  current: Handle | undefined = undefined
  former: Handle | undefined = undefined
  /** Its last use on this node, once there was one. */
  activity: Activity | undefined = undefined
  /** Whether it was used since the hand came by. */
  used = false
  cached = false

  /**
   * Registers a verified id: the session's present one, or the one that its last rotation replaced. A part of a text keeps
   * the whole text in memory, which for a presented id may be a request's headers: give it a copy.
   */
  accept(token: string, as: "current" | "former"): Handle {
    const handle = new Handle(this, token, as === "current" ? this.secretHash : this.formerHash)
    this[as]?.vacate()
    this[as] = handle
    return handle
  }

  /** It is not in memory any more. */
  leave(): void {
    this.cached = false
    this.current?.vacate()
    this.former?.vacate()
  }
}

/** How many used sessions in a row are spared: no search for the one that goes may take long. */
const maxSpared = 128

/** After so many sessions that went by themselves the hand is given up, and begins anew. */
const maxRemoved = 1_000

export class CacheEntries {
  private readonly capacity: number
  /** What ids know this cache by; not the cache itself, which an id that is kept for long would keep. */
  private readonly mark = {}
  // Private to the engine, so that nothing which walks over an object's properties finds the ids.
  readonly #byToken = new Map<string, Handle>()
  /** In the order in which they came. */
  private readonly byKey = new Map<SessionKey, Entry>()
  private readonly byUser = new MultiMap<string, Entry>()
  private readonly byGroup = new MultiMap<string, Entry>()
  /** There is one while sessions have to go: an iterator keeps every table that its map has outgrown, with all that was in it. */
  private hand: MapIterator<Entry> | undefined = undefined
  /** How many sessions went by themselves since the hand moved. */
  private removed = 0
  private evictions = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  /** The session of an id that was verified; the id object remembers it until the session goes. */
  handle(id: SessionId): Handle | undefined {
    const link = Whereabouts.of(id)
    if (link !== undefined && link.owner === this.mark) {
      const known = link.handle
      if (known !== undefined && known.entry.cached) return known
    }
    const handle = this.#byToken.get(Redacted.value(id))
    if (handle !== undefined) Whereabouts.set(id, handle.link(this.mark))
    return handle
  }

  entry(key: SessionKey): Entry | undefined {
    return this.byKey.get(key)
  }

  /** Inserts an entry, in the place and with the mark of the one its key may have; another one goes if there is no room. */
  put(entry: Entry): void {
    const replaced = this.byKey.get(entry.key)
    if (replaced !== undefined) {
      entry.used = replaced.used
      this.unlink(replaced)
    } else if (this.byKey.size >= this.capacity) {
      this.evict()
    }
    entry.cached = true
    this.byKey.set(entry.key, entry)
    const { groupId, userId } = entry
    if (userId !== undefined) this.byUser.add(userId, entry)
    if (groupId !== undefined) this.byGroup.add(groupId, entry)
  }

  /** Makes a verified id of a cached entry findable. */
  putHandle(handle: Handle): void {
    if (handle.entry.cached) this.#byToken.set(handle.token, handle)
  }

  remove(entry: Entry): void {
    if (!entry.cached) return
    this.unlink(entry)
    this.byKey.delete(entry.key)
    if (this.hand !== undefined && ++this.removed >= maxRemoved) this.hand = undefined
  }

  ofUser(userId: string): ReadonlyArray<Entry> {
    return this.byUser.of(userId)
  }

  ofGroup(groupId: string): ReadonlyArray<Entry> {
    return this.byGroup.of(groupId)
  }

  /** All keys, in the order in which they came. */
  keys(): ReadonlyArray<SessionKey> {
    return [...this.byKey.keys()]
  }

  clear(): void {
    for (const entry of this.byKey.values()) entry.leave()
    this.#byToken.clear()
    this.byKey.clear()
    this.byUser.clear()
    this.byGroup.clear()
    this.hand = undefined
  }

  get size(): number {
    return this.byKey.size
  }

  /** How many entries had to go for lack of room. */
  get evicted(): number {
    return this.evictions
  }

  private evict(): void {
    for (let spared = 0; ; spared++) {
      this.hand ??= this.byKey.values()
      const { done, value: entry } = this.hand.next()
      if (done === true) {
        this.hand = undefined
      } else if (entry.used && spared < maxSpared) {
        entry.used = false
      } else {
        this.evictions++
        this.remove(entry)
        this.removed = 0
        return
      }
    }
  }

  /** Takes an entry out of everything but its place in the order. */
  private unlink(entry: Entry): void {
    entry.leave()
    if (entry.current !== undefined) this.#byToken.delete(entry.current.token)
    if (entry.former !== undefined) this.#byToken.delete(entry.former.token)
    const { groupId, userId } = entry
    if (userId !== undefined) this.byUser.delete(userId, entry)
    if (groupId !== undefined) this.byGroup.delete(groupId, entry)
  }
}
