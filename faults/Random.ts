/**
 * Random decisions from a seed. Everything that the harness decides comes from
 * here: the same seed makes the same schedule of faults, and the same operations
 * in the same order for each client.
 */
import { createHash } from "node:crypto"

export interface Random {
  /** At least 0 and less than 1. */
  readonly next: () => number
  /** A whole number from `min` up to `max`, both included. */
  readonly integer: (min: number, max: number) => number
  /** One of them; fails where there is none. */
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  readonly chance: (probability: number) => boolean
  /** In another order. */
  readonly shuffled: <A>(items: ReadonlyArray<A>) => ReadonlyArray<A>
  /** One of the names, each as often as its weight says. */
  readonly weighted: <Name extends string>(weights: Readonly<Record<Name, number>>) => Name
}

/** A source of its own for each seed and path, so that one consumer's draws do not move another's. */
export const make = (seed: number, ...path: ReadonlyArray<string | number>): Random => {
  const digest = createHash("sha256")
    .update([seed, ...path].join("/"))
    .digest()
  let state = digest.readUInt32LE(0)

  // Mulberry32.
  const next = (): number => {
    state = (state + 0x6d_2b_79_f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const integer = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1))
  const pick = <A>(items: ReadonlyArray<A>): A => {
    const item = items[integer(0, items.length - 1)]
    if (item === undefined) throw new Error("there is nothing to pick from")
    return item
  }

  return {
    next,
    integer,
    pick,
    chance: (probability) => next() < probability,
    shuffled: (items) => {
      const rest = [...items]
      const order: Array<(typeof items)[number]> = []
      while (rest.length > 0) order.push(...rest.splice(integer(0, rest.length - 1), 1))
      return order
    },
    weighted: (weights) => {
      const names = Object.keys(weights).filter((name): name is keyof typeof weights => name in weights)
      let left = next() * names.reduce((sum, name) => sum + weights[name], 0)
      for (const name of names) {
        left -= weights[name]
        if (left < 0) return name
      }
      return pick(names)
    }
  }
}
