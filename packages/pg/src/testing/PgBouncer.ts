/**
 * PgBouncer in transaction mode in front of a PostgreSQL server, to prove what
 * works through a pooler: each transaction may run on another server
 * connection, so session state, LISTEN and advisory session locks do not.
 *
 * It needs the `pgbouncer` program (Debian's package of that name);
 * {@link available} says whether it is there, so that tests can skip and say so.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { existsSync } from "node:fs"
import * as FileSystem from "node:fs/promises"
import * as Path from "node:path"
import * as GuardedDirectory from "./internal/GuardedDirectory.ts"
import * as Loopback from "./internal/Loopback.ts"
import { inRealTime, waitUntil } from "./internal/RealTime.ts"
import * as ServerProcess from "./internal/ServerProcess.ts"

/** The program is missing, or it did not start; the message holds the end of its log. */
export class PgBouncerError extends Data.TaggedError("PgBouncerError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** A running pooler. */
export interface PgBouncer {
  /** Always `127.0.0.1`. */
  readonly host: string
  /** The TCP port the pooler listens on. */
  readonly port: number
  /** The target's URL, but through the pooler; same user, password and database. */
  readonly url: Redacted.Redacted<string>
}

/** How to run the pooler; everything has a default. */
export interface PgBouncerOptions {
  /** Server connections per user and database. Default: 5, so that clients really share them. */
  readonly poolSize?: number | undefined
  /** The TCP port on 127.0.0.1, such as that of a pooler that has ended. Default: a free one. */
  readonly port?: number | undefined
}

const directories = [
  ...(process.env["PATH"] ?? "").split(Path.delimiter),
  "/usr/sbin",
  "/usr/local/sbin",
  "/opt/homebrew/bin"
]

const program = directories
  .filter((directory) => directory !== "")
  .map((directory) => Path.join(directory, "pgbouncer"))
  .find((path) => existsSync(path))

/** Whether the `pgbouncer` program is installed. */
export const available: boolean = program !== undefined

/**
 * Starts a pooler in front of the server that `target` (a `postgres://` URL
 * with user and password) names. It ends when the scope closes. As root it
 * runs as an unprivileged user.
 *
 * Clients must not prepare statements by name (`prepare: false` in `PgClient`):
 * before version 1.21 PgBouncer does not know them in transaction mode.
 */
export const make = Effect.fnUntraced(function* (
  target: Redacted.Redacted<string>,
  options?: PgBouncerOptions
): Effect.fn.Return<PgBouncer, PgBouncerError, Scope.Scope> {
  if (program === undefined) {
    return yield* new PgBouncerError({
      message: "The program pgbouncer is not installed (Debian: apt-get install pgbouncer)"
    })
  }
  const url = new URL(Redacted.value(target))
  const directory = yield* Effect.mapError(GuardedDirectory.make("effect-pg-session-pgbouncer-"), failed)
  const server = yield* start(program, directory, url, options ?? {}, 5)
  url.hostname = Loopback.host
  url.port = String(server.port)
  return { host: Loopback.host, port: server.port, url: Redacted.make(url.href) }
}, inRealTime)

const failed = (error: ServerProcess.ServerProcessError): PgBouncerError =>
  new PgBouncerError({ message: `PgBouncer did not start: ${error.message}`, cause: error })

const start = Effect.fnUntraced(function* (
  file: string,
  directory: GuardedDirectory.GuardedDirectory,
  target: URL,
  options: PgBouncerOptions,
  attempts: number
): Effect.fn.Return<{ readonly port: number }, PgBouncerError, Scope.Scope> {
  const port = options.port ?? (yield* Loopback.freePort)
  if (port === undefined) return yield* new PgBouncerError({ message: "No free port was found on 127.0.0.1" })
  const configuration = yield* Effect.tryPromise({
    try: () => writeConfiguration(directory.path, target, port, options.poolSize ?? 5),
    catch: (cause) => new PgBouncerError({ message: `Cannot write to ${directory.path}`, cause })
  })
  const server = yield* Effect.acquireRelease(
    Effect.mapError(ServerProcess.spawn(file, [configuration], directory.path), failed),
    // SIGINT would wait for clients to leave.
    (started) => inRealTime(ServerProcess.endTree(started, "SIGTERM"))
  )
  yield* directory.guard(server.pid)
  yield* waitUntil(
    Effect.gen(function* () {
      return !(yield* server.isRunning) || (yield* Loopback.accepts(port))
    }),
    "20 seconds"
  )
  if (yield* server.isRunning) return { port }
  const message = yield* server.log
  if (attempts > 0 && message.includes("in use")) return yield* start(file, directory, target, options, attempts - 1)
  return yield* failed(new ServerProcess.ServerProcessError({ message }))
})

const writeConfiguration = async (directory: string, target: URL, port: number, poolSize: number): Promise<string> => {
  const quoted = (text: string) => `"${decodeURIComponent(text).replaceAll('"', '""')}"`
  const users = Path.join(directory, "users.txt")
  const configuration = Path.join(directory, "pgbouncer.ini")
  await FileSystem.writeFile(users, `${quoted(target.username)} ${quoted(target.password)}\n`)
  await FileSystem.writeFile(
    configuration,
    `[databases]
* = host=${target.hostname} port=${target.port || "5432"}

[pgbouncer]
listen_addr = ${Loopback.host}
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${users}
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 200
server_round_robin = 1
ignore_startup_parameters = extra_float_digits
`
  )
  const { gid, uid } = ServerProcess.owner
  if (uid !== undefined && gid !== undefined) {
    await Promise.all([users, configuration].map((file) => FileSystem.chown(file, uid, gid)))
  }
  return configuration
}
