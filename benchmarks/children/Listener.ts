/** A node that has the sessions of the benchmark in memory and hears of every change. */
import { SessionId } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { answering, environment } from "../Child.ts"
import * as Node from "../Node.ts"

const Ids = Schema.Array(Schema.String)

const program = Effect.gen(function* () {
  const sessions = yield* Node.node({ url: Redacted.make(environment("BENCH_URL")), maxConnections: 2 })
  yield* answering({
    /** Takes sessions into memory; answers how many it has. */
    read: (argument: unknown) =>
      Effect.gen(function* () {
        for (const text of yield* Schema.decodeUnknownEffect(Ids)(argument)) {
          yield* sessions.get(yield* Effect.fromOption(SessionId.fromString(text)), { touch: false })
        }
        return (yield* sessions.health).cache.size
      }),
    /** Answers how many sessions were dropped so far, and how much of a processor this process has used, in milliseconds. */
    heard: () =>
      Effect.map(sessions.health, ({ cache }) => {
        const { system, user } = process.cpuUsage()
        return [cache.invalidations, (user + system) / 1_000]
      })
  })
}).pipe(Effect.scoped)

NodeRuntime.runMain(program)
