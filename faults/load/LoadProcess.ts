/** A node process of a test under load: spoken to over its channel, killed with the scope, and its end is known. */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { now } from "../Timing.ts"

const maxLog = 1_000_000
/** How long one that was asked to end may take before it is killed, in milliseconds. */
const endPatience = 30_000

export interface Ended {
  readonly status: string
  /** From the signal to the end; `undefined`: it was not asked to. */
  readonly tookMillis: number | undefined
}

export class LoadProcess {
  readonly name: string
  readonly ended: Promise<Ended>
  /** What it wrote to its standard output and error. */
  log = ""
  private readonly child: ChildProcess
  private askedAt: number | undefined = undefined

  /** `file` is the program, beside this module. */
  constructor(
    name: string,
    file: string,
    env: Readonly<Record<string, string>>,
    onMessage: (message: unknown) => void
  ) {
    this.name = name
    this.child = spawn(
      process.execPath,
      ["--expose-gc", "--conditions=@effect-pg-session/source", join(import.meta.dirname, file)],
      // In a process group of its own: Ctrl-C reaches who started it, who ends everything in its order.
      {
        env: { ...process.env, ...env, NODE_NAME: name, NO_COLOR: "1" },
        stdio: ["ignore", "pipe", "pipe", "ipc"],
        detached: true
      }
    )
    const append = (chunk: string) => {
      if (this.log.length < maxLog) this.log += chunk
    }
    this.child.stdout?.setEncoding("utf8").on("data", append)
    this.child.stderr?.setEncoding("utf8").on("data", append)
    this.child.on("message", onMessage)
    // A channel that closes while something is written to it: the end of the process is what counts.
    this.child.on("error", () => {})
    this.ended = new Promise((resolve) => {
      this.child.once("exit", (code, signal) => {
        const tookMillis = this.askedAt === undefined ? undefined : now() - this.askedAt
        resolve({ status: signal ?? String(code), tookMillis })
      })
    })
  }

  tell(command: object): void {
    if (this.child.connected) this.child.send(command)
  }

  /** Asks it to end, and kills it where it does not. */
  readonly end: Effect.Effect<Ended> = Effect.promise(() => {
    this.askedAt ??= now()
    this.child.kill("SIGTERM")
    const killed = setTimeout(() => this.child.kill("SIGKILL"), endPatience)
    return this.ended.finally(() => clearTimeout(killed))
  })

  readonly kill: Effect.Effect<Ended> = Effect.promise(() => {
    this.child.kill("SIGKILL")
    return this.ended
  })
}
