/**
 * Runs one example: `npm run example -- quickstart` runs `quickstart.ts`, on the
 * database of `DATABASE_URL` or else on an embedded PostgreSQL that is gone
 * afterwards. Exits with the example's own status.
 */
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { NodeRuntime } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".ts") && !["run.ts", "serve.ts"].includes(file))
  .map((file) => file.slice(0, -".ts".length))

const databaseUrl = Effect.gen(function* () {
  const given = yield* Config.option(Config.Redacted("DATABASE_URL"))
  if (Option.isSome(given)) return given.value
  return (yield* EmbeddedPostgres.make()).url
})

/** Runs the file to its end; the result is its exit status. */
const runFile = (file: string, args: ReadonlyArray<string>, url: Redacted.Redacted<string>) =>
  Effect.callback<number, Error>((resume) => {
    const child = spawn(process.execPath, ["--conditions=@effect-pg-session/source", file, ...args], {
      stdio: "inherit",
      // A schema of their own: on a database that has sessions already, the examples leave those alone.
      env: {
        SESSION_SCHEMA_NAME: "effect_pg_session_examples",
        ...process.env,
        DATABASE_URL: Redacted.value(url)
      }
    })
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("exit", (code) => resume(Effect.succeed(code ?? 1)))
    return Effect.callback<void>((done) => {
      child.once("exit", () => done(Effect.void))
      if (child.exitCode !== null || child.signalCode !== null) done(Effect.void)
      else child.kill("SIGTERM")
    })
  })

const main = Effect.gen(function* () {
  const [name, ...args] = process.argv.slice(2)
  const file = join(import.meta.dirname, `${name}.ts`)
  if (name === undefined || !names.includes(name) || !existsSync(file)) {
    yield* Console.error(
      `Usage: npm run example -- NAME\nNAME is one of: ${names.join(", ") || "(there are none yet)"}`
    )
    return 2
  }
  return yield* runFile(file, args, yield* databaseUrl)
})

NodeRuntime.runMain(
  Effect.scoped(main).pipe(
    Effect.map((status) => {
      process.exitCode = status
    })
  )
)
