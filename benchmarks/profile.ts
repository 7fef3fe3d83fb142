/**
 * Where the time of a path goes, by the functions that a processor was in: the cached read, the miss, the update.
 *
 *     node --conditions=@effect-pg-session/source benchmarks/profile.ts hit|miss|miss64|update|update64
 */
import { Session, type Sessions } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Inspector from "node:inspector/promises"
import { basename } from "node:path"
import * as Node from "./Node.ts"
import * as Workload from "./Workload.ts"

const shown = 14
/** Between two looks, in microseconds. */
const interval = 100
const path = process.argv[2] ?? "hit"
const [attribute] = Workload.one.attributes

const operations: Readonly<
  Record<string, (sessions: Sessions, created: ReadonlyArray<Session>) => Effect.Effect<unknown, unknown>>
> = {
  hit: (sessions, created) =>
    Effect.gen(function* () {
      const ids = created.map(({ id }) => id)
      for (let i = 0; i < 4_000_000; i++) yield* sessions.get(ids[i % ids.length] as Session["id"])
    }),
  miss: (sessions, created) => misses(sessions, created, 8_000, 1),
  miss64: (sessions, created) => misses(sessions, created, 60_000, 64),
  update: (sessions, created) => updates(sessions, created, 3_000, 1),
  update64: (sessions, created) => updates(sessions, created, 20_000, 64)
}

const misses = (sessions: Sessions, created: ReadonlyArray<Session>, count: number, callers: number) =>
  Workload.shared(count, callers, (i) => Effect.as(sessions.get((created[i % created.length] as Session).id), true))

const updates = (sessions: Sessions, created: ReadonlyArray<Session>, count: number, callers: number) => {
  const latest = [...created]
  return Workload.shared(count, callers, (i) =>
    Effect.gen(function* () {
      // Each session is one caller's.
      const which = i % (latest.length - (latest.length % callers))
      latest[which] = yield* sessions.update(Session.set(latest[which] as Session, attribute, `value${i}`))
      return true
    })
  )
}

const place = (url: string, line: number): string =>
  url === "" ? "" : `${basename(url.replace(/\?.*$/, ""))}:${line + 1}`

const program = Effect.gen(function* () {
  const operation = operations[path]
  if (operation === undefined) return yield* Console.error(`There are: ${Object.keys(operations).join(", ")}`)
  const { url } = yield* Node.durable()
  const sessions = yield* Node.node({ url, ...(path.startsWith("miss") && { cacheCapacity: 100 }) })
  const created = yield* Workload.create(sessions, Workload.one)
  // Compiled, before anything is counted.
  yield* operation(sessions, created.slice())
  const inspector = new Inspector.Session()
  inspector.connect()
  yield* Effect.promise(async () => {
    await inspector.post("Profiler.enable")
    await inspector.post("Profiler.setSamplingInterval", { interval })
    await inspector.post("Profiler.start")
  })
  yield* path.startsWith("update")
    ? operation(sessions, yield* current(sessions, created))
    : operation(sessions, created)
  const { profile } = yield* Effect.promise(() => inspector.post("Profiler.stop"))

  const names = new Map(
    profile.nodes.map(({ callFrame: { functionName, lineNumber, url }, id }) => [
      id,
      `${functionName === "" ? "(anonymous)" : functionName}  ${place(url, lineNumber)}`
    ])
  )
  const self = new Map<string, number>()
  let total = 0
  for (const [index, node] of (profile.samples ?? []).entries()) {
    const took = profile.timeDeltas?.[index] ?? 0
    const name = names.get(node) ?? "?"
    total += took
    // The profiler's own start.
    if (name.startsWith("post ")) continue
    self.set(name, (self.get(name) ?? 0) + took)
  }
  const top = [...self].toSorted(([, left], [, right]) => right - left).slice(0, shown)
  for (const [name, took] of top) yield* Console.log(`${((100 * took) / total).toFixed(1).padStart(6)} %  ${name}`)
})

/** The sessions as they stand. */
const current = (sessions: Sessions, created: ReadonlyArray<Session>) =>
  Effect.forEach(created, ({ id }) => sessions.get(id))

NodeRuntime.runMain(Effect.scoped(program))
