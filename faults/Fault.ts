/** What a fault is: something that goes wrong for a while, and is always healed. */
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Cluster } from "./Cluster.ts"
import type { Database } from "./Database.ts"
import type { Random } from "./Random.ts"

/** What faults can reach. */
export interface Surroundings {
  readonly cluster: Cluster
  readonly database: Database["Service"]
  /** A way to PostgreSQL that no fault of the network is on. */
  readonly url: Redacted.Redacted<string>
}

/**
 * A kind of fault. One of each lane goes on at a time: two faults of one lane would
 * undo each other.
 */
export interface Fault {
  readonly kind: string
  readonly lane: "server" | "node"
  /** Why it cannot be had here; `undefined` where it can. */
  readonly skipped?: string | undefined
  /** Injects it, holds it for a time, and heals it: also where it is interrupted. What it draws is the seed's. */
  readonly inject: (surroundings: Surroundings, random: Random) => Effect.Effect<void>
}
