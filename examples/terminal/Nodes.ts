/**
 * Starts a node in a process of its own and gives the means to ask it. The
 * process ends with the scope; where the supervisor itself is killed, the broken
 * IPC channel tells the node to end.
 */
import { NodeWorker } from "@effect/platform-node"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { RpcClient } from "effect/rpc"
import { spawn } from "node:child_process"
import { join } from "node:path"
import { type LogLine, monotonicMillis, NodeRpcs } from "./NodeRpcs.ts"

/** A node's process ended in the middle of the story. */
export class NodeEnded extends Data.TaggedError("NodeEnded")<{ readonly name: string; readonly status: string }> {
  override get message(): string {
    return `The process of ${this.name} ended by itself (${this.status}); what it printed is above`
  }
}

/** Starts a node and waits until it serves from memory. */
export const start = Effect.fnUntraced(function* (name: string, env: Readonly<Record<string, string>>) {
  const startedAt = monotonicMillis()
  const ended = yield* Deferred.make<never, NodeEnded>()
  let processId = 0
  const platform = NodeWorker.layer(() => {
    const child = spawn(
      process.execPath,
      ["--conditions=@effect-pg-session/source", join(import.meta.dirname, "node.ts")],
      {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
        // In a process group of its own: Ctrl-C reaches the supervisor, which ends everything in its order.
        detached: true,
        env: { ...process.env, ...env }
      }
    )
    processId = child.pid ?? 0
    child.once("exit", (code, signal) =>
      Deferred.doneUnsafe(ended, Effect.fail(new NodeEnded({ name, status: signal ?? `status ${code}` })))
    )
    return child
  })
  const protocol = RpcClient.layerProtocolWorker({ size: 1, concurrency: 64 }).pipe(Layer.provide(platform))
  const ask = yield* Effect.provideContext(
    RpcClient.make(NodeRpcs, { disableTracing: true }),
    yield* Layer.build(protocol)
  )

  const logs: Array<LogLine> = []
  yield* Effect.forkScoped(Stream.runForEach(ask.Logs(), (line) => Effect.sync(() => logs.push(line))))
  yield* Effect.raceFirst(ask.Ready(), Deferred.await(ended))
  return { name, processId, ask, logs, startMillis: monotonicMillis() - startedAt, ended: Deferred.await(ended) }
})

/** A node that runs. */
export type RunningNode = Effect.Success<ReturnType<typeof start>>
