/** When it was known to somebody that a session had at least a version, or had ended. */
import type { Operation } from "../History.ts"
import { certainlyEnds, effectOf, type Facts, type SessionFacts, snapshotsOf } from "./Facts.ts"

export class Evidence {
  private readonly times: ReadonlyArray<number>
  private readonly versions: ReadonlyArray<number>
  /** The earliest time at which somebody had been told that the session is over; infinite where nobody was. */
  readonly goneAt: number
  /** Who was told first. */
  readonly gone: Operation | undefined
  /** Everybody who was told. */
  readonly endings: ReadonlyArray<Operation>

  constructor(facts: Facts, session: SessionFacts) {
    const known = session.operations
      .flatMap((operation) => snapshotsOf(operation).map(({ version }) => ({ version, end: operation.end })))
      .sort((a, b) => a.end - b.end)
    let highest = 0
    const times: Array<number> = []
    const versions: Array<number> = []
    for (const { end, version } of known) {
      if (version <= highest) continue
      highest = version
      times.push(end)
      versions.push(version)
    }
    this.times = times
    this.versions = versions
    this.endings = [
      ...session.operations.filter((operation) => provesEnd(facts, operation)),
      ...facts.bulkEnds.filter((operation) => certainlyEnds(operation, session))
    ]
    this.gone = this.endings.reduce<Operation | undefined>(
      (first, operation) => (first === undefined || operation.end < first.end ? operation : first),
      undefined
    )
    this.goneAt = this.gone?.end ?? Infinity
  }

  /** When somebody first knew of a version above this one; infinite where nobody did. */
  supersededAt(version: number): number {
    return this.times[firstWhere(this.versions, (other) => other > version)] ?? Infinity
  }

  /** The highest version that somebody knew of before `time`. */
  knownBefore(time: number): number {
    return this.versions[firstWhere(this.times, (known) => known >= time) - 1] ?? 0
  }
}

/** Where, in an ascending list, the first one is of which something is true that remains so; its length where there is none. */
const firstWhere = (ascending: ReadonlyArray<number>, isTrue: (value: number) => boolean): number => {
  let low = 0
  let high = ascending.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isTrue(ascending[middle] as number)) high = middle
    else low = middle + 1
  }
  return low
}

/** Whether the operation's answer says for certain that the session is over. */
const provesEnd = (facts: Facts, operation: Operation): boolean => {
  const { end, outcome, request } = operation
  if (request._tag === "DeleteByKey") return effectOf(operation) === "Yes"
  if (request._tag === "Delete") return effectOf(operation) === "Yes" && facts.isCurrent(request.token, end)
  return outcome._tag === "Gone" && "token" in request && request.token !== undefined
    ? facts.isCurrent(request.token, end)
    : false
}
