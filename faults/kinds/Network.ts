/** Faults of the network between a node and PostgreSQL, most of all the silent ones. */
import type { TcpProxy } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Node } from "../Cluster.ts"
import type { Fault } from "../Fault.ts"

type Proxy = TcpProxy.TcpProxy

/** Silence for a time, of which nobody is told. */
const silent = (
  kind: string,
  proxiesOf: (node: Node) => ReadonlyArray<Proxy>,
  begin: (proxy: Proxy) => Effect.Effect<void>
): Fault => ({
  kind,
  lane: "node",
  inject: ({ cluster }, random) => {
    const proxies = proxiesOf(random.pick(cluster))
    return Effect.forEach(proxies, begin, { discard: true }).pipe(
      Effect.andThen(Effect.sleep(random.integer(300, 3_500))),
      Effect.ensuring(Effect.forEach(proxies, ({ resume }) => resume, { discard: true }))
    )
  }
})

const both = ({ listener, queries }: Node) => [listener, queries]

/** Connections of statements break. */
const broken = (
  kind: string,
  breakIn: (proxy: Proxy, millis: number, bytes: number) => Effect.Effect<void>
): Fault => ({
  kind,
  lane: "node",
  inject: ({ cluster }, random) => {
    const { queries } = random.pick(cluster)
    const millis = random.integer(5, 200)
    const bytes = random.integer(1, 20_000)
    return Effect.andThen(breakIn(queries, millis, bytes), Effect.sleep(random.integer(0, 300)))
  }
})

export const faults: ReadonlyArray<Fault> = [
  silent(
    "listenerSilent",
    ({ listener }) => [listener],
    ({ pause }) => pause
  ),
  // What the node hears is missing.
  silent(
    "listenerDeaf",
    ({ listener }) => [listener],
    ({ pauseAnswers }) => pauseAnswers
  ),
  // What the node says is missing: it has to connect again, and cannot.
  silent(
    "listenerMute",
    ({ listener }) => [listener],
    ({ pauseRequests, reset }) => Effect.andThen(pauseRequests, reset)
  ),
  silent("nodeSilent", both, ({ pause }) => pause),
  silent(
    "statementsUnanswered",
    ({ queries }) => [queries],
    ({ pauseAnswers }) => pauseAnswers
  ),
  {
    // Answers are slow, notices are not: what is read is often overtaken by what changes it.
    kind: "answersSlow",
    lane: "node",
    inject: ({ cluster }, random) => {
      const { pauseAnswers, resume } = random.pick(cluster).queries
      const delays = Array.from({ length: random.integer(6, 12) }, () => random.integer(100, 700))
      return Effect.forEach(
        delays,
        (millis) =>
          Effect.andThen(
            Effect.ensuring(Effect.andThen(pauseAnswers, Effect.sleep(millis)), resume),
            Effect.sleep("20 millis")
          ),
        { discard: true }
      )
    }
  },
  broken("socketsReset", ({ reset }) => reset),
  // Statements that were under way have taken effect, and their answers are lost.
  broken("answersLost", ({ pauseAnswers, reset, resume }, millis) =>
    Effect.ensuring(Effect.andThen(pauseAnswers, Effect.sleep(millis)), Effect.andThen(reset, resume))
  ),
  broken("answersCut", ({ resetAfter }, _, bytes) => resetAfter(bytes)),
  {
    kind: "nodeRefused",
    lane: "node",
    inject: ({ cluster }, random) => {
      const proxies = both(random.pick(cluster))
      const accept = ({ accept }: Proxy) => Effect.retry(accept, Schedule.spaced("20 millis")).pipe(Effect.orDie)
      return Effect.forEach(proxies, ({ refuse, reset }) => Effect.andThen(refuse, reset), { discard: true }).pipe(
        Effect.andThen(Effect.sleep(random.integer(200, 2_500))),
        Effect.ensuring(Effect.forEach(proxies, accept, { discard: true }))
      )
    }
  }
]
