/**
 * The way from a node's listener to PostgreSQL, which can be broken: a proxy of the
 * node's own. What is broken is the listener only; queries go another way.
 */
import { TcpProxy } from "@effect-pg-session/pg/testing"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

/** How the network is. */
export type Network = "up" | "cut" | "silent"

/** What can be done to it. */
export interface Switch {
  readonly url: Redacted.Redacted<string>
  readonly network: () => Network
  /** Breaks the connection and refuses new ones: the node notices at once. */
  readonly cut: Effect.Effect<void>
  /** Nothing arrives any more, without an error: only the missing beats tell. */
  readonly silence: Effect.Effect<void>
  readonly restore: Effect.Effect<void>
}

export class ListenerSwitch extends Context.Service<ListenerSwitch, Switch>()("examples/web/ListenerSwitch") {
  static readonly layer: Layer.Layer<ListenerSwitch, unknown> = Layer.effect(
    ListenerSwitch,
    Effect.gen(function* () {
      const database = yield* Config.Redacted("DATABASE_URL")
      const { hostname, port } = new URL(Redacted.value(database))
      const proxy = yield* TcpProxy.make({ host: hostname, port: Number(port || "5432") })
      let network: Network = "up"
      const becomes = (next: Network) => Effect.sync(() => void (network = next))
      return {
        url: proxy.url(database),
        network: () => network,
        cut: Effect.andThen(Effect.andThen(proxy.refuse, proxy.reset), becomes("cut")),
        silence: Effect.andThen(proxy.pause, becomes("silent")),
        restore: Effect.andThen(Effect.andThen(Effect.orDie(proxy.accept), proxy.resume), becomes("up"))
      }
    })
  )
}
