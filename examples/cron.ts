/** Three nodes have the same schedule; one of them runs the job. What is done is written down under the lock, for whoever comes late. */
import { type Lease, SessionLocks } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { PgClient } from "@effect/sql-pg"
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer } from "effect"
import { strictEqual } from "node:assert/strict"

const client = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

/** A node of its own: settings, connections, cache. */
const nodeLive = (nodeName: string) =>
  PgSession.layerConfig({
    url: Config.Redacted("DATABASE_URL"),
    schemaName: Config.String("SESSION_SCHEMA_NAME").pipe(Config.withDefault("public")),
    nodeName: Config.succeed(nodeName)
  })

const report = Effect.fn("report")(function* (node: string, { token }: Lease) {
  const sql = yield* PgClient.PgClient
  const done = yield* sql`select from example_reports where day = current_date`
  if (done.length > 0) return yield* Console.log(`${node}: today's report is done already`)
  yield* Effect.sleep("300 millis") // the work
  // The token says in which order holders wrote; a late one's row does not replace a newer one's.
  yield* sql`insert into example_reports values (current_date, ${node}, ${String(token)}::bigint)
    on conflict (day) do update set node = excluded.node, token = excluded.token where example_reports.token < excluded.token`
  yield* Console.log(`${node}: wrote today's report`)
})

const atMidnight = (node: string, late: number) =>
  Effect.gen(function* () {
    const locks = yield* SessionLocks
    yield* Effect.sleep(late) // no two clocks are alike
    yield* locks
      .withLock("nightly-report", (lease) => report(node, lease), { wait: "none", leaseTime: "30 seconds" })
      .pipe(Effect.catchTag("LockAlreadyHeld", (error) => Console.log(`${node}: leaves it to ${error.node}`)))
  }).pipe(Effect.provide(nodeLive(node)))

const program = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* Effect.acquireRelease(
    sql`create table example_reports (day date primary key, node text not null, token bigint not null)`,
    () => Effect.orDie(sql`drop table example_reports`)
  )
  yield* Effect.all([atMidnight("node-1", 0), atMidnight("node-2", 100), atMidnight("node-3", 600)], {
    concurrency: "unbounded"
  })
  const rows = yield* sql`select node from example_reports`
  strictEqual(rows.length, 1)
}).pipe(Effect.scoped)

program.pipe(Effect.provide(Layer.fresh(client)), NodeRuntime.runMain)
