/**
 * `npm run demo:terminal`: two processes that share sessions through one PostgreSQL, and what
 * happens to them, told on the terminal with measured times. Ends by itself; the
 * exit status is 0 only if everything that the story claims was true.
 *
 * Runs on an embedded PostgreSQL, or on the server of `DATABASE_URL`, in a schema of
 * its own that is dropped at the end.
 */
import { EmbeddedPostgres, TcpProxy } from "@effect-pg-session/pg/testing"
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import * as Narrator from "./Narrator.ts"
import { monotonicMillis } from "./NodeRpcs.ts"
import * as Nodes from "./Nodes.ts"
import { tellStory } from "./story.ts"

const maxStaleness = Duration.seconds(1)

class NoDatabase extends Data.TaggedError("NoDatabase")<{ readonly message: string }> {}

const database = Effect.gen(function* () {
  const given = yield* Config.option(Config.Redacted("DATABASE_URL"))
  if (Option.isSome(given)) return { url: given.value, origin: "the server of DATABASE_URL" }
  const start = monotonicMillis()
  const { url } = yield* EmbeddedPostgres.make()
  return { url, origin: `embedded, started in ${((monotonicMillis() - start) / 1_000).toFixed(1)} s` }
})

/** Where a URL leads to by TCP. */
const address = (url: Redacted.Redacted<string>) =>
  Effect.try({
    try: () => {
      const { hostname, port } = new URL(Redacted.value(url))
      return { host: hostname.replace(/^\[|\]$/g, "") || "localhost", port: Number(port || 5_432) }
    },
    catch: () =>
      new NoDatabase({ message: "DATABASE_URL is not of the form postgres://user:password@host:port/database" })
  })

const explain = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

const program = Effect.gen(function* () {
  yield* Narrator.headline("effect-pg-session: two nodes, one PostgreSQL")
  const { origin, url } = yield* database
  const target = yield* address(url)
  const context = yield* Layer.build(
    PgClient.layer({ url, applicationName: "effect-pg-session demo", maxConnections: 1 })
  )
  const sql = Context.get(context, PgClient.PgClient)
  const [server] = yield* sql<{ readonly version: string }>`select split_part(version(), ' on ', 1) as version`.pipe(
    Effect.mapError(({ reason }) => new NoDatabase({ message: `No connection to ${origin}: ${explain(reason.cause)}` }))
  )
  yield* Narrator.tell("database", `${server?.version}, ${origin}`)

  const name = `effect_pg_session_demo_${randomBytes(4).toString("hex")}`
  yield* Effect.addFinalizer(() => Effect.ignore(sql`drop schema if exists ${sql(name)} cascade`))
  const proxy = yield* TcpProxy.make(target)

  const settings = {
    DATABASE_URL: Redacted.value(url),
    SESSION_SCHEMA_NAME: name,
    SESSION_MAX_STALENESS: `${Duration.toMillis(maxStaleness)} millis`,
    SESSION_STATEMENT_TIMEOUT: "2 seconds"
  }
  const [node1, node2] = yield* Effect.all(
    [
      Nodes.start("node 1", { ...settings, APPLICATION_NAME: `${name} 1` }),
      Nodes.start("node 2", {
        ...settings,
        APPLICATION_NAME: `${name} 2`,
        SESSION_LISTEN_URL: Redacted.value(proxy.url(url))
      })
    ],
    { concurrency: "unbounded" }
  )
  for (const node of [node1, node2]) {
    yield* Narrator.tell(node.name, `process ${node.processId}, ready after ${(node.startMillis / 1_000).toFixed(1)} s`)
  }

  const terminateListener = Effect.map(
    sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${`${name} 2 listener`}`,
    (rows) => rows.length
  )
  const story = tellStory({ node1, node2, proxy, terminateListener, maxStaleness })
  yield* Effect.raceAllFirst([story, node1.ended, node2.ended])
})

const main = Effect.gen(function* () {
  const start = monotonicMillis()
  yield* Effect.scoped(program)
  const failures = yield* Narrator.failed
  const seconds = ((monotonicMillis() - start) / 1_000).toFixed(0)
  if (failures.length > 0) {
    yield* Console.log(`\nThese did NOT hold:\n${failures.map((claim) => `   ${claim}`).join("\n")}\n`)
    process.exitCode = 1
  } else {
    yield* Console.log(`\nEverything held. ${seconds} s in all; both processes are gone, and nothing is left behind.\n`)
  }
}).pipe(
  Effect.onInterrupt(() => Console.log("\nInterrupted: both processes are gone, and nothing is left behind.")),
  Effect.catchCauseIf(
    (cause) => !Cause.hasInterruptsOnly(cause),
    (cause) =>
      Effect.andThen(
        Console.error(
          `\nThe demo could not go on: ${Cause.prettyErrors(cause)
            .map((error) => error.message)
            .join("; ")}\n`
        ),
        Effect.sync(() => {
          process.exitCode = 1
        })
      )
  )
)

// The terminal was closed, or nobody reads on: as orderly an end as for Ctrl-C, which runMain takes care of.
process.once("SIGHUP", () => process.kill(process.pid, "SIGTERM"))
process.stdout.once("error", () => process.kill(process.pid, "SIGTERM")).on("error", () => {})

NodeRuntime.runMain(main)
