/** One run: builds the cluster, lets clients and faults at it, heals everything, and hands over the history. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Cluster from "./Cluster.ts"
import { Database } from "./Database.ts"
import type { Surroundings } from "./Fault.ts"
import { faults } from "./Faults.ts"
import type { History } from "./History.ts"
import type { Options } from "./Options.ts"
import { Population } from "./Population.ts"
import { Recorder } from "./Recorder.ts"
import * as Schedule from "./Schedule.ts"
import { elevatedFor, settings } from "./Settings.ts"
import * as Workload from "./Workload.ts"

const clientsPerNode = 8

export interface Result {
  readonly history: History
  readonly faults: Readonly<Record<string, number>>
}

export const run = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Result, unknown, Database | Scope.Scope> {
  const { seconds, seed } = options
  const database = yield* Database
  const recorder = new Recorder()
  const population = new Population()
  recorder.onRecord((operation) => population.observe(operation))
  const { url } = database.postgres
  const cluster = yield* Cluster.make(options.nodes, { queries: url, listener: url, prepare: true }, recorder)
  const counts: Record<string, number> = {}
  const surroundings: Surroundings = { cluster, database, url, say: Console.log }

  yield* prepare(database, cluster)
  const clients = yield* Effect.forEach(Array.from({ length: options.nodes * clientsPerNode }), (_, index) =>
    Effect.forkChild(Workload.client(seed, index, cluster, population))
  )
  yield* Effect.timeoutOption(
    Schedule.run(seed, faults, surroundings, (kind) => {
      counts[kind] = (counts[kind] ?? 0) + 1
    }),
    seconds * 1_000
  )
  yield* Effect.forEach(clients, Fiber.interrupt, { concurrency: "unbounded" })
  yield* Effect.sleep(4_000)

  const rows = yield* Effect.option(database.rows)
  return {
    history: {
      operations: recorder.operations,
      rows: Option.getOrUndefined(rows),
      settings: { ...settings, elevatedFor },
      overLimit: []
    },
    faults: counts
  }
})

/** What must be there before anything goes wrong. */
const prepare = Effect.fnUntraced(function* ({ sql }: Database["Service"], cluster: Cluster.Cluster) {
  for (let index = 0; index < 3; index++) {
    yield* sql`insert into faults_counters (name) values (${`row-${index}`})`
  }
  for (let index = 0; index < Workload.vaults; index++) {
    yield* Effect.promise(
      () => cluster[0]?.ask(Workload.create({ user: `vault-${index}` })) ?? Promise.resolve(undefined)
    )
  }
})
