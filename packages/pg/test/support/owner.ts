/** Starts an embedded PostgreSQL, prints its process id and data directory, and waits to be killed. */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { EmbeddedPostgres } from "../../src/testing/EmbeddedPostgres.ts"

const program = Effect.gen(function* () {
  const postgres = yield* EmbeddedPostgres
  yield* Console.log(JSON.stringify({ pid: yield* postgres.pid, dataDirectory: postgres.dataDirectory }))
  if (process.argv[2] === "paused") yield* postgres.pause
  yield* Console.log("ready")
  return yield* Effect.never
})

NodeRuntime.runMain(Effect.provide(program, EmbeddedPostgres.layer()))
