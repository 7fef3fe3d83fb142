/**
 * Gives one node several times what it can do, and judges what becomes of it: how
 * much is still done, what those are told who are refused, whether what needs no
 * database still works, and how soon everything is as before.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Database } from "../Database.ts"
import * as Fillers from "../Fillers.ts"
import * as Random from "../Random.ts"
import { LoadProcess } from "./LoadProcess.ts"
import { isAnswer, type Phase, type PhaseReport } from "./OverloadProtocol.ts"
import { goodput, type Phases, violationsOf } from "./OverloadVerdict.ts"

export interface Options {
  readonly seed: number
  /** How long the load is too much. */
  readonly seconds: number
  /** How many times what can be done is asked for. */
  readonly factor: number
}

const sessions = 30_000
const chunk = 5_000
/** Enough to keep the database busy, and no queue of theirs reaches its bound. */
const clients = 400
const capacitySeconds = 5
const calmSeconds = 3
const recoverySeconds = 8
/** The part of what can be done that is asked for before and after. */
const calm = 0.1
const patience = "120 seconds"

export const run = Effect.fnUntraced(function* ({ factor, seconds, seed }: Options) {
  const database = yield* Database
  let heard: (message: "ready" | PhaseReport) => void = () => {}
  const started = new LoadProcess(
    "overloaded",
    "OverloadNode.ts",
    { DATABASE_URL: Redacted.value(database.postgres.url), SEED: String(seed) },
    (message) => {
      if (isAnswer(message)) heard("ready" in message ? "ready" : message.report)
    }
  )
  yield* Effect.addFinalizer(() => started.kill)
  const answer = Effect.callback<"ready" | PhaseReport>((resume) => {
    heard = (message) => resume(Effect.succeed(message))
    void started.ended.then(({ status }) =>
      resume(Effect.die(new Error(`the node ended by itself (${status}): ${started.log.slice(-2_000)}`)))
    )
  }).pipe(Effect.timeout(patience))
  yield* answer
  const random = Random.make(seed, "fillers")
  for (let count = 0; count < sessions; count += chunk) {
    started.tell({ tokens: yield* Fillers.insert(database, random, chunk) })
  }
  yield* database.sql`analyze sessions`

  const perform = Effect.fnUntraced(function* (name: string, phase: Phase) {
    started.tell({ phase })
    const report = yield* answer
    if (report === "ready") return yield* Effect.die(new Error("the node started twice"))
    yield* Console.log(summary(name, report))
    return report
  })
  yield* perform("warm-up", { _tag: "Closed", clients, seconds: capacitySeconds })
  const capacity = yield* perform("capacity", { _tag: "Closed", clients, seconds: capacitySeconds })
  const perSecond = goodput(capacity)
  const calmly: Phase = { _tag: "Open", perSecond: perSecond * calm, seconds: calmSeconds }
  const before = yield* perform("before", calmly)
  const overload = yield* perform("overload", { _tag: "Open", perSecond: perSecond * factor, seconds })
  const after = yield* perform("after", { ...calmly, seconds: recoverySeconds })
  const { status } = yield* started.end
  const phases: Phases = { capacity, before, overload, after }
  return {
    phases,
    violations: [
      ...violationsOf(phases),
      ...(status === "130" || status === "0" ? [] : [`the node ended with ${status}`])
    ]
  }
})

const summary = (name: string, report: PhaseReport): string => {
  const outcomes: Record<string, number> = {}
  for (const [outcome, count] of Object.values(report.outcomes).flatMap((counts) => Object.entries(counts))) {
    outcomes[outcome] = (outcomes[outcome] ?? 0) + count
  }
  const latencies = Object.entries(report.latencies).map(
    ([kind, { count, p50, p99 }]) => `${kind} ${count}, ${p50.toFixed(1)}/${p99.toFixed(0)} ms`
  )
  return [
    `${name}: ${Math.round(goodput(report))}/s done of ${Math.round(arrived(report))}/s`,
    `          ${latencies.join("; ")}`,
    `          cached reads ${report.cachedReads.count}, ${report.cachedReads.p50.toFixed(2)}/${report.cachedReads.p99.toFixed(1)} ms; heap up to ${report.mostHeapMegabytes.toFixed(0)} MB; at most ${report.mostUnderWay} under way; drained in ${report.drained.toFixed(0)} ms; not served from memory ${report.unsynced} of ${report.looks} times`,
    `          ${JSON.stringify(outcomes)}, late ${JSON.stringify(report.late)}`
  ].join("\n")
}

const arrived = ({ duration, outcomes }: PhaseReport): number =>
  (Object.values(outcomes)
    .flatMap((counts) => Object.values(counts))
    .reduce((sum, count) => sum + count, 0) /
    duration) *
  1_000
