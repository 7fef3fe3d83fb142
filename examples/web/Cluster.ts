/** Two nodes of the application over one PostgreSQL, each in a process of its own, until the scope closes. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { createServer } from "node:net"
import { join } from "node:path"

/** A node that did not start. */
export class NodeFailed extends Data.TaggedError("NodeFailed")<{ readonly message: string }> {}

/** A free port, this one if it is free. */
const freePort = (wanted: number): Effect.Effect<number> =>
  Effect.callback<number>((resume) => {
    const server = createServer()
    server.once("error", () => resume(freePort(0)))
    server.listen(wanted, "localhost", () => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : wanted
      server.close(() => resume(Effect.succeed(port)))
    })
  })

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
    else child.once("exit", () => resume(Effect.void))
  })

const startNode = (env: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--conditions=@effect-pg-session/source", join(import.meta.dirname, "node.ts")], {
        stdio: ["ignore", "pipe", "inherit", "ipc"],
        // In a process group of its own: Ctrl-C reaches the supervisor, which ends everything in its order.
        detached: true,
        env: { ...process.env, ...env }
      })
    ),
    (child) =>
      Effect.andThen(
        Effect.sync(() => child.kill("SIGTERM")),
        ended(child)
      )
  )

/** Waits until it serves. */
const ready = (child: ChildProcess): Effect.Effect<void, NodeFailed> =>
  Effect.callback<void, NodeFailed>((resume) => {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes("ready")) resume(Effect.void)
      else process.stdout.write(text)
    })
    child.once("exit", (code) =>
      resume(
        Effect.fail(
          new NodeFailed({ message: `A node ended while it started (status ${code}): what it said is above` })
        )
      )
    )
  })

/** Starts both; `port` is the first one's, if it is free. */
export const start = Effect.fnUntraced(function* (options: {
  readonly databaseUrl: Redacted.Redacted<string>
  readonly schemaName: string
  readonly port: number
  /** How long a step-up lasts, in Effect's notation. */
  readonly elevatedFor: string
}) {
  const first = yield* freePort(options.port)
  const second = yield* freePort(options.port === 0 ? 0 : first + 1)
  const urls = [`http://localhost:${first}`, `http://localhost:${second}`] as const
  const common = {
    DATABASE_URL: Redacted.value(options.databaseUrl),
    SESSION_SCHEMA_NAME: options.schemaName,
    ELEVATED_FOR: options.elevatedFor,
    // A real application takes it from its secret store, and all nodes have the same.
    SESSION_COOKIE_KEYS: randomBytes(32).toString("base64")
  }
  const nodes = yield* Effect.all([
    startNode({ ...common, NODE_NAME: "Node 1", PORT: String(first), OTHER_URL: urls[1] }),
    startNode({ ...common, NODE_NAME: "Node 2", PORT: String(second), OTHER_URL: urls[0] })
  ])
  yield* Effect.all(nodes.map(ready), { concurrency: 2 })
  return { urls, ended: Effect.raceFirst(ended(nodes[0]), ended(nodes[1])) }
})
