/** Every check, over one history. */
import * as BoundedStaleness from "./checks/BoundedStaleness.ts"
import * as Expiry from "./checks/Expiry.ts"
import { Facts } from "./checks/Facts.ts"
import * as Limits from "./checks/Limits.ts"
import * as LostUpdates from "./checks/LostUpdates.ts"
import * as LostWrites from "./checks/LostWrites.ts"
import * as MutualExclusion from "./checks/MutualExclusion.ts"
import * as OrderlyEnd from "./checks/OrderlyEnd.ts"
import * as ReadYourWrites from "./checks/ReadYourWrites.ts"
import * as Resurrection from "./checks/Resurrection.ts"
import * as Robustness from "./checks/Robustness.ts"
import * as Secrets from "./checks/Secrets.ts"
import * as Storms from "./checks/Storms.ts"
import { unavailableMillis } from "./checks/Unavailability.ts"
import type { History, Violation } from "./History.ts"

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  readonly maxStalenessMs: number
  readonly unavailableMs: number
}

export const judge = (history: History): Verdict => {
  const facts = new Facts(history)
  const staleness = BoundedStaleness.check(facts)
  return {
    violations: [
      ...staleness.violations,
      ...ReadYourWrites.check(facts),
      ...LostUpdates.check(facts),
      ...Resurrection.check(facts),
      ...LostWrites.check(facts),
      ...Expiry.check(facts),
      ...Limits.check(history),
      ...MutualExclusion.check(history),
      ...Secrets.check(history),
      ...Robustness.check(history),
      ...OrderlyEnd.check(history),
      ...Storms.check(history)
    ],
    maxStalenessMs: staleness.maxStalenessMs,
    unavailableMs: unavailableMillis(history)
  }
}
