/** The pooler that statements go through is restarted: every connection breaks, and for a moment there is none. */
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"
import type { Pooler } from "../Pooler.ts"

export const faults = (pooler: Pooler | undefined): ReadonlyArray<Fault> => [
  {
    kind: "poolerRestarted",
    lane: "server",
    skipped: pooler === undefined ? "statements do not go through PgBouncer (--pgbouncer)" : undefined,
    inject: (_, random) => pooler?.restart(random.integer(0, 1_500)) ?? Effect.void
  }
]
