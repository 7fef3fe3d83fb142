/**
 * A node of a soak: the library in a process of its own, and clients in the same
 * process, so that what they ask costs nothing but itself. Prints nothing, and
 * ends on SIGTERM as applications do.
 */
import { SessionLocks, SessionStore } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "../Random.ts"
import type { Figures } from "./Flatness.ts"
import { Latencies } from "./Latencies.ts"
import * as Resources from "./Resources.ts"
import { type Answer, isCommand, type Report } from "./SoakProtocol.ts"
import { type Services, type Tagged, Work } from "./SoakWork.ts"

const clients = 32
const maxDefects = 20
/** Kinds that memory may answer. */
const reads: ReadonlySet<string> = new Set(["read", "readForeign", "readEnded"])

// Nobody is left to ask anything.
process.once("disconnect", () => process.exit(3))

const send = (answer: Answer): void => void process.send?.(answer)

/** What was done since it was last asked for. */
class Notes {
  private outcomes: Record<string, Record<string, number>> = {}
  private defects: Array<string> = []
  private readonly reads = new Latencies()
  private readonly others = new Latencies()
  /** What `--leak` keeps. */
  private readonly kept: Array<Uint8Array> = []
  private readonly leak: number

  constructor(leak: number) {
    this.leak = leak
  }

  note(kind: string, millis: number, exit: Exit.Exit<unknown, Tagged>): void {
    const outcome = Exit.isSuccess(exit)
      ? "Done"
      : Option.match(Cause.findErrorOption(exit.cause), { onNone: () => "Defect", onSome: ({ _tag }) => _tag })
    if (outcome === "Defect" && Exit.isFailure(exit)) this.defect(`${kind}: ${Cause.pretty(exit.cause)}`)
    const counts = (this.outcomes[kind] ??= {})
    counts[outcome] = (counts[outcome] ?? 0) + 1
    ;(reads.has(kind) ? this.reads : this.others).record(millis)
    if (kind === "turnOver" && this.leak > 0) this.kept.push(new Uint8Array(this.leak))
  }

  readonly defect = (message: string): void => {
    if (this.defects.length < maxDefects) this.defects.push(message.slice(0, 1_000))
  }

  take(figures: Figures): Report {
    const { defects, outcomes } = this
    this.outcomes = {}
    this.defects = []
    return { figures, outcomes, defects, reads: this.reads.take(), others: this.others.take() }
  }
}

const figures = ({ locks, sessions }: Services) =>
  Effect.gen(function* () {
    const { activity, cache, pendingUpdates, watched } = yield* sessions.health
    const { held, waiting } = yield* locks.health
    return {
      ...Resources.measure(),
      cached: cache.size,
      absent: cache.absent,
      pendingActivity: activity.pending,
      pendingUpdates,
      watched,
      held,
      waiting
    }
  })

const client = (work: Work, notes: Notes): Effect.Effect<never> =>
  Effect.forever(
    Effect.suspend(() => {
      const { effect, kind } = work.next
      const start = performance.now()
      // Everybody else comes between two operations: also where memory answers at once.
      return Effect.flatMap(Effect.exit(effect), (exit) => {
        notes.note(kind, performance.now() - start, exit)
        return Effect.yieldNow
      })
    })
  )

const serve = Effect.gen(function* () {
  const services = { sessions: yield* SessionStore, locks: yield* SessionLocks }
  const seed = yield* Config.Int("SEED")
  const name = yield* Config.String("NODE_NAME")
  const notes = new Notes(yield* Config.Int("LEAK"))
  process.on("unhandledRejection", (reason) => notes.defect(`unhandled rejection: ${String(reason)}`))
  const work = new Work(services, Random.make(seed, "soak", name), (begun) => send({ begun }))
  yield* work.prepare
  process.on("message", (message: unknown) => {
    if (!isCommand(message)) return
    if ("heard" in message) work.hear(message.heard)
    else {
      Effect.runFork(
        Effect.map(figures(services), (taken) => send({ sampled: message.sample, report: notes.take(taken) }))
      )
    }
  })
  send({ ready: true })
  return yield* Effect.forEach(Array.from({ length: clients }), () => client(work, notes), {
    concurrency: "unbounded",
    discard: true
  })
})

/** What happens every now and then in production happens all the time here. */
const layer = Layer.unwrap(
  Effect.gen(function* () {
    return PgSession.layer({
      url: yield* Config.Redacted("DATABASE_URL"),
      nodeName: yield* Config.String("NODE_NAME"),
      connection: { applicationName: yield* Config.String("NODE_NAME") },
      lastAccessFlushInterval: "2 seconds",
      cleanupInterval: "3 seconds",
      cacheCapacity: 3_000
    })
  })
)

NodeRuntime.runMain(Effect.provide(serve, layer).pipe(Effect.scoped, Effect.orDie))
