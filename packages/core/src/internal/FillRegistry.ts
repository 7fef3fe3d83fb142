/**
 * Operations in flight whose result may enter the cache, and what was announced
 * meanwhile. A result read before a change must not be cached after the change's
 * notice went by: every load and every write registers here before its
 * statement is sent, and its result is admitted only if nothing newer was announced
 * since. Marks live as long as the operations, so memory is bounded by what is in
 * flight: there are no tombstones and no timers.
 */
import * as Effect from "effect/Effect"
import type { SessionKey } from "../SessionId.ts"
import { MultiMap } from "./MultiMap.ts"

/** Whose a session is. */
export interface Owners {
  readonly userId: string | undefined
  readonly groupId: string | undefined
}

/** The names under which notices speak of many sessions. */
export const userOwner = (userId: string | undefined): string => `user ${userId}`
export const groupOwner = (groupId: string | undefined): string => `group ${groupId}`

/** One operation in flight. */
export class Fill {
  readonly key: SessionKey
  readonly epoch: number
  /** The highest version announced for the key since the operation began. */
  announced: bigint | undefined = undefined
  /** The session's end was announced since the operation began. */
  gone = false
  /** Users and groups about whom something was announced since; see {@link FillRegistry.announceOwner}. */
  owners: Set<string> | undefined = undefined
  /** The end of everything was announced since the operation began. */
  allEnded = false

  constructor(key: SessionKey, epoch: number) {
    this.key = key
    this.epoch = epoch
  }

  /** Whether anything was announced for the key since: a marked load takes no new joiners. */
  get marked(): boolean {
    return this.gone || this.announced !== undefined || this.owners !== undefined
  }
}

export class FillRegistry {
  private readonly fills = new MultiMap<SessionKey, Fill>()
  private epoch = 0

  /** Registers an operation; call it before its statement is sent. */
  begin(key: SessionKey): Fill {
    const fill = new Fill(key, this.epoch)
    this.fills.add(key, fill)
    return fill
  }

  /** Unregisters an operation that is settled, whatever its outcome. */
  end(fill: Fill): void {
    this.fills.delete(fill.key, fill)
  }

  /** Registers an operation for each of the keys until the effect has ended, however it does. */
  during<const Keys extends ReadonlyArray<SessionKey>, A, E>(
    keys: Keys,
    effect: (fills: { readonly [Index in keyof Keys]: Fill }) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      const fills = keys.map((key) => this.begin(key))
      return Effect.onExitPrimitive(effect(fills as { readonly [Index in keyof Keys]: Fill }), () => {
        for (const fill of fills) this.end(fill)
        return undefined
      })
    })
  }

  /** Something was said about one key: a notice, or an own write that was acknowledged. `undefined`: it is gone. */
  announce(key: SessionKey, version: bigint | undefined): void {
    for (const fill of this.fills.of(key)) {
      if (version === undefined) fill.gone = true
      else if (fill.announced === undefined || fill.announced < version) fill.announced = version
    }
  }

  /** Something was said about all sessions of a user or group: what is in flight may be one of them. */
  announceOwner(owner: string): void {
    for (const fill of this.fills.values()) {
      if (fill.owners === undefined) fill.owners = new Set([owner])
      else fill.owners.add(owner)
    }
  }

  /** The end of all sessions was announced. */
  announceEnd(): void {
    this.announceAll()
    for (const fill of this.fills.values()) fill.allEnded = true
  }

  /** Something was said about everything, or notices may have been missed: nothing in flight may be cached. */
  announceAll(): void {
    this.epoch++
  }

  /** Whether a result of this version, which belongs to these users and groups, may enter the cache. */
  admits(fill: Fill, version: bigint, owners: Owners = noOwners): boolean {
    if (!this.isCurrent(fill) || fill.gone) return false
    if (fill.announced !== undefined && fill.announced > version) return false
    return !isNamed(fill, owners)
  }

  /** Whether an ending was announced, since the operation began, that may be that of the session which it found. */
  mayHaveEnded(fill: Fill, row: Owners & { readonly version: bigint }): boolean {
    if (fill.gone || fill.allEnded || isNamed(fill, row)) return true
    // Its owners may be others by now.
    return fill.owners !== undefined && fill.announced !== undefined && fill.announced > row.version
  }

  /** Whether "there is no such session" may be remembered. */
  admitsAbsence(fill: Fill): boolean {
    return this.isCurrent(fill) && !fill.marked
  }

  /** Whether no bulk notice and no reconnect came since the operation began. */
  isCurrent(fill: Fill): boolean {
    return fill.epoch === this.epoch
  }

  /** Operations in flight. */
  get size(): number {
    return [...this.fills.values()].length
  }
}

const noOwners: Owners = { userId: undefined, groupId: undefined }

const isNamed = ({ owners: named }: Fill, { groupId, userId }: Owners): boolean =>
  named !== undefined && (named.has(userOwner(userId)) || named.has(groupOwner(groupId)))
