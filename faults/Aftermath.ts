/**
 * When the faults are over: everything is healed, the nodes must recover by
 * themselves, every session is read once more, a reconnect with a full cache is
 * counted in statements, and the nodes end in an orderly way.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { keyOf } from "./checks/Facts.ts"
import type { Cluster, Node } from "./Cluster.ts"
import type { Database } from "./Database.ts"
import * as Fillers from "./Fillers.ts"
import type { Bounded, Farewell } from "./History.ts"
import type { Known, Population } from "./Population.ts"
import type { Random } from "./Random.ts"
import { settings } from "./Settings.ts"
import { now } from "./Timing.ts"

/** How long a node may take to serve from memory again, in milliseconds: the longest pause between attempts to connect, and some. */
const recovery = 15_000
/** How long operations that are under way may take to be answered. */
const settling = "8 seconds"
/** So many sessions fill a cache. */
const fillers = 3_000
/** So many of them each node uses before it ends. */
const share = 300
/** So many ask for the same session at once. */
const askers = 500

/** How often a node's listener is ended until the node is asked at the right moment. */
const attempts = 5

/** The library's statements, by their texts. */
const load = { is: "^(with clock.*secret_hash.*key = any|select .*secret_hash.*where key = .1::text)", isNot: "^$" }
const revalidation = { is: "^with clock.*key = any", isNot: "secret_hash" }
const touch = { is: "set last_accessed_at = v", isNot: "^$" }

const Calls = Schema.Array(Schema.Struct({ calls: Schema.Finite }))
const Locks = Schema.Array(Schema.Struct({ name: Schema.String }))

const measure = (node: Node, what: Parameters<ReturnType<Node["process"]>["measure"]>[0]) =>
  Effect.promise(() => node.process().measure(what, 10_000))

const isSynced = (node: Node) => Effect.map(measure(node, { _tag: "Health" }), (figures) => figures?.["synced"] === 1)

/** Waits until the node serves from memory; `false` where it does not in time. */
const synced = (node: Node): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const deadline = now() + recovery
    const again: Effect.Effect<boolean> = Effect.flatMap(isSynced(node), (is) => {
      if (is || now() > deadline) return Effect.succeed(is)
      return Effect.andThen(Effect.sleep("20 millis"), again)
    })
    return again
  })

/** Starts what does not run, waits until what is under way is answered and all serve from memory. Answers those that do not. */
export const recover = Effect.fnUntraced(function* (cluster: Cluster) {
  const settled = Effect.sync(() => cluster.every(({ process }) => process().pendingOperations === 0))
  const allSettled = Effect.repeat(Effect.delay(settled, 20), { until: (all) => all })
  const recoverOne = (node: Node) =>
    Effect.flatMap(
      Effect.timeoutOption(node.start, recovery),
      Option.match({ onNone: () => Effect.succeed(false), onSome: () => synced(node) })
    )
  const [recovered] = yield* Effect.all(
    [Effect.forEach(cluster, recoverOne, { concurrency: "unbounded" }), Effect.timeoutOption(allSettled, settling)],
    { concurrency: "unbounded" }
  )
  const unrecovered = cluster.filter((_, index) => recovered[index] !== true).map(({ process }) => process())
  for (const { log, name } of unrecovered) yield* Console.log(`Node ${name} said:\n${log.slice(-2_000)}`)
  return unrecovered.map(({ name }) => name)
})

/** Asks the database for every known session once more, on every node: part of the history like every read. */
export const readAll = Effect.fnUntraced(function* (cluster: Cluster, population: Population) {
  const known = [...population.all(), ...population.allEnded()]
  const readOnAll = ({ token }: Known) => {
    const request = { _tag: "Read", token, touch: false, refresh: true, minVersion: undefined } as const
    return Effect.forEach(cluster, ({ ask }) => Effect.promise(() => ask(request) ?? Promise.resolve(undefined)), {
      concurrency: "unbounded",
      discard: true
    })
  }
  yield* Effect.forEach(known, readOnAll, { concurrency: 8, discard: true })
})

/** Statements of a kind since the last reset. */
const calls = ({ sql }: Database["Service"], { is, isNot }: typeof load) =>
  sql`
    select coalesce(sum(calls), 0)::int4 as calls from pg_stat_statements
    where query ~ ${is} and query !~ ${isNot}`.pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Calls)),
    Effect.map(([row]) => row?.calls ?? 0)
  )

/** Counts the statements of a node that loses its listener with a full cache, and is asked for all of it at that moment. */
export const countStatements = Effect.fnUntraced(function* (
  database: Database["Service"],
  node: Node,
  random: Random,
  tokens: ReadonlyArray<string>
) {
  const { sql } = database
  const { name } = node.process()
  const statements: Array<Bounded> = []
  const counted = Effect.fnUntraced(function* (what: string, kind: typeof load, bound: number) {
    const value = yield* calls(database, kind)
    yield* Console.log(`          ${value} statements for ${what}`)
    statements.push({ node: name, what, value, bound })
  })
  yield* measure(node, { _tag: "ReadAll", tokens, touch: false })
  for (let attempt = 1; attempt <= attempts; attempt++) {
    yield* sql`select pg_stat_statements_reset()`
    const asked = yield* Effect.forkChild(measure(node, { _tag: "ReadAll", tokens, touch: false, unsynced: true }), {
      startImmediately: true
    })
    yield* Effect.sleep("50 millis")
    yield* node.listener.reset
    yield* Fiber.join(asked)
    if ((yield* calls(database, load)) > 0) break
    // The node was busy, and looked too late: memory was served again.
    yield* synced(node)
  }
  yield* synced(node)
  // Twice: a clock that wandered meanwhile has everything compared again.
  yield* counted("comparing a full cache", revalidation, 2 * (Math.ceil(tokens.length / 1_000) + 1))
  yield* counted("reading a full cache while it is not served", load, Math.ceil(tokens.length / 500) + 8)

  const [missed = ""] = yield* Fillers.insert(database, random, 1)
  yield* sql`select pg_stat_statements_reset()`
  yield* measure(node, { _tag: "ReadAll", tokens: Array.from({ length: askers }, () => missed), touch: false })
  yield* counted(`one session that ${askers} ask for`, load, 1)

  yield* sql`select pg_stat_statements_reset()`
  yield* measure(node, { _tag: "ReadAll", tokens, touch: true })
  // However late a busy node is; and what comes right after the first one counts, too.
  yield* Effect.delay(calls(database, touch), "100 millis").pipe(
    Effect.repeat({ until: (count) => count > 0 }),
    Effect.timeoutOption(settings.lastAccessFlushInterval + recovery)
  )
  yield* Effect.sleep("500 millis")
  yield* counted(`recording the use of ${tokens.length} sessions`, touch, 3)
  return statements
})

/** Uses sessions and locks, and at once asks all nodes to end: what was used must be written, what was locked free. */
export const sayFarewell = Effect.fnUntraced(function* (
  { rows, sql }: Database["Service"],
  cluster: Cluster,
  tokens: ReadonlyArray<string>
) {
  const heldLocks = sql`select name from session_locks, unnest(ends) e where e > clock_timestamp()`.pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Locks)),
    Effect.map((locks) => locks.map(({ name }) => name))
  )
  const used = yield* Effect.forEach(
    cluster,
    Effect.fnUntraced(function* (node) {
      yield* measure(node, { _tag: "Keep", lock: `kept by ${node.index}` })
      const own = tokens.slice(node.index * share, (node.index + 1) * share)
      const at = now()
      yield* measure(node, { _tag: "ReadAll", tokens: own, touch: true })
      return own.map((token) => ({ key: keyOf(token), at }))
    }),
    { concurrency: "unbounded" }
  )
  const locksBefore = yield* heldLocks
  yield* Effect.forEach(cluster, ({ process }) => process().askToEnd, { concurrency: "unbounded" })
  const stored = yield* rows
  return {
    used: used.flat(),
    stored: new Map(stored.map(({ key, lastAccessedAt }) => [key, lastAccessedAt])),
    nodes: cluster.length,
    locksBefore,
    locksAfter: yield* heldLocks
  } satisfies Farewell
})

/** The sessions that {@link countStatements} and {@link sayFarewell} work with. */
export const fill = (database: Database["Service"], random: Random) => Fillers.insert(database, random, fillers)
