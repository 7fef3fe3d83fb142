/**
 * What the in-process database keeps of locks, and what its statements do to it.
 */
import type { SessionKey } from "../../SessionId.ts"
import type {
  AcquireLockOutcome,
  AcquireLockRequest,
  ExtendLockOutcome,
  ExtendLockRequest,
  LockFence,
  LockKey
} from "../../SessionLockStorage.ts"
import type { Transaction } from "./MemoryDatabase.ts"
import { isLive } from "./MemoryRows.ts"

/** How many nodes may wait for one lock. */
const maxQueue = 256

/** One permit of a lock, free once it was released or `until` has passed. */
export interface LockSlot {
  /** `undefined`: released, whatever the clock says, which may have been set back since. */
  readonly owner: string | undefined
  readonly node: string
  /** Of its latest grant. */
  readonly token: bigint
  readonly until: number
}

/** A lock that was used. */
export interface LockRow {
  readonly key: LockKey
  readonly session: SessionKey | undefined
  readonly slots: ReadonlyArray<LockSlot>
  /** The nodes that wait, the first one's turn first. */
  readonly queue: ReadonlyArray<string>
}

const isFree = ({ owner, until }: LockSlot, now: number): boolean => owner === undefined || until <= now

/** Whether the token is that of the latest grant of the lock, or of one of its permits. */
export const isLatestGrant = (locks: ReadonlyMap<LockKey, LockRow>, { lock, token }: LockFence): boolean =>
  locks.get(lock)?.slots.some((slot) => slot.token === token) ?? false

const isSessionLive = ({ now, rows }: Transaction, session: SessionKey | undefined): boolean => {
  if (session === undefined) return true
  const row = rows.get(session)
  return row !== undefined && isLive(row, now)
}

const soonest = (slots: ReadonlyArray<LockSlot>): LockSlot | undefined =>
  slots.reduce<LockSlot | undefined>(
    (best, slot) => (best === undefined || slot.until < best.until ? slot : best),
    undefined
  )

/** The latest end first, those that were released last. */
const byEnd = (left: LockSlot, right: LockSlot): number =>
  Number(left.owner === undefined) - Number(right.owner === undefined) ||
  right.until - left.until ||
  (right.token > left.token ? 1 : -1)

/** `LockStorage.acquire` */
export const acquire = (transaction: Transaction, request: AcquireLockRequest): AcquireLockOutcome => {
  const { announce, locks, nextToken, now } = transaction
  const { leaseTime, lock, node, owner, permits, session, turn } = request
  if (!isSessionLive(transaction, session)) return { _tag: "SessionGone" }
  const row = locks.get(lock) ?? { key: lock, session, slots: [], queue: [] }
  const live = row.slots.filter((slot) => !isFree(slot, now))
  const own = live.find((slot) => slot.owner === owner)
  if (own !== undefined) return { _tag: "Granted", token: own.token, expiresAt: own.until }

  const [first] = row.queue
  const free = row.slots.filter((slot) => isFree(slot, now))
  const oldest = soonest(free)
  const freeSince = row.slots.length < permits ? -Infinity : (oldest?.until ?? -Infinity)
  const isKept = now < freeSince + turn && now >= freeSince - turn
  if (live.length < permits && (first === undefined || first === node || !isKept)) {
    const slot = { owner, node, token: nextToken(), until: now + leaseTime }
    const taken =
      oldest === undefined ? [...row.slots, slot] : row.slots.map((other) => (other === oldest ? slot : other))
    // There may have been more permits once: the token of a former holder must not stay valid beside the present ones.
    const slots = taken.length <= permits ? taken : taken.toSorted(byEnd).slice(0, permits)
    // Who was first and did not come in time has missed its turn.
    const queue = row.queue.filter((waiting) => waiting !== node && waiting !== first)
    if (request.queue === "waitAgain") queue.push(node)
    locks.set(lock, { ...row, slots, queue })
    const [next] = queue
    if (next !== undefined && live.length + 1 < permits) announce({ _tag: "LockFreed", lock, node: next })
    return { _tag: "Granted", token: slot.token, expiresAt: slot.until }
  }

  const isQueued = row.queue.includes(node)
  const queue = request.queue === "none" || isQueued || row.queue.length >= maxQueue ? row.queue : [...row.queue, node]
  if (queue !== row.queue) locks.set(lock, { ...row, queue })
  if (live.length < permits) {
    const until = freeSince + turn
    return { _tag: "Held", node: first ?? node, until, retryAt: until }
  }
  const holder = soonest(live)
  const until = holder?.until ?? now
  return { _tag: "Held", node: holder?.node ?? node, until, retryAt: queue[0] === node ? until : until + turn }
}

/** `LockStorage.extend` */
export const extend = (transaction: Transaction, request: ExtendLockRequest): ExtendLockOutcome => {
  const { locks, now } = transaction
  const row = locks.get(request.lock)
  const own = row?.slots.find(({ owner, token }) => owner === request.owner && token === request.token)
  if (row === undefined || own === undefined || own.until <= now || !isSessionLive(transaction, request.session)) {
    return { _tag: "Lost" }
  }
  const until = Math.max(own.until, now + request.leaseTime)
  locks.set(row.key, { ...row, slots: row.slots.map((slot) => (slot === own ? { ...own, until } : slot)) })
  return { _tag: "Extended", expiresAt: until }
}

/** `LockStorage.release` */
export const release = ({ announce, locks, now }: Transaction, lock: LockKey, owner: string): boolean => {
  const row = locks.get(lock)
  const own = row?.slots.find((slot) => slot.owner === owner)
  if (row === undefined || own === undefined) return false
  const freed = { ...own, owner: undefined, until: Math.min(own.until, now) }
  locks.set(lock, { ...row, slots: row.slots.map((slot) => (slot === own ? freed : slot)) })
  const [first] = row.queue
  if (first !== undefined) announce({ _tag: "LockFreed", lock, node: first })
  return own.until > now
}

/** `LockStorage.leave` */
export const leave = ({ announce, locks, now }: Transaction, lock: LockKey, node: string): void => {
  const row = locks.get(lock)
  if (row === undefined || !row.queue.includes(node)) return
  const queue = row.queue.filter((waiting) => waiting !== node)
  locks.set(lock, { ...row, queue })
  const [next] = queue
  if (next !== undefined && row.queue[0] === node && row.slots.some((slot) => isFree(slot, now))) {
    announce({ _tag: "LockFreed", lock, node: next })
  }
}

/** `LockStorage.sweep` */
export const sweep = (
  { locks, now }: Transaction,
  { limit, unusedFor }: { readonly unusedFor: number; readonly limit: number }
): number => {
  const unused = Array.from(locks.values())
    .filter(({ slots }) => slots.every(({ until }) => until <= now - unusedFor))
    .slice(0, limit)
  for (const { key } of unused) locks.delete(key)
  return unused.length
}
