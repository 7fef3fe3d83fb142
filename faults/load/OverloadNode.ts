/** The node of an overload test: the library with its defaults, and those who ask, in one process as in a web server. */
import { SessionLocks, SessionStore } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "../Random.ts"
import { type Answer, isCommand, type Phase, type PhaseReport } from "./OverloadProtocol.ts"
import { OverloadWork, type Services } from "./OverloadWork.ts"
import { PhaseRecorder, windowMillis } from "./PhaseRecorder.ts"

const cachedReadEvery = 10
const tick = 2
/** What is still under way then is not waited for, in milliseconds. */
const drainPatience = 60_000

// Nobody is left to ask anything.
process.once("disconnect", () => process.exit(3))

const send = (answer: Answer): void => void process.send?.(answer)

let recorder: PhaseRecorder | undefined = undefined
process.on("unhandledRejection", (reason) => recorder?.defect(`unhandled rejection: ${String(reason)}`))

const one = (work: OverloadWork, notes: PhaseRecorder): Effect.Effect<void> =>
  Effect.suspend(() => {
    const kind = work.kind()
    const since = notes.begin()
    return Effect.map(Effect.exit(work.operation(kind)), (exit) => notes.end(kind, since, exit))
  })

/** Begins what is due, also what is overdue because this process was busy: nobody who comes waits for that. */
const arrivals = (work: OverloadWork, notes: PhaseRecorder, perSecond: number): Effect.Effect<never> => {
  let begun = 0
  return Effect.forever(
    Effect.suspend(() => {
      for (const due = (notes.elapsed * perSecond) / 1_000; begun < due; begun++) Effect.runFork(one(work, notes))
      return Effect.sleep(tick)
    })
  )
}

const clients = (work: OverloadWork, notes: PhaseRecorder, count: number): Effect.Effect<void> =>
  Effect.forEach(
    Array.from({ length: count }),
    () => Effect.forever(Effect.andThen(one(work, notes), Effect.yieldNow)),
    { concurrency: "unbounded", discard: true }
  )

/** Reads of what is in memory, each from when its turn was: as {@link arrivals}. */
const cachedReads = (work: OverloadWork, notes: PhaseRecorder): Effect.Effect<never> => {
  let dueAt = performance.now()
  const read = (due: number) => Effect.map(Effect.exit(work.cachedRead), (exit) => notes.cachedRead(due, exit))
  return Effect.forever(
    Effect.suspend(() => {
      for (; dueAt <= performance.now(); dueAt += cachedReadEvery) Effect.runFork(read(dueAt))
      return Effect.sleep(tick)
    })
  )
}

const perform = Effect.fnUntraced(function* ({ locks, sessions }: Services, work: OverloadWork, phase: Phase) {
  const notes = new PhaseRecorder()
  recorder = notes
  const looks = Effect.forever(
    Effect.andThen(
      Effect.sleep(windowMillis),
      Effect.map(sessions.health, (health) => notes.look(health))
    )
  )
  const load = phase._tag === "Closed" ? clients(work, notes, phase.clients) : arrivals(work, notes, phase.perSecond)
  const drained = Effect.repeat(
    Effect.delay(
      Effect.sync(() => notes.pending),
      5
    ),
    { until: (pending) => pending === 0 }
  )
  // Clients that ask again are cut off in the middle of what they ask: it counts as neither.
  yield* Effect.timeoutOption(
    Effect.all([load, cachedReads(work, notes), looks], { concurrency: "unbounded", discard: true }),
    phase.seconds * 1_000
  )
  notes.close()
  if (phase._tag === "Open") yield* Effect.timeoutOption(Effect.raceFirst(drained, looks), drainPatience)
  const { held, waiting } = yield* locks.health
  const { pendingUpdates } = yield* sessions.health
  const report: PhaseReport = notes.report()
  return phase._tag === "Open" && notes.pending > 0
    ? {
        ...report,
        defects: [
          ...report.defects,
          `${notes.pending} operations were not answered (${held} locks held, ${waiting} waited for, ${pendingUpdates} updates)`
        ]
      }
    : report
})

const serve = Effect.gen(function* () {
  const services = { sessions: yield* SessionStore, locks: yield* SessionLocks }
  const random = Random.make(yield* Config.Int("SEED"), "overload")
  const tokens: Array<string> = []
  process.on("message", (message: unknown) => {
    if (!isCommand(message)) return
    if ("tokens" in message) tokens.push(...message.tokens)
    else {
      const work = new OverloadWork(services, tokens, random)
      Effect.runFork(Effect.map(perform(services, work, message.phase), (report) => send({ report })))
    }
  })
  send({ ready: true })
  return yield* Effect.never
})

const layer = Layer.unwrap(
  Effect.gen(function* () {
    return PgSession.layer({
      url: yield* Config.Redacted("DATABASE_URL"),
      nodeName: yield* Config.String("NODE_NAME"),
      connection: { applicationName: yield* Config.String("NODE_NAME") },
      // Far fewer than there are sessions, so that reads miss.
      cacheCapacity: 3_000
    })
  })
)

NodeRuntime.runMain(Effect.provide(serve, layer).pipe(Effect.scoped, Effect.orDie))
