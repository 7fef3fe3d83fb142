/** What an overload test must show; everything that is not as it should be is said. */
import type { PhaseReport, Window } from "./OverloadProtocol.ts"
import { kinds } from "./OverloadWork.ts"
import { windowMillis } from "./PhaseRecorder.ts"

export interface Phases {
  readonly capacity: PhaseReport
  readonly before: PhaseReport
  readonly overload: PhaseReport
  readonly after: PhaseReport
}

/**
 * The part of what can be done that must still be done when far more is asked for: of everything, and of each kind. What shares statements
 * does better than what needs one for each, because the thread is busy with refusing.
 */
const share = 0.5
const shareOfKind = 0.02
/**
 * What needs no database may take so many milliseconds, or so many times what it takes while the node does what it can: all that is asked
 * for shares one thread. Where that is so late that the node does not hear its own beats in time, it may not serve from memory, and asks
 * the database: so a part of these reads may be refused, too.
 */
const cachedReadLimit = { millis: 3_000, factor: 5, share: 0.5 }
/** Megabytes of heap for the node, and kilobytes for each operation that is under way, which is a few fibers and what they wait for. */
const heapLimit = { megabytes: 256, kilobytesEach: 16 }
/**
 * How soon after the load everything is answered, in milliseconds: a read or a write waits for its turn and for its answer for
 * `statementTimeout` each, and what changes a session reads and writes.
 */
const drainLimit = 21_000
/** How soon it is then answered as before, in milliseconds, and what that means. */
const recoveryLimit = 3_000
const asBefore = { factor: 3, millis: 50 }
/** For how long: what comes later, when nothing is too much any more, are the machine's own pauses. */
const steadyMillis = 2_000
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

/** From when on, for two seconds, every operation was done as soon as before, in milliseconds; infinite where that was never. */
export const recoveredAt = ({ after, before }: Phases): number => {
  const usual = Math.max(...before.windows.map(({ p99 }) => p99))
  const limit = Math.max(asBefore.millis, usual * asBefore.factor)
  const steady = Math.ceil(steadyMillis / windowMillis)
  const isGood = ({ done, p99, refused }: Window): boolean => done > 0 && refused === 0 && p99 <= limit
  const from = after.windows.findIndex(
    (_, index) => index + steady <= after.windows.length && after.windows.slice(index, index + steady).every(isGood)
  )
  if (from <= 0) return from === 0 ? 0 : Infinity
  return after.windows[from - 1]?.at ?? Infinity
}

export const violationsOf = (phases: Phases): ReadonlyArray<string> => {
  const { after, before, capacity, overload } = phases
  const kept = goodput(overload) / goodput(capacity)
  const recovered = recoveredAt(phases)
  const refused = new Set([...Object.values(overload.outcomes), overload.late].flatMap((counts) => Object.keys(counts)))
  refused.delete("Done")
  const heap = heapLimit.megabytes + (heapLimit.kilobytesEach * overload.mostUnderWay) / 1_024
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
      overload.mostHeapMegabytes <= heap,
      `${overload.mostHeapMegabytes.toFixed(0)} MB of heap were in use, of ${heap.toFixed(0)}, for ${overload.mostUnderWay} operations`
    ),
    ...complaint(
      overload.drained <= drainLimit,
      `the last answer came ${overload.drained.toFixed(0)} ms after the load`
    ),
    ...complaint(recovered <= recoveryLimit, `operations were not as quick as before ${recovered} ms after the load`)
  ]
}
