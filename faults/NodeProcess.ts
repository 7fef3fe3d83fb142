/** One process of a node: asked over its channel, and told apart from those before and after it by its name. */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import type { NodeEnd, Operation, Outcome, Request } from "./History.ts"
import { type Command, isAnswer, type Measurement } from "./Protocol.ts"
import type { Recorder } from "./Recorder.ts"
import { now } from "./Timing.ts"

/** Operations that may be under way: more are not asked of a node that is stopped. */
const maxPending = 200
/** How long a node that was asked to end may take before it is killed, in milliseconds. */
const endPatience = 20_000
/** How much of what it says is kept. */
const maxLog = 32 * 2 ** 20

interface Pending {
  readonly request: Request
  readonly askedAt: number
  readonly resolve: (operation: Operation) => void
}

type Figures = Readonly<Record<string, number>>

export class NodeProcess {
  readonly name: string
  readonly ready: Promise<boolean>
  readonly ended: Promise<void>
  /** What it wrote to its standard output and error. */
  log = ""
  private readonly child: ChildProcess
  private readonly recorder: Recorder
  private readonly pending = new Map<number, Pending>()
  private readonly measuring = new Map<number, (figures: Figures | undefined) => void>()
  private signalled: { readonly how: NodeEnd["how"]; readonly at: number } | undefined = undefined
  private running = true
  private serving = false

  constructor(name: string, env: Readonly<Record<string, string>>, recorder: Recorder) {
    this.name = name
    this.recorder = recorder
    this.child = spawn(
      process.execPath,
      [
        "--conditions=@effect-pg-session/source",
        "--import",
        pathToFileURL(join(import.meta.dirname, "node", "WallClock.ts")).href,
        join(import.meta.dirname, "node", "main.ts")
      ],
      // In a process group of its own: Ctrl-C reaches the harness, which ends everything in its order.
      { env: { ...process.env, ...env, NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe", "ipc"], detached: true }
    )
    const append = (chunk: string) => {
      if (this.log.length < maxLog) this.log += chunk
    }
    this.child.stdout?.setEncoding("utf8").on("data", append)
    this.child.stderr?.setEncoding("utf8").on("data", append)
    let isReady: (ready: boolean) => void = () => {}
    this.ready = new Promise((resolve) => {
      isReady = resolve
    })
    this.child.on("message", (message: unknown) => {
      if (!isAnswer(message)) return
      if ("ready" in message) {
        this.serving = true
        isReady(true)
      } else if ("answer" in message) this.settle(message.answer, message)
      else this.measured(message.measured, message.figures)
    })
    // A channel that closes while something is written to it: the end of the process is what counts.
    this.child.on("error", () => {})
    this.ended = new Promise((resolve) => {
      this.child.once("exit", (code, signal) => {
        isReady(false)
        this.end(signal ?? String(code))
        resolve()
      })
    })
  }

  /** Whether it runs and was not told to end: it serves, or will. */
  get isMeantToServe(): boolean {
    return this.running && this.signalled === undefined
  }

  /** How many operations are under way. */
  get pendingOperations(): number {
    return this.pending.size
  }

  /** `undefined` where the node does not serve, or has too much to do. */
  ask(request: Request): Promise<Operation> | undefined {
    if (!this.running || !this.serving || this.pending.size >= maxPending) return undefined
    const id = this.recorder.newId()
    return new Promise((resolve) => {
      this.pending.set(id, { request, askedAt: now(), resolve })
      this.tell({ ask: id, request })
    })
  }

  /** Figures that a node knows itself; `undefined` where it ends meanwhile, or does not answer in time. */
  measure(what: Measurement, patience = 5_000): Promise<Figures | undefined> {
    if (!this.running || !this.serving) return Promise.resolve(undefined)
    const id = this.recorder.newId()
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.measured(id, undefined), patience)
      this.measuring.set(id, (figures) => {
        clearTimeout(timer)
        resolve(figures)
      })
      this.tell({ measure: id, what })
    })
  }

  tell(command: Command): void {
    if (this.child.connected) this.child.send(command)
  }

  /** Stops the process, or lets it go on. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.child.kill(name)
  }

  /** Ends it at once, or asks it to end; resolves when it has. */
  readonly kill = Effect.suspend(() => this.endBy("SIGKILL", "Killed"))
  readonly askToEnd = Effect.suspend(() => this.endBy("SIGTERM", "Asked"))

  private endBy(signal: NodeJS.Signals, how: NodeEnd["how"]): Effect.Effect<void> {
    if (this.running) {
      this.signalled = { how, at: now() }
      this.child.kill(signal)
    }
    const killed = setTimeout(() => this.child.kill("SIGKILL"), endPatience)
    return Effect.ensuring(
      Effect.promise(() => this.ended),
      Effect.sync(() => clearTimeout(killed))
    )
  }

  private settle(
    id: number,
    answer: {
      readonly start: number
      readonly end: number
      readonly pause: number
      readonly outcome: Outcome
    }
  ): void {
    const pending = this.pending.get(id)
    if (pending === undefined) return
    this.pending.delete(id)
    const { end, outcome, pause, start } = answer
    const operation = { id, node: this.name, request: pending.request, start, end, pause, outcome }
    this.recorder.record(operation)
    pending.resolve(operation)
  }

  private measured(id: number, figures: Figures | undefined): void {
    this.measuring.get(id)?.(figures)
    this.measuring.delete(id)
  }

  private end(status: string): void {
    const { at, how } = this.signalled ?? { at: now(), how: "ByItself" as const }
    this.running = false
    this.recorder.ends.push({ node: this.name, how, status, at: now(), tookMillis: now() - at })
    for (const [id, { askedAt, request, resolve }] of this.pending) {
      const outcome: Outcome = { _tag: "Unanswered" }
      const operation = { id, node: this.name, request, start: askedAt, end: Infinity, pause: 0, outcome }
      this.recorder.record(operation)
      resolve(operation)
    }
    this.pending.clear()
    for (const id of Array.from(this.measuring.keys())) this.measured(id, undefined)
  }
}
