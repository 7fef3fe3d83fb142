/**
 * Server programs as child processes that cannot outlive this one.
 *
 * As root they run as an unprivileged user, because PostgreSQL and PgBouncer
 * refuse root. Each runs in a process group of its own, so that Ctrl-C reaches
 * the application only, which then shuts down with its server still there.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as FileSystem from "node:fs"
import { waitUntil } from "./RealTime.ts"

/** A child process could not be started, or ended with a failure. */
export class ServerProcessError extends Data.TaggedError("ServerProcessError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** "nobody" on Linux and "nobody" enough elsewhere: it owns nothing. */
const unprivileged = { uid: 65_534, gid: 65_534 }

/** Whose files a server may read and write: somebody else's if we are root, else our own. */
export const owner: { readonly uid?: number; readonly gid?: number } = process.getuid?.() === 0 ? unprivileged : {}

const logLimit = 16_384

/** A started server program. */
export interface ServerProcess {
  readonly pid: number
  /** Whether the process itself (not its children) still runs. */
  readonly isRunning: Effect.Effect<boolean>
  /** The last 16 KiB of what it wrote to its standard output and error. */
  readonly log: Effect.Effect<string>
}

const environment = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" }

/** Runs a program to its end; fails with what it printed where its status is not 0, and after 60 seconds. */
export const run = (
  file: string,
  args: ReadonlyArray<string>,
  cwd: string,
  onStart?: (pid: number | undefined) => void
): Effect.Effect<string, ServerProcessError> =>
  Effect.callback<string, ServerProcessError>((resume) => {
    const child = ChildProcess.execFile(
      file,
      args,
      { ...owner, cwd, env: environment, timeout: 60_000, killSignal: "SIGKILL" },
      (cause, stdout, stderr) =>
        resume(
          cause === null
            ? Effect.succeed(stdout)
            : Effect.fail(new ServerProcessError({ message: stderr.trim() || cause.message, cause }))
        )
    )
    onStart?.(child.pid)
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Starts a server program in the background. It is not ended by itself: see {@link killTree}. */
export const spawn = (
  file: string,
  args: ReadonlyArray<string>,
  cwd: string
): Effect.Effect<ServerProcess, ServerProcessError> =>
  Effect.callback<ServerProcess, ServerProcessError>((resume) => {
    const child = ChildProcess.spawn(file, args, {
      ...owner,
      cwd,
      env: environment,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"]
    })
    let log = ""
    let running = true
    const append = (chunk: string) => {
      log = (log + chunk).slice(-logLimit)
    }
    child.stdout.setEncoding("utf8").on("data", append)
    child.stderr.setEncoding("utf8").on("data", append)
    child.once("exit", () => {
      running = false
    })
    child.once("error", (cause) => {
      running = false
      resume(Effect.fail(new ServerProcessError({ message: `Cannot start ${file}: ${cause.message}`, cause })))
    })
    child.once("spawn", () => {
      const { pid } = child
      if (pid === undefined) return
      child.unref()
      resume(
        Effect.succeed({
          pid,
          isRunning: Effect.sync(() => running),
          log: Effect.sync(() => log)
        })
      )
    })
  })

/** Sends a signal; a process that is gone already is no error. */
export const signal = (pid: number, name: NodeJS.Signals): Effect.Effect<void> =>
  Effect.ignore(Effect.try(() => process.kill(pid, name)))

/** Every process as `[pid, parent, state]`. */
const processTable: Effect.Effect<ReadonlyArray<readonly [number, number, string]>> =
  process.platform === "linux"
    ? Effect.sync(() =>
        FileSystem.readdirSync("/proc").flatMap((name) => {
          const stat = /^\d+$/.test(name) ? readText(`/proc/${name}/stat`) : ""
          // The second field is the program's name in parentheses and may itself hold any character.
          const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
          return state === undefined || parent === undefined ? [] : [[Number(name), Number(parent), state] as const]
        })
      )
    : run("/bin/ps", ["-A", "-o", "pid=,ppid=,state="], "/").pipe(
        Effect.map((output) =>
          output.split("\n").flatMap((line) => {
            const [pid, parent, state] = line.trim().split(/\s+/)
            return state === undefined ? [] : [[Number(pid), Number(parent), state] as const]
          })
        ),
        Effect.orElseSucceed(() => [])
      )

const readText = (path: string): string => {
  try {
    return FileSystem.readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

/** The processes that `pid` started and that have not ended. */
export const childrenOf = (pid: number): Effect.Effect<ReadonlyArray<number>> =>
  Effect.map(processTable, (table) =>
    table.filter(([, parent, state]) => parent === pid && !state.startsWith("Z")).map(([child]) => child)
  )

const anyLeft = (pids: ReadonlyArray<number>): Effect.Effect<boolean> =>
  Effect.map(processTable, (table) => table.some(([pid, , state]) => pids.includes(pid) && !state.startsWith("Z")))

/** Stops (SIGSTOP) a server and then its children, in that order, so that none is started in between. */
export const pauseTree = Effect.fnUntraced(function* (pid: number) {
  yield* signal(pid, "SIGSTOP")
  const children = yield* childrenOf(pid)
  yield* Effect.forEach(children, (child) => signal(child, "SIGSTOP"), { discard: true })
  return children
})

/** Lets a server that {@link pauseTree} stopped go on. */
export const resumeTree = Effect.fnUntraced(function* (pid: number) {
  const children = yield* childrenOf(pid)
  yield* Effect.forEach(children, (child) => signal(child, "SIGCONT"), { discard: true })
  yield* signal(pid, "SIGCONT")
})

/** Ends a server and all of its children by SIGKILL and waits until they are gone. */
export const killTree = Effect.fnUntraced(function* (server: ServerProcess) {
  const pids = [server.pid, ...(yield* pauseTree(server.pid))]
  yield* Effect.forEach(pids, (pid) => signal(pid, "SIGKILL"), { discard: true })
  yield* waitUntil(
    Effect.map(anyLeft(pids), (left) => !left),
    "10 seconds"
  )
  yield* waitUntil(
    Effect.map(server.isRunning, (running) => !running),
    "10 seconds"
  )
})

/** Asks a server to end by the given signal; after `patience` it and its children are killed. */
export const endTree = Effect.fnUntraced(function* (server: ServerProcess, name: NodeJS.Signals) {
  if (!(yield* server.isRunning)) return
  yield* resumeTree(server.pid)
  yield* signal(server.pid, name)
  const ended = yield* waitUntil(
    Effect.map(server.isRunning, (running) => !running),
    "20 seconds"
  )
  if (!ended) yield* killTree(server)
})
