/** Starts `nodeProcess.ts`, or another program of its kind, and talks to it. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

const Answer = Schema.fromJsonString(
  Schema.Struct({
    ready: Schema.optional(Schema.Boolean),
    token: Schema.optional(Schema.String),
    late: Schema.optional(Schema.String),
    ended: Schema.optional(Schema.String),
    version: Schema.optional(Schema.Int)
  })
)

/** A node in another process; it is killed when the scope closes. */
export const child = Effect.fnUntraced(function* (
  env: Readonly<Record<string, string>>,
  program: "nodeProcess" | "lockProcess" = "nodeProcess"
) {
  const running = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--conditions=@effect-pg-session/source", `${import.meta.dirname}/${program}.ts`], {
        env: { ...process.env, NO_COLOR: "1", ...env },
        stdio: ["pipe", "pipe", "pipe"]
      })
    ),
    (process) => Effect.sync(() => process.kill("SIGKILL"))
  )
  let log = ""
  running.stderr.setEncoding("utf8").on("data", (chunk: string) => (log += chunk))
  const exited = new Promise<number | string>((resolve) => {
    running.once("exit", (code, signal) => resolve(signal ?? code ?? "?"))
  })
  const lines = createInterface({ input: running.stdout })[Symbol.asyncIterator]()
  /** The next answer; other lines are its log. */
  const answer: Effect.Effect<typeof Answer.Type> = Effect.suspend(() =>
    Effect.flatMap(
      Effect.promise(() => lines.next()),
      ({ done, value }) => {
        if (done === true) return Effect.die(new Error(`the process ended: ${log}`))
        if (value.startsWith("{")) return Effect.orDie(Schema.decodeEffect(Answer)(value))
        log += `${value}\n`
        return answer
      }
    )
  )
  const send = (line: string) => Effect.sync(() => void running.stdin.write(`${line}\n`))
  return {
    answer,
    send,
    ask: (line: string) => Effect.andThen(send(line), answer),
    signal: (name: NodeJS.Signals) => Effect.sync(() => running.kill(name)),
    /** Its exit code, or the signal that ended it. */
    exited: Effect.promise(() => exited),
    log: Effect.sync(() => log)
  }
})

/** The environment of a node on a schema. */
export const environment = (url: Redacted.Redacted<string>, schema: string) => ({
  DATABASE_URL: Redacted.value(url),
  SESSION_SCHEMA_NAME: schema,
  SESSION_MAX_CONNECTIONS: "2"
})
