/**
 * The contract of `SessionNotifier` as tests. Whoever writes an adapter runs them
 * on it:
 *
 * ```ts
 * sessionNotifierConformance("MySessionNotifier", {
 *   layer: MyDatabase.layer,
 *   cut: Effect.flatMap(MyDatabase, (database) => database.closeAllConnections)
 * })
 * ```
 *
 * They look at the two ports only, except for the faults, which the adapter must
 * cause itself; what it offers no hook for is not tried.
 */
import { register } from "./conformance/Harness.ts"
import type { ConformanceOptions } from "./conformance/Harness.ts"
import { notifierBeats } from "./conformance/NotifierBeats.ts"
import { notifierDelivery } from "./conformance/NotifierDelivery.ts"
import { notifierFaults } from "./conformance/NotifierFaults.ts"
import type { NotifierFaults } from "./conformance/NotifierFaults.ts"

/** What the suite must know of a notifier, and may do to it. */
export interface NotifierConformanceOptions<R, E> extends ConformanceOptions<R, E>, NotifierFaults<R> {}

/** Registers the tests of a notifier with vitest; the layer is built once. */
export const sessionNotifierConformance = <R = never, E = never>(
  name: string,
  options: NotifierConformanceOptions<R, E>
): void =>
  register(name, options, [
    ["delivery", notifierDelivery],
    ["beats", notifierBeats],
    // vitest refuses an empty part
    ...(options.cut === undefined && options.garble === undefined && options.overflowAfter === undefined
      ? []
      : [["faults", notifierFaults(options)] as const])
  ])
