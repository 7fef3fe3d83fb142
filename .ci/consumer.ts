/** Run in a new project that has the packed packages: they load, and the embedded server of one of them works. */
import * as Core from "@effect-pg-session/core"
import * as Http from "@effect-pg-session/http"
import * as Pg from "@effect-pg-session/pg"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"

/** The result is the exit status of `quickstart.ts`. */
const runQuickstart = (url: string) =>
  Effect.callback<number>((resume) => {
    const child = spawn(process.execPath, ["quickstart.ts"], {
      stdio: "inherit",
      env: { ...process.env, DATABASE_URL: url }
    })
    child.once("exit", (code) => resume(Effect.succeed(code ?? 1)))
  })

const program = Effect.gen(function* () {
  const postgres = yield* EmbeddedPostgres
  const query = Effect.flatMap(PgClient.PgClient, (sql) => sql`select version()`)
  const [row] = yield* Effect.provide(query, PgClient.layer({ url: postgres.url }))
  const counts = Object.entries({ Core, Pg, Http }).map(
    ([name, exported]) => `${name}: ${Object.keys(exported).length} exports`
  )
  yield* Console.log(counts.join(", "), row)
  if (existsSync("quickstart.ts")) process.exitCode = yield* runQuickstart(Redacted.value(postgres.url))
})

NodeRuntime.runMain(Effect.provide(program, EmbeddedPostgres.layer()))
