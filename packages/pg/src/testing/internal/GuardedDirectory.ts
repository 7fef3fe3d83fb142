/**
 * A temporary directory, and a server in it, that are gone when this process
 * is, however it ends: at the end of the scope, by an uncaught error, by
 * `kill -9`.
 *
 * A small shell process holds the other end of a pipe. When the pipe closes,
 * because we close it or because we died, it ends the server that it was last
 * told of and removes the directory. Nothing like it can be had from signals or
 * exit handlers alone, and it needs no more than a POSIX shell.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as FileSystem from "node:fs/promises"
import * as Net from "node:net"
import * as OperatingSystem from "node:os"
import * as Path from "node:path"
import { waitUntil } from "./RealTime.ts"
import { owner, ServerProcessError } from "./ServerProcess.ts"

// SIGQUIT is PostgreSQL's immediate shutdown: after 5 s it kills even children that are stopped. What outlives its parent
// for a moment may still write, so that removing the directory can take more than one attempt.
const script = `
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -CONT "$pid"
  kill -QUIT "$pid"
  tries=0
  while kill -0 "$pid" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$pid"
fi 2> /dev/null
tries=0
until rm -rf -- "$1" || [ "$tries" -ge 100 ]; do sleep 0.1; tries=$((tries + 1)); done 2> /dev/null
`

/** A directory that belongs to the user the servers run as. */
export interface GuardedDirectory {
  readonly path: string
  /** Tells the guard which server to end with this process; `undefined` when none runs. */
  readonly guard: (pid: number | undefined) => Effect.Effect<void>
  /** {@link GuardedDirectory.guard}, at once. */
  readonly guardUnsafe: (pid: number | undefined) => void
}

/** Makes the directory in the system's temporary directory and removes it when the scope closes. */
export const make = Effect.fnUntraced(function* (
  prefix: string
): Effect.fn.Return<GuardedDirectory, ServerProcessError, Scope.Scope> {
  const parent = OperatingSystem.tmpdir()
  const path = yield* Effect.tryPromise({
    try: () => FileSystem.mkdtemp(Path.join(parent, prefix)),
    catch: (cause) =>
      new ServerProcessError({
        message: `Cannot create a directory in ${parent}: set TMPDIR to one that exists`,
        cause
      })
  })
  const shell = yield* Effect.acquireRelease(startGuard(path), (guard) => endGuard(guard, path))
  if (owner.uid !== undefined && owner.gid !== undefined) {
    const { gid, uid } = owner
    yield* Effect.tryPromise({
      try: () => FileSystem.chown(path, uid, gid),
      catch: (cause) => new ServerProcessError({ message: `Cannot give ${path} to the user ${uid}`, cause })
    })
  }
  const guardUnsafe = (pid: number | undefined): void => {
    shell.stdin.write(`${pid ?? ""}\n`)
  }
  return { path, guard: (pid) => Effect.sync(() => guardUnsafe(pid)), guardUnsafe }
})

interface Guard {
  readonly stdin: ChildProcess.ChildProcessWithoutNullStreams["stdin"]
  readonly isRunning: Effect.Effect<boolean>
}

const startGuard = (path: string): Effect.Effect<Guard, ServerProcessError> =>
  Effect.callback<Guard, ServerProcessError>((resume) => {
    let running = true
    const child = ChildProcess.spawn("/bin/sh", ["-c", script, "sh", path], {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "ignore", "ignore"]
    })
    child.once("exit", () => {
      running = false
    })
    child.once("error", (cause) =>
      resume(Effect.fail(new ServerProcessError({ message: `Cannot start /bin/sh: ${cause.message}`, cause })))
    )
    child.stdin.on("error", () => {
      running = false
    })
    child.once("spawn", () => {
      child.unref()
      if (child.stdin instanceof Net.Socket) child.stdin.unref()
      resume(Effect.succeed({ stdin: child.stdin, isRunning: Effect.sync(() => running) }))
    })
  })

// Where the guard itself was killed, its work is done here.
const endGuard = (guard: Guard, path: string): Effect.Effect<void> =>
  Effect.sync(() => guard.stdin.end()).pipe(
    Effect.andThen(
      waitUntil(
        Effect.map(guard.isRunning, (running) => !running),
        "15 seconds"
      )
    ),
    Effect.andThen(Effect.promise(() => FileSystem.rm(path, { recursive: true, force: true })))
  )
