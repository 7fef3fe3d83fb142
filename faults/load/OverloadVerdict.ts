/** What an overload test must show; everything that is not as it should be is said. */
import type { PhaseReport } from "./OverloadProtocol.ts"
import { kinds } from "./OverloadWork.ts"

export interface Phases {
  readonly capacity: PhaseReport
  readonly before: PhaseReport
  readonly overload: PhaseReport
  readonly after: PhaseReport
}

/** The part of what can be done that must still be done when far more is asked for: of everything, and of each kind. */
const share = 0.5
const shareOfKind = 0.05
/**
 * What needs no database may take so many milliseconds, or so many times what it takes while the node does what it can: all that is asked
 * for shares one thread. Where that is so late that the node does not hear its own beats in time, it may not serve from memory, and asks
 * the database: so a part of these reads may be refused, too.
 */
const cachedReadLimit = { millis: 2_000, factor: 5, share: 0.5 }
const heapLimit = 1_024
/**
 * How soon after the load everything is answered, in milliseconds: a read or a write waits for its turn and for its answer for
 * `statementTimeout` each, and what changes a session reads and writes.
 */
const drainLimit = 21_000
/** How soon it is then answered as before, in milliseconds, and what that means. */
const recoveryLimit = 3_000
const asBefore = { factor: 3, millis: 50 }
/** What those may be told who are refused. */
const refusals = new Set(["Unavailable: Overloaded", "Unavailable: Timeout"])

const per = (count: number, duration: number): number => (count / duration) * 1_000

const done = (report: PhaseReport, kind: string): number => report.outcomes[kind]?.["Done"] ?? 0

/** Operations a second that were done. */
export const goodput = (report: PhaseReport): number =>
  per(
    kinds.reduce((sum, kind) => sum + done(report, kind), 0),
    report.duration
  )

/** From when on every operation was done as soon as before, in milliseconds; infinite where that was never. */
export const recoveredAt = ({ after, before }: Phases): number => {
  const usual = Math.max(...before.windows.map(({ p99 }) => p99))
  const limit = Math.max(asBefore.millis, usual * asBefore.factor)
  const bad = after.windows.findLastIndex(({ done, p99, refused }) => done === 0 || refused > 0 || p99 > limit)
  if (bad === -1) return 0
  return after.windows[bad + 1] === undefined ? Infinity : (after.windows[bad]?.at ?? Infinity)
}

export const violationsOf = (phases: Phases): ReadonlyArray<string> => {
  const { after, before, capacity, overload } = phases
  const kept = goodput(overload) / goodput(capacity)
  const recovered = recoveredAt(phases)
  const refused = new Set([...Object.values(overload.outcomes), overload.late].flatMap((counts) => Object.keys(counts)))
  refused.delete("Done")
  const quick = Math.max(cachedReadLimit.millis, cachedReadLimit.factor * capacity.cachedReads.p99)
  const complaint = (holds: boolean, message: string) => (holds ? [] : [message])
  return [
    ...[capacity, before, overload, after].flatMap(({ defects }) => defects),
    ...complaint(kept >= share, `${(kept * 100).toFixed(0)} % of what can be done was done, of ${share * 100} %`),
    ...kinds.flatMap((kind) => {
      const part = per(done(overload, kind), overload.duration) / per(done(capacity, kind), capacity.duration)
      return complaint(
        part >= shareOfKind,
        `${(part * 100).toFixed(1)} % of what can be done of the kind "${kind}" was done`
      )
    }),
    ...[...refused]
      .filter((outcome) => !refusals.has(outcome))
      .map((outcome) => `operations ended with ${outcome} under overload`),
    ...complaint(refused.size > 0, "nothing was refused: the load was not too much"),
    ...complaint(
      overload.cachedReads.count > 0 && overload.cachedReads.p99 <= quick,
      `of ${overload.cachedReads.count} reads from memory one in a hundred took ${overload.cachedReads.p99.toFixed(0)} ms or more`
    ),
    ...complaint(
      overload.cachedReads.count >= cachedReadLimit.share * (overload.cachedReads.count + overload.cachedReadsRefused),
      `${overload.cachedReadsRefused} reads of sessions in memory were refused, and ${overload.cachedReads.count} answered`
    ),
    ...complaint(
      overload.mostHeapMegabytes <= heapLimit,
      `${overload.mostHeapMegabytes.toFixed(0)} MB of heap were in use`
    ),
    ...complaint(
      overload.drained <= drainLimit,
      `the last answer came ${overload.drained.toFixed(0)} ms after the load`
    ),
    ...complaint(recovered <= recoveryLimit, `operations were not as quick as before ${recovered} ms after the load`)
  ]
}
