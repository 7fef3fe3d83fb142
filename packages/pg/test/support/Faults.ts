/** What tests of connections share: waiting for an event, and a server in recovery. */
import { PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import { chownSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { EmbeddedPostgres } from "../../src/testing/index.ts"
import { waitUntil } from "../../src/testing/internal/RealTime.ts"

/** Waits until it is so, ten seconds at most. */
export const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(waitUntil(condition, "10 seconds"), (happened) =>
    happened ? Effect.void : Effect.die(new Error("did not happen within 10 seconds"))
  )

/** The URL of a hot standby: a server that stays in recovery because it waits for a primary that never comes. */
export const standby = Effect.gen(function* () {
  const postgres = yield* EmbeddedPostgres.make()
  yield* postgres.stop
  const file = join(postgres.dataDirectory, "standby.signal")
  writeFileSync(file, "")
  if (process.getuid?.() === 0) chownSync(file, 65_534, 65_534)
  // It waits for a primary to be ready, which this one never is.
  yield* Effect.forkScoped(postgres.start)
  yield* eventually(
    Effect.map(
      Effect.result(Effect.scoped(PgConnection.make({ url: postgres.url }))),
      (result) => result._tag === "Success"
    )
  )
  return postgres.url
})
