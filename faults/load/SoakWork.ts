/**
 * What the clients of a soak do, in the node's own process, one thing after another
 * for as long as it lives: everything that begins something and must end it again.
 * The number of sessions stays the same; the sessions do not.
 */
import {
  GroupId,
  type LockService,
  Session,
  SessionAttribute,
  SessionId,
  SessionKey,
  type Sessions,
  UserId
} from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Random } from "../Random.ts"

const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })
const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })
const Elevated = SessionAttribute.make("elevated", Schema.Boolean, { timeToLive: "2 seconds", initial: () => false })

/** Sessions of this node, and of others that it reads and changes. */
const slots = 1_500
/** Sessions that locks are tied to: few, so that each has soon been locked. */
const lockedSlots = 60
const maxForeign = 500
const maxEnded = 500
const crowd = 20
const lockNames = 40
/** More than a node remembers as absent. */
const madeUp = 12_000
const shortLife = { min: 2_000, max: 8_000 }

const weights = {
  read: 60,
  refresh: 6,
  readForeign: 10,
  readEnded: 3,
  forge: 2,
  note: 10,
  count: 6,
  elevate: 1,
  turnOver: 8,
  rotate: 4,
  lock: 4,
  lockSession: 3,
  lockBriefly: 1,
  watch: 1.5,
  list: 1,
  endUser: 0.3,
  clear: 0.2
} as const

/** Every kind of operation. */
export const kinds: ReadonlyArray<string> = Object.keys(weights)

export interface Services {
  readonly sessions: Sessions
  readonly locks: LockService
}

/** A few of many, the last ones that came. */
class Ring {
  private readonly items: Array<string> = []
  private readonly capacity: number
  private next = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  add(item: string): void {
    this.items[this.next] = item
    this.next = (this.next + 1) % this.capacity
  }

  pick(random: Random): string | undefined {
    return this.items.length === 0 ? undefined : random.pick(this.items)
  }
}

export class Work {
  private readonly own: Array<string | undefined> = Array.from({ length: slots }, () => undefined)
  private readonly foreign = new Ring(maxForeign)
  private readonly ended = new Ring(maxEnded)
  private readonly random: Random
  private readonly sessions: Sessions
  private readonly locks: LockService
  private readonly begun: (token: string) => void

  /** `begun` is told of some sessions, for other nodes. */
  constructor({ locks, sessions }: Services, random: Random, begun: (token: string) => void) {
    this.sessions = sessions
    this.locks = locks
    this.random = random
    this.begun = begun
  }

  hear(token: string): void {
    this.foreign.add(token)
  }

  /** Fills what has a bound that a steady load would take long to reach. */
  get prepare(): Effect.Effect<void> {
    const begin = Effect.forEach(this.own.keys(), (slot) => Effect.ignore(this.begin(slot)), {
      concurrency: 64,
      discard: true
    })
    const ask = Effect.forEach(Array.from({ length: madeUp }), () => Effect.ignore(this.forge), {
      concurrency: 256,
      discard: true
    })
    return Effect.andThen(begin, ask)
  }

  /** One operation of a random kind. */
  get next(): { readonly kind: keyof typeof weights; readonly effect: Effect.Effect<unknown, Tagged> } {
    const kind = this.random.weighted(weights)
    const slot = this.random.integer(0, (kind === "lockSession" ? lockedSlots : slots) - 1)
    const token = this.own[slot]
    const id = token === undefined ? undefined : idOf(token)
    if (token === undefined || id === undefined) return { kind: "turnOver", effect: this.begin(slot) }
    return { kind, effect: this.operation(kind, slot, token, id) }
  }

  private operation(
    kind: keyof typeof weights,
    slot: number,
    token: string,
    id: SessionId
  ): Effect.Effect<unknown, Tagged> {
    const { locks, random, sessions } = this
    switch (kind) {
      case "read":
        return this.found(slot, token, sessions.find(id))
      case "refresh":
        return this.found(slot, token, sessions.find(id, { refresh: true, touch: false }))
      case "readForeign":
        return this.onForeign((foreign) =>
          random.chance(0.9)
            ? sessions.find(foreign)
            : sessions.modify(foreign, Session.set(Note, this.text), { check: "none" })
        )
      case "readEnded": {
        const ended = idOf(this.ended.pick(random) ?? "")
        return ended === undefined ? Effect.void : sessions.find(ended)
      }
      case "forge":
        return this.forge
      case "note":
        return sessions.modify(id, Session.set(Note, this.text), { check: "none" })
      case "count":
        return sessions.modify(
          id,
          Session.modify(Count, (count) => count + 1)
        )
      case "elevate":
        return sessions.modify(id, Session.set(Elevated, true), { check: "none" })
      case "turnOver":
        return Effect.andThen(this.end(slot, token), this.begin(slot))
      case "rotate":
        return Effect.flatMap(sessions.rotate(id, { grace: random.pick([0, 500, 10_000]) }), (rotated) => {
          const present = this.own[slot]
          // Who looked for the old id meanwhile has found nothing; who begins a session in its place has no use for this one.
          if (present !== undefined && present !== token) return sessions.delete(rotated.id)
          this.own[slot] = Redacted.value(rotated.id)
          return Effect.void
        })
      case "lock":
        return locks.withLock(`lock-${random.integer(0, lockNames - 1)}`, () => Effect.sleep(random.integer(0, 4)), {
          wait: "2 seconds"
        })
      case "lockSession":
        return locks.withLock(
          "tied",
          (lease) =>
            sessions.modify(
              id,
              Session.modify(Count, (count) => count + 1),
              { check: "none", fence: lease }
            ),
          { wait: "2 seconds", session: SessionKey.make(token.slice(0, 22)) }
        )
      case "lockBriefly":
        return locks.withLock(`lock-${random.integer(0, lockNames - 1)}`, () => Effect.void, { wait: "none" })
      case "watch":
        return Stream.runDrain(Stream.take(sessions.watch(id), 1))
      case "list":
        return sessions.listForUser(UserId.make(`crowd-${random.integer(0, crowd - 1)}`))
      case "endUser":
        return sessions.deleteAllForUser(UserId.make(`crowd-${random.integer(0, crowd - 1)}`))
      case "clear":
        return sessions.clearCacheForUser(UserId.make(`crowd-${random.integer(0, crowd - 1)}`))
    }
  }

  /** Something between a few bytes and a few kilobytes. */
  private get text(): string {
    return "x".repeat(this.random.integer(1, 30) * this.random.integer(1, 100))
  }

  private get forge(): Effect.Effect<unknown, Tagged> {
    const text = (length: number) => Array.from({ length }, () => this.random.pick(alphabet)).join("")
    const id = idOf(`${text(21)}A${text(42)}A`)
    return id === undefined ? Effect.die(new Error("a made-up id is malformed")) : this.sessions.find(id)
  }

  private onForeign(use: (id: SessionId) => Effect.Effect<unknown, Tagged>): Effect.Effect<unknown, Tagged> {
    const id = idOf(this.foreign.pick(this.random) ?? "")
    return id === undefined ? Effect.void : use(id)
  }

  private found(slot: number, token: string, find: ReturnType<Sessions["find"]>): Effect.Effect<unknown, Tagged> {
    return Effect.map(find, (session) => {
      // It has expired, or made room for another login.
      if (Option.isNone(session) && this.own[slot] === token) this.own[slot] = undefined
    })
  }

  private begin(slot: number): Effect.Effect<void, Tagged> {
    const { random, sessions } = this
    const groupId = random.chance(0.2) ? GroupId.make(`group-${random.integer(0, 9)}`) : undefined
    const attributes = [SessionAttribute.value(Note, this.text)]
    const how = random.weighted({ solo: 6, crowd: 1, guest: 2, short: 1 })
    const user = UserId.make(how === "crowd" ? `crowd-${random.integer(0, crowd - 1)}` : `solo-${this.unique}`)
    const guest = Effect.flatMap(sessions.createAnonymous({ groupId, attributes }), ({ id }) =>
      sessions.rotate(id, { userId: user })
    )
    const expiresIn = how === "short" ? random.integer(shortLife.min, shortLife.max) : undefined
    return Effect.flatMap(
      how === "guest" ? guest : sessions.create(user, { groupId, attributes, expiresIn }),
      (session) => {
        const token = Redacted.value(session.id)
        // Somebody else has begun one for the same place meanwhile: nobody would ever end it.
        const displaced = idOf(this.own[slot] ?? "")
        this.own[slot] = token
        if (random.chance(0.2)) this.begun(token)
        return displaced === undefined ? Effect.void : Effect.asVoid(sessions.delete(displaced))
      }
    )
  }

  private end(slot: number, token: string): Effect.Effect<void, Tagged> {
    const id = idOf(token)
    if (id === undefined) return Effect.void
    return Effect.map(this.sessions.delete(id), () => {
      this.ended.add(token)
      if (this.own[slot] === token) this.own[slot] = undefined
    })
  }

  private get unique(): string {
    return Math.floor(this.random.next() * 2 ** 52).toString(36)
  }
}

/** Every typed error says what it is. */
export interface Tagged {
  readonly _tag: string
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".split("")

const idOf = (token: string): SessionId | undefined => Option.getOrUndefined(SessionId.fromString(token))
