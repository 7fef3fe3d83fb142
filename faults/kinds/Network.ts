/** Faults of the network between a node and PostgreSQL, most of all the silent ones. */
import type { TcpProxy } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import type { Node } from "../Cluster.ts"
import type { Fault } from "../Fault.ts"

/** Holds a state of the network for a time. */
const whileSilent = (
  proxies: ReadonlyArray<TcpProxy.TcpProxy>,
  begin: (proxy: TcpProxy.TcpProxy) => Effect.Effect<void>,
  millis: number
): Effect.Effect<void> =>
  Effect.forEach(proxies, begin, { discard: true }).pipe(
    Effect.andThen(Effect.sleep(millis)),
    Effect.ensuring(Effect.forEach(proxies, ({ resume }) => resume, { discard: true }))
  )

const silent = (
  kind: string,
  proxiesOf: (node: Node) => ReadonlyArray<TcpProxy.TcpProxy>,
  begin: (proxy: TcpProxy.TcpProxy) => Effect.Effect<void>
): Fault => ({
  kind,
  lane: "node",
  inject: ({ cluster }, random) => whileSilent(proxiesOf(random.pick(cluster)), begin, random.integer(300, 3_500))
})

export const faults: ReadonlyArray<Fault> = [
  silent(
    "listenerSilent",
    ({ listener }) => [listener],
    ({ pause }) => pause
  ),
  silent(
    "listenerDeaf",
    ({ listener }) => [listener],
    ({ pauseAnswers }) => pauseAnswers
  ),
  silent(
    "nodeSilent",
    ({ listener, queries }) => [listener, queries],
    ({ pause }) => pause
  )
]
