/**
 * Redis as a peer: Debian's `redis-server`, started on a spare port of 127.0.0.1 in a
 * temporary directory, and ended with the scope. Where the program is missing, the
 * suites leave Redis out and say so.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { createClient } from "redis"
import { NotMeasured } from "./Interleaved.ts"

/** The path of the program, where there is one. */
export const program = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/usr/local/bin"]
  .map((directory) => join(directory, "redis-server"))
  .find((path) => existsSync(path))

/** Whether there is a Redis to compare with. */
export const available: boolean = program !== undefined

/** What a suite says where there is none. */
export const missing =
  "Redis is left out: the program redis-server is not installed (Debian: apt-get install redis-server)"

/**
 * `none`: nothing is written to disk, as a cache is run. `always`: the append-only file is synced before a write is
 * answered, which is as durable as a commit of PostgreSQL.
 */
export type Persistence = "none" | "always"

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Starts a server; answers the URL. */
export const start = Effect.fnUntraced(function* (persistence: Persistence) {
  if (program === undefined) return yield* new NotMeasured({ message: missing })
  const path = program
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "effect-pg-session-redis-"))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )
  const port = yield* freePort
  const flags = persistence === "always" ? ["--appendonly", "yes", "--appendfsync", "always"] : ["--appendonly", "no"]
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(path, ["--bind", "127.0.0.1", "--port", String(port), "--dir", directory, "--save", "", ...flags], {
        stdio: "ignore"
      })
    ),
    ended
  )
  // Not even a crash of the benchmark leaves it behind.
  process.once("exit", () => server.kill("SIGKILL"))
  return `redis://127.0.0.1:${port}`
})

/** A connected client, which sends what is asked for in one turn of the event loop together. */
export const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = createClient({ url, socket: { reconnectStrategy: (tries) => (tries < 200 ? 25 : false) } })
      // While the server starts, connecting is refused; what matters fails by itself.
      client.on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.sync(() => client.destroy())
  )

/** A server and a client on it. */
export const make = (persistence: Persistence) => Effect.flatMap(start(persistence), connect)

export type Client = Effect.Success<ReturnType<typeof connect>>
