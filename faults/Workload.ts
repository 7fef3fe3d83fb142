/**
 * What clients do: users logging in and out, reading, writing, locking, one thing
 * after another, many clients at once. Which client does what, to whom and on
 * which node is the seed's; which session that hits depends on what has become of
 * those before.
 */
import * as Effect from "effect/Effect"
import type { Cluster, Node } from "./Cluster.ts"
import type { Request } from "./History.ts"
import type { Known, Population, Purpose } from "./Population.ts"
import * as Random from "./Random.ts"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".split("")
const crowd = 8
const groups = 4
/** Below so many, further sessions are begun. */
const soloSessions = 60
/** Sessions that are never ended, by the beginning of their users' names, and how many. */
export const lasting = { vault: 3, shared: 8 } as const
/** Rows that are incremented under locks. */
export const counters = 3
export const counterName = (index: number): string => `row-${index}`
/** What every note looks like: no log may have one. */
export const privateText = /private-\d+\.\d+/
/** How long a client waits for an answer before it turns to something else. */
const patience = "400 millis"

const weights = {
  read: 38,
  readShared: 16,
  writeShared: 2,
  readQuietly: 8,
  refresh: 6,
  readAtLeast: 8,
  readEnded: 5,
  readFormer: 2,
  forge: 2,
  note: 8,
  count: 6,
  increment: 8,
  elevate: 2,
  login: 4,
  begin: 3,
  rotate: 3,
  reLogin: 1.5,
  end: 2,
  endByKey: 1,
  endUser: 0.6,
  endGroup: 0.2,
  list: 2,
  lockRow: 2.5,
  lockSession: 2.5,
  sweep: 0.2
} as const

const usable = ["crowd", "solo", "guest", "short", "idle", "vault"] as const
/** Read all the time by everybody, and changed every now and then: whoever has an old state of one serves it. */
const shared = ["shared"] as const
const endable = ["crowd", "solo", "guest", "short", "idle"] as const
const plain = ["crowd", "solo"] as const

class Client {
  private readonly seed: number
  private readonly name: string
  private readonly population: Population
  /** Of the present step: what one step draws moves no other step's draws. */
  private random: Random.Random
  private step = 0

  constructor(seed: number, index: number, population: Population) {
    this.seed = seed
    this.name = String(index)
    this.population = population
    this.random = Random.make(seed, "client", this.name, 0)
  }

  /** Begins the next step: which node it is for, and how long to think after it, in milliseconds. */
  turn(cluster: Cluster): { readonly node: Node; readonly pause: number } {
    this.step++
    this.random = Random.make(this.seed, "client", this.name, this.step)
    return { node: this.random.pick(cluster), pause: this.random.integer(0, 20) }
  }

  /** The step's request; `undefined` where there is no session to make it of. */
  request(): Request | undefined {
    const { population, random } = this
    const kind = random.weighted(weights)
    const user = `crowd-${random.integer(0, crowd - 1)}`
    const group = random.chance(0.3) ? `group-${random.integer(0, groups - 1)}` : undefined
    const grace = random.pick([0, 300, 10_000])
    const number = this.step
    const onOld = random.chance(0.3)
    const check = random.pick(["attributes", "session", "none"] as const)
    const known = population.pick(random, purposesOf(kind))
    const ended = population.pickEnded(random)
    if (population.all().length < soloSessions || kind === "begin") return this.begin(number, user, group)
    // Some are held for longer than a lease runs: it must be extended.
    const stubborn = random.chance(0.3)
    const hold = random.chance(0.15) ? random.integer(1_000, 4_000) : random.integer(0, 150)
    switch (kind) {
      case "read":
        return known && read(known)
      case "readShared":
        return known && read(known, { touch: onOld })
      case "writeShared":
        return known && { _tag: "Increment", token: known.token }
      case "readQuietly":
        return known && read(known, { touch: false })
      case "refresh":
        return known && read(known, { refresh: true })
      case "readAtLeast":
        return known && read(known, { minVersion: known.version })
      case "readEnded":
        return ended && read(ended, { refresh: onOld })
      case "readFormer": {
        const former = known?.formerTokens.at(-1)
        return former === undefined || known === undefined ? undefined : { ...read(known), token: former }
      }
      case "forge":
        return { _tag: "Forge", token: this.forged(known) }
      case "note": {
        const write = { _tag: "Note", note: `private-${this.name}.${number}` } as const
        return known && { _tag: "Update", token: known.token, check: "none", onOld, write }
      }
      case "count": {
        const checked = check === "none" ? "attributes" : check
        return known && { _tag: "Update", token: known.token, check: checked, onOld, write: { _tag: "Count" } }
      }
      case "increment":
        return known && { _tag: "Increment", token: known.token }
      case "elevate":
        return known && { _tag: "Elevate", token: known.token }
      case "login":
        return create({ user, group })
      case "rotate":
        return known && { _tag: "Rotate", token: known.token, user: undefined, grace }
      case "reLogin": {
        const guest = population.pick(random, ["guest", "crowd"])
        return guest && { _tag: "Rotate", token: guest.token, user, grace: 0 }
      }
      case "end":
        return known && { _tag: "Delete", token: known.token }
      case "endByKey":
        return known && { _tag: "DeleteByKey", key: known.key }
      case "endUser": {
        const kept = onOld ? population.all().find((other) => other.user === user)?.key : undefined
        return { _tag: "DeleteUser", user, except: kept }
      }
      case "endGroup":
        return { _tag: "DeleteGroup", group: `group-${random.integer(0, groups - 1)}` }
      case "list":
        return { _tag: "List", user }
      case "lockRow":
        return { _tag: "Lock", lock: counterName(number % counters), token: undefined, hold, stubborn }
      case "lockSession": {
        const vault = population.pick(random, ["vault"])
        const lock = `vault ${vault?.user}`
        return vault && { _tag: "Lock", lock, token: vault.token, hold, stubborn }
      }
      case "sweep":
        return { _tag: "Sweep" }
    }
  }

  private begin(number: number, user: string, group: string | undefined): Request {
    const { random } = this
    const solo = `solo-${this.name}-${number}`
    switch (random.weighted({ solo: 5, guest: 2, short: 2, idle: 2, crowd: 1 })) {
      case "solo":
        return create({ user: solo, group })
      case "guest":
        return create({ group })
      case "short":
        return create({ user: solo, expiresIn: random.integer(1_500, 5_000) })
      case "idle":
        return create({ user: solo, idleTimeout: random.integer(1_500, 2_500) })
      case "crowd":
        return create({ user, group })
    }
  }

  /** An id that nobody was given, perhaps with the key of a session that exists. */
  private forged(known: Known | undefined): string {
    const { random } = this
    const text = (length: number) => Array.from({ length }, () => random.pick(alphabet)).join("")
    const token = `${known?.key ?? `${text(21)}A`}${text(42)}A`
    return random.chance(0.7) ? token : token.slice(0, random.integer(0, 64))
  }
}

const purposesOf = (kind: keyof typeof weights): ReadonlyArray<Purpose> => {
  if (kind === "rotate") return plain
  if (kind === "readShared" || kind === "writeShared") return shared
  return kind.startsWith("end") ? endable : usable
}

type Read = Extract<Request, { readonly _tag: "Read" }>

const read = ({ token }: Known, options: Partial<Read> = {}): Read => ({
  _tag: "Read",
  token,
  touch: true,
  refresh: false,
  minVersion: undefined,
  ...options
})

export const create = (options: Partial<Extract<Request, { readonly _tag: "Create" }>>): Request => ({
  _tag: "Create",
  user: undefined,
  group: undefined,
  expiresIn: undefined,
  idleTimeout: undefined,
  ...options
})

/** One client, for ever. */
export const client = (seed: number, index: number, cluster: Cluster, population: Population): Effect.Effect<never> => {
  const self = new Client(seed, index, population)
  return Effect.forever(
    Effect.suspend(() => {
      const { node, pause } = self.turn(cluster)
      const request = self.request()
      const answer = request && node.ask(request)
      const answered =
        answer === undefined
          ? Effect.void
          : Effect.timeoutOption(
              Effect.promise(() => answer),
              patience
            )
      return Effect.andThen(answered, Effect.sleep(pause))
    })
  )
}
