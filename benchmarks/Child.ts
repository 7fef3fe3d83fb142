/**
 * Programs in processes of their own: other nodes, servers, heaps that are measured. They are asked by messages, one at
 * a time, and end when this process hangs up, however it ends.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import { NotMeasured } from "./Interleaved.ts"

const Answer = Schema.Union([Schema.Struct({ answer: Schema.Unknown }), Schema.Struct({ failure: Schema.String })])
const Question = Schema.Struct({ command: Schema.String, argument: Schema.Unknown })

/** A program that answers. */
export interface Child {
  readonly ask: <A>(
    command: string,
    answer: Schema.Codec<A, unknown>,
    argument?: unknown
  ) => Effect.Effect<A, NotMeasured>
}

const nextMessage = (child: ChildProcess, program: string): Effect.Effect<unknown, NotMeasured> =>
  Effect.callback((resume) => {
    const onExit = (code: number | null) =>
      resume(Effect.fail(new NotMeasured({ message: `${program} ended by itself with ${code}` })))
    child.once("exit", onExit)
    child.once("message", (message) => {
      child.off("exit", onExit)
      resume(Effect.succeed(message))
    })
  })

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    const timeout = setTimeout(() => child.kill("SIGKILL"), 10_000)
    child.once("exit", () => {
      clearTimeout(timeout)
      resume(Effect.void)
    })
    if (child.connected) child.disconnect()
  })

/** Starts `children/<program>.ts`, and waits until it is ready; it ends with the scope. */
export const start = Effect.fnUntraced(function* (
  program: string,
  environment: Readonly<Record<string, string>>,
  nodeOptions: ReadonlyArray<string> = []
) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      fork(join(import.meta.dirname, "children", `${program}.ts`), {
        execArgv: ["--conditions=@effect-pg-session/source", ...nodeOptions],
        env: { ...process.env, ...environment }
      })
    ),
    ended
  )
  const answered = Effect.fnUntraced(
    function* <A>(schema: Schema.Codec<A, unknown>) {
      const message = yield* Effect.flatMap(nextMessage(child, program), Schema.decodeUnknownEffect(Answer))
      if ("failure" in message) return yield* new NotMeasured({ message: `${program}: ${message.failure}` })
      return yield* Schema.decodeUnknownEffect(schema)(message.answer)
    },
    Effect.catchTag("SchemaError", (error) => Effect.fail(new NotMeasured({ message: `${program}: ${error.message}` })))
  )
  yield* answered(Schema.Literal("ready"))
  const ask: Child["ask"] = (command, schema, argument) =>
    Effect.suspend(() => {
      child.send({ command, argument: argument ?? null })
      return answered(schema)
    })
  return { ask }
})

/** What a program does in its process: answers until the other side hangs up. */
export const answering = Effect.fnUntraced(function* <E, R>(
  handlers: Readonly<Record<string, (argument: unknown) => Effect.Effect<unknown, E, R>>>
) {
  const context = yield* Effect.context<R>()
  // Whoever has hung up wants no answer.
  const send = (message: typeof Answer.Type) => void process.send?.(message, () => {})
  yield* Effect.callback<void>((resume) => {
    process.once("disconnect", () => resume(Effect.void))
    process.on("message", (message) => {
      const { argument, command } = Schema.decodeUnknownSync(Question)(message)
      const handler = handlers[command]
      if (handler === undefined) return send({ failure: `there is no ${command}` })
      Effect.runPromiseExitWith(context)(handler(argument)).then(
        (exit) => send(Exit.isSuccess(exit) ? { answer: exit.value } : { failure: Cause.pretty(exit.cause) }),
        () => {}
      )
    })
    send({ answer: "ready" })
  })
})

/** A setting of the program. */
export const environment = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}
