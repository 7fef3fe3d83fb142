/**
 * This node's memory of sessions, and the rules that keep it true.
 *
 * - An entry is served only while this node knows that every change committed up
 *   to `maxStaleness` ago has been applied here (`syncedThrough`, see
 *   `internal/Synchronization.ts`), and only until its own deadlines.
 * - A result enters only if nothing newer was announced since its statement was
 *   sent (`internal/FillRegistry.ts`), and never replaces a higher version.
 * - What the database has just said to be absent is remembered briefly, in a
 *   bounded memory of its own.
 * - When there are more than `cacheCapacity`, one goes that was not used lately (`internal/CacheEntries.ts`).
 *
 * Everything here is synchronous; the statements are `SessionStore`'s.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { AbsentKeys } from "./internal/AbsentKeys.ts"
import { CacheEntries, Entry, type Handle } from "./internal/CacheEntries.ts"
import { touchBefore, validUntil } from "./internal/Deadlines.ts"
import { type Fill, FillRegistry, groupOwner, userOwner } from "./internal/FillRegistry.ts"
import { NodeClock } from "./internal/NodeClock.ts"
import { type Presented, type Proof, prove } from "./internal/Proof.ts"
import type { AnswerTime, Deadlines, SessionView } from "./internal/SessionView.ts"
import { TouchBuffer } from "./internal/TouchBuffer.ts"
import { Watchers } from "./internal/Watchers.ts"
import { SessionConfig, type Settings } from "./SessionConfig.ts"
import { keyOfToken, type SessionId, type SessionKey } from "./SessionId.ts"
import type { Notice } from "./SessionNotifier.ts"
import type { DeleteTarget, Revalidated, SessionRow } from "./SessionStorage.ts"

/** How long an absent id is remembered at most, in milliseconds; never longer than `maxStaleness`. */
const absentMillis = 2_000

/** Counters since the layer was built. */
export interface CacheCounters {
  hits: number
  misses: number
  invalidations: number
}

/** The cache of one node. */
export class Cache {
  readonly clock: NodeClock
  readonly fills = new FillRegistry()
  readonly counters: CacheCounters = { hits: 0, misses: 0, invalidations: 0 }
  readonly touches: TouchBuffer
  private readonly settings: Settings
  private readonly entries: CacheEntries
  private readonly absent = new AbsentKeys()
  readonly watchers = new Watchers()
  private syncedThrough = -Infinity

  constructor(settings: Settings, clock: NodeClock) {
    this.settings = settings
    this.clock = clock
    this.touches = new TouchBuffer(
      settings.lastAccessFlushInterval,
      Math.max(settings.cacheCapacity, settings.lastAccessFlushBatchSize)
    )
    this.entries = new CacheEntries(settings.cacheCapacity)
  }

  /** Whether memory may be served at all: everything committed up to `maxStaleness` ago has been applied. */
  isSynced(now: number): boolean {
    return now - this.syncedThrough <= this.settings.maxStaleness
  }

  /** How far back this node's knowledge may be, in milliseconds; infinite before the first beat and after a loss. */
  staleness(now: number): number {
    return now - this.syncedThrough
  }

  /** A verified id that may be answered from memory, whatever that does to its idle time. */
  hit(id: SessionId, now: number): Handle | undefined {
    const handle = this.entries.handle(id)
    if (handle === undefined || now >= handle.serveUntil || !this.isSynced(now)) return undefined
    this.counters.hits++
    handle.entry.used = true
    return handle
  }

  /** A live entry, whether or not the presented id was seen before. */
  live(key: SessionKey, now: number): Entry | undefined {
    const entry = this.entries.entry(key)
    return entry !== undefined && now < validUntil(entry, this.settings) && this.isSynced(now) ? entry : undefined
  }

  /** Whatever is cached for the key, servable or not. */
  peek(key: SessionKey): Entry | undefined {
    return this.entries.entry(key)
  }

  /** Whether what an entry says was true at most `maxStaleness` ago. */
  isRecent(entry: Entry, now: number): boolean {
    return this.isSynced(now) || now - entry.loadedAt <= this.settings.maxStaleness
  }

  /** Compares a presented id with an entry, in constant time, and remembers an accepted one. `presented`: the same id, where it was hashed. */
  verify(entry: Entry, token: string, presented?: Presented): Proof {
    const proof = prove(entry, token, this.clock.now(), presented)
    if (proof._tag === "Accepted") this.entries.putHandle(proof.handle)
    return proof
  }

  /** Whether the database said a moment ago that the id does not exist. */
  isAbsent(key: SessionKey, token: string, now: number): boolean {
    return this.isSynced(now) && this.absent.has(key, token, now)
  }

  /**
   * Takes in a row from the database. The entry is always usable as an answer; it enters the cache only where the
   * rules allow. Attributes that are the same in `known` need not be decoded again, where nothing is cached.
   */
  admit(fill: Fill, row: SessionRow, time: AnswerTime, known?: SessionView): Entry {
    const previous = this.entries.entry(row.key)
    const entry = this.prepared(new Entry(row, this.clock, time, previous ?? known), previous)
    const isNewest = previous === undefined || previous.version <= row.version
    if (isNewest && this.fills.admits(fill, row.version, row)) this.entries.put(entry)
    return entry
  }

  /** Remembers that the id, of the fill's key and in a text of its own, does not exist, where the rules allow. */
  admitAbsence(fill: Fill, token: string, time: AnswerTime): void {
    if (!this.fills.admitsAbsence(fill)) return
    const lifetime = Math.min(absentMillis, this.settings.maxStaleness)
    this.absent.remember(keyOfToken(token), token, time.sentAt + lifetime)
  }

  private prepared(entry: Entry, previous: Entry | undefined): Entry {
    const activity = previous?.activity ?? this.touches.waiting(entry.key)
    const writeBy = touchBefore(entry, this.settings)
    // The limit may have become shorter since the mark was queued.
    if (activity?.queued === true && writeBy < activity.flushBy) this.touches.hasten(activity, writeBy)
    // In whole milliseconds, which the engine keeps in the entry itself.
    entry.serveUntil = Math.floor(Math.min(validUntil(entry, this.settings), writeBy))
    entry.activity = activity
    return entry
  }

  /** Counts as activity; it is written later. Not for entries beyond their `serveUntil`. */
  touch(entry: Entry, now: number): void {
    const activity = (entry.activity ??= this.touches.activity(entry.key))
    activity.touchedAt = Math.floor(now)
    if (!activity.queued) this.touches.queue(activity, now, touchBefore(entry, this.settings))
  }

  /**
   * Takes in new deadlines of an unchanged version: after a flush of activity, or when everything is checked again.
   * Ids that were verified stay verified. `loadedAt`: when the database was asked for the version; a flush does not.
   */
  refresh(entry: Entry, deadlines: Deadlines, time: AnswerTime, loadedAt = time.sentAt): Entry {
    if (!entry.cached) return entry
    const { expiresAt, idleTimeout, lastAccessedAt } = deadlines
    const row = entry.with({ expiresAt, idleTimeout, lastAccessedAt })
    const renewed = this.prepared(new Entry(row, this.clock, time, entry, loadedAt), entry)
    this.entries.put(renewed)
    if (entry.current !== undefined) this.entries.putHandle(renewed.accept(entry.current.token, "current"))
    if (entry.former !== undefined) this.entries.putHandle(renewed.accept(entry.former.token, "former"))
    return renewed
  }

  /** An own operation on a session was acknowledged: older results in flight must not be cached, nor an older entry served. */
  acknowledge(key: SessionKey, version: bigint | undefined): void {
    this.absent.forget(key)
    this.supersede(key, version)
  }

  /** The session has this version now, or has ended (`undefined`): what is older must not be cached any more, nor served. */
  supersede(key: SessionKey, version: bigint | undefined): void {
    this.fills.announce(key, version)
    const entry = this.entries.entry(key)
    if (entry !== undefined && (version === undefined || entry.version < version)) this.drop(entry)
    this.watchers.signal(key)
  }

  /** Nobody knows what became of the session: drop it, and let nothing in flight bring it back. */
  forget(key: SessionKey): void {
    this.acknowledge(key, undefined)
  }

  /** Drops the sessions of a bulk operation, and lets none of them that is in flight be cached. */
  forgetAll(target: Exclude<DeleteTarget, { readonly _tag: "Session" }>): void {
    switch (target._tag) {
      case "User":
        this.fills.announceOwner(userOwner(target.userId))
        for (const entry of this.entries.ofUser(target.userId)) this.drop(entry)
        break
      case "Group":
        this.fills.announceOwner(groupOwner(target.groupId))
        for (const entry of this.entries.ofGroup(target.groupId)) this.drop(entry)
        break
      case "All":
        this.fills.announceEnd()
        this.clear()
    }
    // Those that were dropped, and those that are not in memory and so may be meant.
    this.watchers.signalWhere((key) => this.entries.entry(key) === undefined)
  }

  /** Applies what the database announces. It is a hint: the most that it can do is to drop an entry. */
  apply(notice: Exclude<Notice, { readonly _tag: "Beat" }>): void {
    switch (notice._tag) {
      case "Changes":
        for (const { key, version } of notice.changes) this.acknowledge(key, version)
        break
      case "User":
        this.forgetAll({ _tag: "User", userId: notice.userId, except: undefined })
        break
      case "Group":
        this.forgetAll({ _tag: "Group", groupId: notice.groupId, except: undefined })
        break
      case "All":
        this.forgetAll({ _tag: "All" })
        break
      case "LockFreed":
      case "Unreadable":
        break
    }
  }

  private drop(entry: Entry): void {
    this.counters.invalidations++
    this.entries.remove(entry)
  }

  private clear(): void {
    this.counters.invalidations += this.entries.size
    this.entries.clear()
    this.absent.clear()
  }

  /** Everything committed before `time` has been applied. */
  synchronized(time: number): void {
    if (time > this.syncedThrough) this.syncedThrough = time
  }

  /** Changes may be missed from now on: nothing is served from memory, nothing in flight may be cached. */
  desynchronized(): void {
    this.syncedThrough = -Infinity
    this.fills.announceAll()
    this.absent.clear()
  }

  /** Compares a batch of cached keys with what the database has; what differs is dropped. */
  revalidate(keys: ReadonlyArray<SessionKey>, sessions: ReadonlyArray<Revalidated>, time: AnswerTime): void {
    const found = new Map(sessions.map((session) => [session.key, session]))
    for (const key of keys) {
      const entry = this.entries.entry(key)
      if (entry === undefined) continue
      const session = found.get(key)
      if (session === undefined || session.version !== entry.version) {
        this.drop(entry)
        this.watchers.signal(key)
      } else {
        this.refresh(entry, session, time)
      }
    }
  }

  /** The cached keys, in the order in which they came. */
  keys(): ReadonlyArray<SessionKey> {
    return this.entries.keys()
  }

  get size(): number {
    return this.entries.size
  }

  get evicted(): number {
    return this.entries.evicted
  }

  get absentKeys(): number {
    return this.absent.size
  }
}

/** The service: one cache per layer. */
export class SessionCache extends Context.Service<SessionCache, Cache>()("@effect-pg-session/core/SessionCache") {
  /** An empty cache, sized by the settings; its clock is the fiber's `Clock`. */
  static readonly layer: Layer.Layer<SessionCache, never, SessionConfig> = Layer.effect(
    SessionCache,
    Effect.gen(function* () {
      return new Cache(yield* SessionConfig, new NodeClock(yield* Clock.Clock))
    })
  )
}
