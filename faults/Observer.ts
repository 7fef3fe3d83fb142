/** Looks into the table and at the nodes while the clients and the faults are at work. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Cluster } from "./Cluster.ts"
import type { Database } from "./Database.ts"
import type { Bounded, History } from "./History.ts"
import { settings } from "./Settings.ts"

const lookEvery = "50 millis"
const healthEvery = "2 seconds"

/** More than any node may hold of each, whatever is done to it. */
const bounds: Readonly<Record<string, number>> = {
  cached: settings.cacheCapacity,
  absent: 10_000,
  pendingActivity: 2 * settings.cacheCapacity,
  pendingUpdates: 20_000,
  waiting: 1_000,
  watched: 0,
  heapMegabytes: 512
}

const Crowded = Schema.Array(Schema.Struct({ user: Schema.String, sessions: Schema.Finite }))

export class Observer {
  readonly overLimit: Array<History["overLimit"][number]> = []
  readonly health: Array<Bounded> = []
  /** How often the table was looked into. */
  looks = 0

  /** Never ends. What cannot be asked at the moment is asked again. */
  readonly watch = (database: Database["Service"], cluster: Cluster): Effect.Effect<never> => {
    const { sql } = database
    const look = sql`
      select user_id as user, count(*)::int4 as sessions from sessions
      where user_id is not null and expires_at > clock_timestamp()
        and (idle_timeout is null or last_accessed_at + idle_timeout > clock_timestamp())
      group by user_id having count(*) > ${settings.maxSessionsPerUser}`.pipe(
      Effect.flatMap(Schema.decodeUnknownEffect(Crowded)),
      Effect.map((crowded) => {
        this.looks++
        this.overLimit.push(...crowded)
      }),
      Effect.timeoutOption("5 seconds"),
      Effect.ignore
    )
    const ask = Effect.forEach(
      cluster,
      ({ process }) =>
        Effect.suspend(() => {
          const asked = process()
          return Effect.map(
            Effect.promise(() => asked.measure({ _tag: "Health" })),
            (figures) => this.note(asked.name, figures ?? {})
          )
        }),
      { concurrency: "unbounded", discard: true }
    )
    return Effect.raceFirst(
      Effect.forever(Effect.andThen(look, Effect.sleep(lookEvery))),
      Effect.forever(Effect.andThen(ask, Effect.sleep(healthEvery)))
    )
  }

  private note(node: string, figures: Readonly<Record<string, number>>): void {
    for (const [what, bound] of Object.entries(bounds)) {
      const value = figures[what]
      if (value !== undefined) this.health.push({ node, what, value, bound })
    }
  }
}
