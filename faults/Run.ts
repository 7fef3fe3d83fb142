/** One run: builds the cluster, lets clients and faults at it, heals everything, and hands over the history. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Aftermath from "./Aftermath.ts"
import * as Cluster from "./Cluster.ts"
import { Database } from "./Database.ts"
import { faults } from "./Faults.ts"
import type { History } from "./History.ts"
import { Observer } from "./Observer.ts"
import type { Options } from "./Options.ts"
import * as Pooler from "./Pooler.ts"
import { Population } from "./Population.ts"
import * as Random from "./Random.ts"
import { Recorder } from "./Recorder.ts"
import * as Schedule from "./Schedule.ts"
import { SecretSearch } from "./SecretSearch.ts"
import { elevatedFor, settings } from "./Settings.ts"
import { now } from "./Timing.ts"
import * as Workload from "./Workload.ts"

const clientsPerNode = 20
/** In so many seconds there is room for every kind of fault, unless the machine is busy with other things. */
const secondsForAll = 60

export interface Result {
  readonly history: History
  /** How often each kind of fault was injected. */
  readonly faults: Readonly<Record<string, number>>
}

export const run = Effect.fnUntraced(function* (
  options: Options,
  unlimited: string | undefined
): Effect.fn.Return<Result, unknown, Database | Scope.Scope> {
  const { seed } = options
  const database = yield* Database
  const { url } = database.postgres
  const recorder = new Recorder()
  const population = new Population()
  recorder.onRecord((operation) => population.observe(operation))
  const pooler = options.pgbouncer ? yield* Pooler.make(url) : undefined
  const kinds = faults({ pooler, unlimited })
  for (const { kind, skipped } of kinds) {
    if (skipped !== undefined) yield* Console.log(`Without ${kind}: ${skipped}`)
  }
  const targets = { queries: pooler?.url ?? url, listener: url, prepare: pooler === undefined }
  const cluster = yield* Cluster.make(options.nodes, targets, recorder)
  yield* prepare(database, cluster)

  const observer = new Observer()
  const counts: Record<string, number> = {}
  const observing = yield* Effect.forkChild(observer.watch(database, cluster))
  const clients = yield* Effect.forEach(Array.from({ length: options.nodes * clientsPerNode }), (_, index) =>
    Effect.forkChild(Workload.client(seed, index, cluster, population))
  )
  const begun = now()
  const say = (what: string) => Console.log(`${((now() - begun) / 1_000).toFixed(1).padStart(6)} s  ${what}`)
  const attack = Schedule.run(seed, kinds, { cluster, database, url }, (kind) => {
    counts[kind] = (counts[kind] ?? 0) + 1
    return options.verbose ? say(kind) : Effect.void
  })
  const isComplete = Effect.sync(() => kinds.every(({ kind, skipped }) => skipped !== undefined || kind in counts))
  yield* Effect.raceFirst(attack, enough(options.seconds, isComplete))
  yield* Effect.forEach([...clients, observing], Fiber.interrupt, { concurrency: "unbounded", discard: true })

  const [first] = cluster
  yield* say("everything is healed")
  const unrecovered = yield* Aftermath.recover(cluster)
  yield* say(`${cluster.length - unrecovered.length} nodes serve from memory again`)
  yield* Aftermath.readAll(cluster, population)
  yield* say("all sessions were read again")
  const rows = yield* database.rows
  const counters = yield* database.counters
  const random = Random.make(seed, "aftermath")
  const tokens = yield* Aftermath.fill(database, random)
  const statements = first === undefined ? [] : yield* Aftermath.countStatements(database, first, random, tokens)
  const farewell = yield* Aftermath.sayFarewell(database, cluster, tokens)
  yield* say(`the nodes have ended; the table was looked into ${observer.looks} times`)
  const history = {
    settings: { ...settings, elevatedFor },
    operations: recorder.operations,
    rows,
    counters,
    overLimit: observer.overLimit,
    ends: recorder.ends,
    unrecovered,
    health: observer.health,
    statements,
    farewell
  }
  const leaks = yield* searchSecrets(history, database, cluster, tokens)
  yield* say("what is secret was looked for")
  return { history: { ...history, leaks }, faults: counts }
})

/** Until the time is over; of a run that is meant to hold every kind of fault, until the last one of them has had its time, too. */
const enough = (seconds: number, isComplete: Effect.Effect<boolean>): Effect.Effect<void> => {
  const completed = Effect.delay(isComplete, "100 millis").pipe(
    Effect.repeat({ until: (complete) => complete }),
    Effect.andThen(Effect.sleep("3 seconds"))
  )
  const rest = Effect.timeoutOption(completed, (seconds * 1_000) / 2)
  const isWhole = seconds >= secondsForAll
  return Effect.sleep(seconds * 1_000).pipe(
    Effect.andThen(isComplete),
    Effect.flatMap((complete) => (complete || !isWhole ? Effect.void : Effect.asVoid(rest)))
  )
}

/** What must be there before anything goes wrong. */
const prepare = Effect.fnUntraced(function* ({ sql }: Database["Service"], cluster: Cluster.Cluster) {
  for (let index = 0; index < Workload.counters; index++) {
    yield* sql`insert into faults_counters (name) values (${Workload.counterName(index)})`
  }
  for (const [purpose, count] of Object.entries(Workload.lasting)) {
    for (let index = 0; index < count; index++) {
      yield* Effect.promise(
        () => cluster[0]?.ask(Workload.create({ user: `${purpose}-${index}` })) ?? Promise.resolve(undefined)
      )
    }
  }
})

/** Everything that outlives a request, once the server has written all that it had to write. */
const searchSecrets = Effect.fnUntraced(function* (
  { operations }: Pick<History, "operations">,
  database: Database["Service"],
  cluster: Cluster.Cluster,
  fillers: ReadonlyArray<string>
) {
  const search = new SecretSearch()
  const known = operations.flatMap(({ outcome }) => (outcome._tag === "Session" ? (outcome.token ?? []) : []))
  for (const token of [...known, ...fillers]) search.add(token.slice(22), `the secret of session ${token.slice(0, 22)}`)
  for (const [table, text] of yield* database.dump) search.text(`table ${table}`, text)
  yield* database.postgres.stop
  yield* Effect.sync(() => search.directory(database.postgres.dataDirectory))
  for (const { log, name } of cluster.flatMap(({ processes }) => processes)) {
    search.text(`the log of node ${name}`, log)
    const value = Workload.privateText.exec(log)?.[0]
    if (value !== undefined) search.report(`the log of node ${name}`, `the value of an attribute, ${value}`)
  }
  const searched = `${known.length + fillers.length} secrets were looked for in ${Math.round(search.searched / 2 ** 20)} MB`
  yield* Console.log(`          ${searched}`)
  return search.leaks
})
