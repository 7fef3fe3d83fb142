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
    const index = this.versions.findIndex((other) => other > version)
    return this.times[index] ?? Infinity
  }

  /** The highest version that somebody knew of before `time`. */
  knownBefore(time: number): number {
    let version = 0
    for (const [index, known] of this.times.entries()) {
      if (known < time) version = this.versions[index] ?? version
    }
    return version
  }
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
