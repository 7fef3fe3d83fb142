/** One soak: nodes under an even load, measured all the time, and the verdict. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Database } from "../Database.ts"
import { now } from "../Timing.ts"
import { type Figures, type Sample, type Trend, trends } from "./Flatness.ts"
import type { Percentiles } from "./Latencies.ts"
import { type Ended, LoadProcess } from "./LoadProcess.ts"
import { isAnswer, type Report } from "./SoakProtocol.ts"
import { kinds } from "./SoakWork.ts"

export interface Options {
  readonly seed: number
  readonly seconds: number
  readonly nodes: number
  /** Each node keeps so many bytes of every session that it begins: to see that this is noticed. */
  readonly leak: number
}

/** Between two samples, in milliseconds. */
const sampleEvery = { min: 1_000, max: 5_000 }
const samplesWanted = 40
/** Every now and then all listeners are ended: connecting again must leave nothing behind, either. */
const disturbEvery = 7
const samplePatience = "30 seconds"
/** What an orderly end may take by the settings, as in `checks/OrderlyEnd.ts`, in milliseconds. */
const endLimit = 18_500

const Counts = Schema.Array(Schema.Struct({ name: Schema.String, count: Schema.Finite }))

class SoakedNode {
  readonly process: LoadProcess
  readonly ready: Promise<boolean>
  private readonly waiting = new Map<number, (report: Report | undefined) => void>()
  private nextId = 1

  constructor(name: string, env: Readonly<Record<string, string>>, begun: (from: SoakedNode, token: string) => void) {
    let isReady: (ready: boolean) => void = () => {}
    this.ready = new Promise((resolve) => {
      isReady = resolve
    })
    this.process = new LoadProcess(name, "SoakNode.ts", env, (message) => {
      if (!isAnswer(message)) return
      if ("ready" in message) isReady(true)
      else if ("begun" in message) begun(this, message.begun)
      else {
        this.waiting.get(message.sampled)?.(message.report)
        this.waiting.delete(message.sampled)
      }
    })
    void this.process.ended.then(() => {
      isReady(false)
      for (const answer of this.waiting.values()) answer(undefined)
    })
  }

  /** `undefined` where it ends meanwhile. */
  readonly sample: Effect.Effect<Report | undefined> = Effect.promise(() => {
    const id = this.nextId++
    return new Promise((resolve) => {
      this.waiting.set(id, resolve)
      this.process.tell({ sample: id })
    })
  })
}

export interface Soaked {
  readonly samples: ReadonlyArray<Sample>
  readonly trends: ReadonlyArray<Trend>
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** How long the load lasted, in milliseconds. */
  readonly duration: number
  readonly disturbances: number
  readonly violations: ReadonlyArray<string>
  readonly reads: ReadonlyArray<Percentiles>
  readonly others: ReadonlyArray<Percentiles>
}

const look = ({ sql }: Database["Service"]) =>
  Effect.gen(function* () {
    const connections = yield* Effect.flatMap(
      sql`select split_part(application_name, ' ', 1) as name, count(*)::int4 as count from pg_stat_activity
        where application_name like 'soaked-%' group by 1`,
      Schema.decodeUnknownEffect(Counts)
    )
    const rows = yield* Effect.flatMap(
      sql`select 'sessionRows' as name, count(*)::int4 as count from sessions
        union all select 'lockRows', count(*)::int4 from session_locks`,
      Schema.decodeUnknownEffect(Counts)
    )
    const server: Figures = Object.fromEntries(rows.map(({ count, name }) => [name, count]))
    return { connections: new Map(connections.map(({ count, name }) => [name, count])), server }
  })

const merged = (all: Record<string, Record<string, number>>, report: Report): void => {
  for (const [kind, counts] of Object.entries(report.outcomes)) {
    const sums = (all[kind] ??= {})
    for (const [outcome, count] of Object.entries(counts)) sums[outcome] = (sums[outcome] ?? 0) + count
  }
}

const line = (seconds: number, name: string, { figures, others, outcomes, reads }: Report, since: number): string => {
  const done = Object.values(outcomes).flatMap((counts) => Object.values(counts))
  const perSecond = Math.round((done.reduce((sum, count) => sum + count, 0) / since) * 1_000)
  const figure = (name: string, digits = 0) => (figures[name] ?? Number.NaN).toFixed(digits)
  const latency = ({ p50, p99 }: Percentiles) => `${p50.toFixed(2)}/${p99.toFixed(1)}`
  return [
    `${seconds.toFixed(0).padStart(4)} s  ${name}`,
    `heap ${figure("heapMegabytes", 1)} MB`,
    `rss ${figure("rssMegabytes")} MB`,
    `fds ${figure("descriptors")}`,
    `timers ${figure("timers")}`,
    `connections ${figure("connections")}`,
    `cached ${figure("cached")}`,
    `${perSecond}/s`,
    `reads ${latency(reads)} ms`,
    `others ${latency(others)} ms`
  ].join("  ")
}

export const run = Effect.fnUntraced(function* (options: Options) {
  const { leak, nodes: count, seconds, seed } = options
  const database = yield* Database
  const nodes: Array<SoakedNode> = []
  const env = { DATABASE_URL: Redacted.value(database.postgres.url), SEED: String(seed), LEAK: String(leak) }
  for (let index = 0; index < count; index++) {
    const started = new SoakedNode(`soaked-${index}`, env, (from, token) => {
      for (const other of nodes) if (other !== from) other.process.tell({ heard: token })
    })
    nodes.push(started)
    yield* Effect.addFinalizer(() => started.process.kill)
    // One after the other: the first one creates the tables.
    if (!(yield* Effect.promise(() => started.ready))) {
      return yield* Effect.die(new Error(`node ${index} did not start: ${started.process.log}`))
    }
  }
  // What was done while they started is not of the run.
  yield* Effect.forEach(nodes, ({ sample }) => sample)

  const begun = now()
  const interval = Math.min(sampleEvery.max, Math.max(sampleEvery.min, (seconds * 1_000) / samplesWanted))
  const samples: Array<Sample> = []
  const outcomes: Record<string, Record<string, number>> = {}
  const defects = new Set<string>()
  const reads: Array<Percentiles> = []
  const others: Array<Percentiles> = []
  let disturbances = 0
  let last = begun
  for (let round = 1; now() - begun < seconds * 1_000; round++) {
    yield* Effect.sleep(Math.max(0, begun + round * interval - now()))
    const { connections, server } = yield* look(database)
    const reports = yield* Effect.forEach(nodes, ({ sample }) => Effect.timeout(sample, samplePatience), {
      concurrency: "unbounded"
    })
    const at = now() - begun
    for (const [index, report] of reports.entries()) {
      const name = `soaked-${index}`
      if (report === undefined) continue
      const figures = { ...report.figures, connections: connections.get(name) ?? 0 }
      samples.push({ of: name, at, figures })
      merged(outcomes, report)
      for (const defect of report.defects) defects.add(`${name}: ${defect}`)
      reads.push(report.reads)
      others.push(report.others)
      yield* Console.log(line(at / 1_000, name, { ...report, figures }, begun + at - last))
    }
    last = begun + at
    samples.push({ of: "server", at, figures: server })
    if (round % disturbEvery === 0) {
      disturbances++
      yield* database.sql`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name like 'soaked-% listener'`
    }
  }
  const duration = now() - begun
  const ends = yield* Effect.forEach(nodes, ({ process }) => process.end, { concurrency: "unbounded" })
  const judged = trends(samples, duration)
  const violations = [
    ...judged.filter(({ flat }) => !flat).map(describeTrend),
    ...defects,
    ...nodes.flatMap(({ process }, index) => badEnd(process, ends[index])),
    ...kinds
      .filter((kind) => (outcomes[kind]?.["Done"] ?? 0) === 0)
      .map((kind) => `no operation of the kind "${kind}" succeeded`)
  ]
  const soaked: Soaked = { samples, trends: judged, outcomes, duration, disturbances, violations, reads, others }
  return soaked
})

const describeTrend = ({ allowed, early, figure, late, of }: Trend): string =>
  `${figure} of ${of} grew from ${early.toFixed(1)} to ${late.toFixed(1)}, by more than ${allowed.toFixed(1)}`

const badEnd = ({ log, name }: LoadProcess, end: Ended | undefined): ReadonlyArray<string> => {
  if (end?.tookMillis === undefined) return [`${name} ended by itself (${end?.status}): ${log.slice(-2_000)}`]
  return end.tookMillis > endLimit ? [`${name} took ${Math.round(end.tookMillis)} ms to end`] : []
}
