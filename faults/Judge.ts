/** Every check, over one history. */
import { Facts } from "./checks/Facts.ts"
import * as G1 from "./checks/G1.ts"
import * as G4 from "./checks/G4.ts"
import type { History, Violation } from "./History.ts"
import { unavailableMillis } from "./checks/Unavailability.ts"

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  readonly maxStalenessMs: number
  readonly unavailableMs: number
}

export const judge = (history: History): Verdict => {
  const facts = new Facts(history)
  const staleness = G1.check(facts)
  return {
    violations: [...staleness.violations, ...G4.check(facts)],
    maxStalenessMs: staleness.maxStalenessMs,
    unavailableMs: unavailableMillis(history)
  }
}
