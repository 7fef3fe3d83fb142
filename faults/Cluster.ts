/**
 * The nodes of a run. Each reaches PostgreSQL through two proxies of its own, one
 * for its statements and one for its listener, and is always some process: when
 * one has ended, another one takes its place.
 */
import { TcpProxy } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Operation, Request } from "./History.ts"
import { NodeProcess } from "./NodeProcess.ts"
import type { Recorder } from "./Recorder.ts"

/** How statements, and the listener, reach PostgreSQL. */
export interface Targets {
  readonly queries: Redacted.Redacted<string>
  readonly listener: Redacted.Redacted<string>
  /** Whether statements may be prepared by name: not through a pooler. */
  readonly prepare: boolean
}

export interface Node {
  readonly index: number
  readonly queries: TcpProxy.TcpProxy
  readonly listener: TcpProxy.TcpProxy
  /** The process that runs now, or has run last. */
  readonly process: () => NodeProcess
  readonly processes: ReadonlyArray<NodeProcess>
  readonly ask: (request: Request) => Promise<Operation> | undefined
  /** Starts a process where none runs, and waits until it serves. */
  readonly start: Effect.Effect<void>
}

export type Cluster = ReadonlyArray<Node>

const proxyTo = (url: Redacted.Redacted<string>) => {
  const { hostname, port } = new URL(Redacted.value(url))
  return TcpProxy.make({ host: hostname, port: Number(port) })
}

const makeNode = Effect.fnUntraced(function* (index: number, targets: Targets, recorder: Recorder) {
  const queries = yield* proxyTo(targets.queries)
  const listener = yield* proxyTo(targets.listener)
  const processes: Array<NodeProcess> = []
  const spawn = (): NodeProcess => {
    const name = `${index}.${processes.length}`
    const started = new NodeProcess(
      name,
      {
        DATABASE_URL: Redacted.value(queries.url(targets.queries)),
        LISTEN_URL: Redacted.value(listener.url(targets.listener)),
        PREPARE: targets.prepare ? "yes" : "no",
        NODE_NAME: `node ${name}`
      },
      recorder
    )
    processes.push(started)
    return started
  }
  let current = spawn()
  yield* Effect.addFinalizer(() => Effect.suspend(() => current.kill))
  return {
    index,
    queries,
    listener,
    process: () => current,
    processes,
    ask: (request) => current.ask(request),
    start: Effect.promise(async () => {
      if (!current.isMeantToServe) {
        await current.ended
        current = spawn()
      }
      await current.ready
    })
  } satisfies Node
})

/** Starts the nodes and waits until all serve; they are killed when the scope closes. */
export const make = Effect.fnUntraced(function* (count: number, targets: Targets, recorder: Recorder) {
  const indexes = Array.from({ length: count }, (_, index) => index)
  const cluster: Cluster = yield* Effect.forEach(indexes, (index) => makeNode(index, targets, recorder))
  yield* Effect.forEach(cluster, ({ start }) => start, { concurrency: "unbounded" })
  return cluster
})
