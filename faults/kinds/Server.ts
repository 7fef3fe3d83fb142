/** Faults of the server: backends end, it hangs, it dies and recovers. */
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"

/** Ends backends by the names that nodes give their connections. */
const terminated = (kind: string, pattern: string): Fault => ({
  kind,
  lane: "server",
  inject: ({ database: { sql } }) =>
    Effect.ignore(sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ ${pattern}`)
})

export const faults: ReadonlyArray<Fault> = [
  terminated("backendsTerminated", "^node "),
  terminated("listenersTerminated", "^node .* listener$"),
  {
    kind: "serverStopped",
    lane: "server",
    inject: ({ database: { postgres } }, random) =>
      postgres.pause.pipe(
        Effect.andThen(Effect.sleep(random.integer(300, 3_000))),
        Effect.ensuring(Effect.ignore(postgres.resume)),
        Effect.orDie
      )
  },
  {
    kind: "serverKilled",
    lane: "server",
    inject: ({ database: { postgres } }, random) =>
      postgres.kill.pipe(
        Effect.andThen(Effect.sleep(random.integer(0, 1_500))),
        Effect.ensuring(Effect.orDie(postgres.start))
      )
  }
]
