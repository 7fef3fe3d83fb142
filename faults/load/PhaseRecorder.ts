/** Collects what happens in one phase of an overload test. */
import type { SessionHealth } from "@effect-pg-session/core"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { Latencies } from "./Latencies.ts"
import type { PhaseReport, Window } from "./OverloadProtocol.ts"
import { type Kind, kinds, type Tagged } from "./OverloadWork.ts"

export const windowMillis = 250
const maxDefects = 20
const megabyte = 2 ** 20

/** "Done", the name of the error (with its reason), or "Defect". */
const outcomeOf = (exit: Exit.Exit<unknown, Tagged>): string => {
  if (Exit.isSuccess(exit)) return "Done"
  return Option.match(Cause.findErrorOption(exit.cause), {
    onNone: () => "Defect",
    onSome: ({ _tag, reason }) => (_tag === "SessionStoreUnavailable" ? `Unavailable: ${String(reason)}` : _tag)
  })
}

export class PhaseRecorder {
  private readonly begun = performance.now()
  private readonly outcomes: Record<string, Record<string, number>> = {}
  private readonly late: Record<string, number> = {}
  private readonly latencies = new Map(kinds.map((kind) => [kind, new Latencies()]))
  private readonly cached = new Latencies()
  private readonly windows: Array<Window> = []
  private readonly inWindow = new Latencies()
  private readonly defects: Array<string> = []
  private refusedInWindow = 0
  private cachedReadsRefused = 0
  private looks = 0
  private unsynced = 0
  private mostUnderWay = 0
  private mostHeap = 0
  private mostRss = 0
  private duration: number | undefined = undefined
  private underWay = 0

  get pending(): number {
    return this.underWay
  }

  get elapsed(): number {
    return performance.now() - this.begun
  }

  begin(): number {
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay)
    return performance.now()
  }

  end(kind: Kind, since: number, exit: Exit.Exit<unknown, Tagged>): void {
    this.underWay--
    const outcome = outcomeOf(exit)
    if (outcome === "Defect" && Exit.isFailure(exit)) this.defect(`${kind}: ${Cause.pretty(exit.cause)}`)
    if (this.duration !== undefined) {
      this.late[outcome] = (this.late[outcome] ?? 0) + 1
      return
    }
    const counts = (this.outcomes[kind] ??= {})
    counts[outcome] = (counts[outcome] ?? 0) + 1
    if (outcome === "Done") {
      const millis = performance.now() - since
      this.latencies.get(kind)?.record(millis)
      this.inWindow.record(millis)
    } else this.refusedInWindow++
  }

  cachedRead(dueAt: number, exit: Exit.Exit<unknown, Tagged>): void {
    if (this.duration !== undefined) return
    if (Exit.isSuccess(exit)) this.cached.record(performance.now() - dueAt)
    else this.cachedReadsRefused++
  }

  look({ synced }: SessionHealth): void {
    this.looks++
    if (!synced) this.unsynced++
    const { heapUsed, rss } = process.memoryUsage()
    this.mostHeap = Math.max(this.mostHeap, heapUsed / megabyte)
    this.mostRss = Math.max(this.mostRss, rss / megabyte)
    if (this.duration !== undefined) return
    const { count, p99 } = this.inWindow.take()
    this.windows.push({ at: this.elapsed, done: count, refused: this.refusedInWindow, p99 })
    this.refusedInWindow = 0
  }

  readonly defect = (message: string): void => {
    if (this.defects.length < maxDefects) this.defects.push(message.slice(0, 1_000))
  }

  /** No operation is begun any more. */
  close(): void {
    this.duration = this.elapsed
  }

  report(): PhaseReport {
    const { cachedReadsRefused, defects, late, looks, mostUnderWay, outcomes, unsynced, windows } = this
    const duration = this.duration ?? this.elapsed
    return {
      duration,
      drained: this.elapsed - duration,
      outcomes,
      late,
      latencies: Object.fromEntries([...this.latencies].map(([kind, latencies]) => [kind, latencies.take()])),
      cachedReads: this.cached.take(),
      cachedReadsRefused,
      windows,
      looks,
      unsynced,
      mostUnderWay,
      mostHeapMegabytes: this.mostHeap,
      mostRssMegabytes: this.mostRss,
      defects
    }
  }
}
