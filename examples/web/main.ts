/**
 * `npm start`: a small shop on two nodes that share sessions through one PostgreSQL.
 * Runs until Ctrl-C, on an embedded PostgreSQL or on the server of `DATABASE_URL`.
 */
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { NodeRuntime } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Cluster from "./Cluster.ts"

const database = Effect.gen(function* () {
  const given = yield* Config.option(Config.Redacted("DATABASE_URL"))
  if (Option.isSome(given)) return given.value
  yield* Console.log("Starting PostgreSQL and two nodes ...")
  return (yield* EmbeddedPostgres.make()).url
})

const program = Effect.gen(function* () {
  const { ended, urls } = yield* Cluster.start({
    databaseUrl: yield* database,
    schemaName: yield* Config.String("SESSION_SCHEMA_NAME").pipe(Config.withDefault("effect_pg_session_web")),
    elevatedFor: "30 seconds",
    port: yield* Config.Port("PORT").pipe(Config.withDefault(3_001))
  })
  yield* Console.log(`
  Node 1   ${urls[0]}
  Node 2   ${urls[1]}

Open both. They share one cookie; a private window is a second device.
  - Log in on one node, look at the other: the same session, from its own memory, in microseconds.
  - Put things into the cart on both at once, "Ten at once" on each: nothing is lost.
  - Step up, and watch the elevated access run out after 30 seconds, on both.
  - Log in as the same user in a private window, and end one device from the other: its window leaves at that moment.
  - Cut a node's listener, or make it silent: it notices, reads from the database, and recovers when you repair it.
  - ${urls[0]}/metrics shows the figures for Prometheus.

Ctrl-C ends everything.`)
  yield* ended
  yield* Console.error("A node has ended by itself; what it said is above.")
  process.exitCode = 1
})

NodeRuntime.runMain(Effect.scoped(program))
