/**
 * How time and memory grow: with the sessions in memory, the rows in the table, the attributes of a session, the nodes and the
 * callers. Each value is a median of a few short rounds; the points of one curve are measured one after the other, so that small
 * steps mean nothing and large ones do. With `BENCH_ROWS=10000000` the table grows to ten million rows, which takes
 * 8 GB of disk.
 */
import { Session, type Sessions } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import { type Curves, flatter, type Line, slower } from "../Chart.ts"
import { measure, median } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Rows from "../Rows.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"
import { writer } from "./Nodes.ts"
import { cached } from "./Size.ts"

const maxRows = Number(process.env["BENCH_ROWS"] ?? 1_000_000)

const decades = (from: number, to: number): ReadonlyArray<number> => {
  const powers: Array<number> = []
  for (let n = from; n <= to; n *= 10) powers.push(n)
  return powers
}

/** Microseconds per operation, the median of five rounds after one. */
const micros = <E>(name: string, operations: number, run: Effect.Effect<number, E>) =>
  Effect.map(measure([{ name, operations, run }], 5), ([{ millis }]) => 1_000 * median(millis))

const line = (name: string, points: Line["points"]): Line => ({ name, points })

/** Changes an attribute of session `which`, as a request does. */
const change = (sessions: Sessions, workload: Workload.Workload) => {
  let counter = 0
  return (which: number) =>
    Effect.gen(function* () {
      const session = yield* sessions.get(Rows.idOf(which), { touch: false })
      const value = workload.value(counter++, 0)
      const saved = yield* sessions.update(Session.set(session, workload.attributes[0], value))
      return saved.version === session.version + 1n
    })
}

const bySessions = Effect.gen(function* () {
  const { url } = yield* Node.volatile
  yield* Rows.insert(yield* Node.client(url), Workload.one, 0, 1_000_000)
  const points: Array<readonly [count: number, nanos: number, bytes: number]> = []
  for (const count of [1_000, 10_000, 100_000, 300_000, 1_000_000]) {
    points.push(
      yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* cached(url, count)
          // A heap of gigabytes takes too long to be looked at.
          const bytes = count > 300_000 ? 0 : yield* node.bytes("load")
          yield* node.bytes("fill")
          const nanos: Array<number> = []
          // The first ones are not compiled yet.
          for (let round = 0; round < 12; round++) nanos.push(yield* node.read)
          return [count, median(nanos.slice(5)), bytes] as const
        })
      )
    )
  }
  const times = points.map(([count, nanos]) => [count, nanos] as const)
  return {
    "growth-sessions": {
      title: "Cached read, by sessions in memory",
      x: "sessions in memory",
      y: "nanoseconds",
      lines: [line("get", times)],
      bend: slower(times, "what it touches is not in the processor's caches")
    },
    "growth-memory": {
      title: "Heap per cached session, by sessions in memory",
      x: "sessions in memory",
      y: "bytes per session",
      lines: [
        line(
          "one attribute",
          points.filter(([, , bytes]) => bytes > 0).map(([count, , bytes]) => [count, bytes])
        )
      ]
    }
  }
}).pipe(Effect.scoped)

const byRows = Effect.gen(function* () {
  const { url } = yield* Node.volatile
  const sql = yield* Node.client(url)
  const reads: Array<readonly [number, number]> = []
  const updates: Array<readonly [number, number]> = []
  let filled = 0
  for (const count of decades(10_000, maxRows)) {
    yield* Rows.insert(sql, Workload.one, filled, count)
    filled = count
    yield* sql`checkpoint`
    yield* Effect.scoped(
      Effect.gen(function* () {
        // Almost nothing is ever found in memory.
        const sessions = yield* Node.node({ url, cacheCapacity: 100 })
        const update = change(sessions, Workload.one)
        const which = () => Math.floor(Math.random() * count)
        const read = () => Effect.map(sessions.get(Rows.idOf(which()), { touch: false }), ({ version }) => version > 0n)
        reads.push([count, yield* micros("read", 500, Workload.shared(500, 1, read))])
        updates.push([
          count,
          yield* micros(
            "update",
            300,
            Workload.shared(300, 1, () => update(which()))
          )
        ])
      })
    )
  }
  return {
    "growth-rows": {
      title: "Read from the database, and read and update, by rows in the table",
      x: "rows in the table",
      y: "microseconds",
      lines: [line("get, a miss", reads), line("get, a miss, and update", updates)],
      bend: slower(reads, "rows and index outgrow the server's memory")
    }
  }
}).pipe(Effect.scoped)

const byAttributes = Effect.gen(function* () {
  const server = yield* Node.durable()
  const hits: Array<readonly [number, number]> = []
  const misses: Array<readonly [number, number]> = []
  const updates: Array<readonly [number, number]> = []
  for (const count of [1, 3, 10, 30, 100]) {
    const workload = Workload.many(count, 200)
    yield* Effect.scoped(
      Effect.gen(function* () {
        const url = yield* Node.database(server.url, `attributes_${count}`)
        yield* Rows.insert(yield* Node.client(url), workload, 0, 200)
        const sessions = yield* Node.node({ url })
        const small = yield* Node.node({ url, cacheCapacity: 10 })
        const update = change(sessions, workload)
        const ids = Array.from({ length: 200 }, (_, i) => Rows.idOf(i))
        const get = (node: Sessions, i: number) =>
          Effect.map(node.get(ids[i % 200] as Session["id"]), ({ version }) => version > 0n)
        hits.push([
          count,
          yield* micros(
            "hit",
            20_000,
            Workload.shared(20_000, 1, (i) => get(sessions, i))
          )
        ])
        misses.push([
          count,
          yield* micros(
            "miss",
            200,
            Workload.shared(200, 1, (i) => get(small, i))
          )
        ])
        updates.push([
          count,
          yield* micros(
            "update",
            200,
            Workload.shared(200, 1, (i) => update(i % 200))
          )
        ])
      })
    )
  }
  return {
    "growth-attributes": {
      title: "By attributes of 200 characters in a session, of which an update writes one",
      x: "attributes in a session",
      y: "microseconds",
      lines: [line("get, from memory", hits), line("get, a miss", misses), line("update, durable", updates)],
      bend: slower(misses, "PostgreSQL keeps more than 2 KB elsewhere")
    }
  }
}).pipe(Effect.scoped)

const byNodes = Effect.gen(function* () {
  const { url } = yield* Node.durable({ max_connections: "200" })
  const points: Array<readonly [number, number]> = []
  for (const count of [1, 2, 4, 8]) {
    yield* Effect.scoped(
      Effect.gen(function* () {
        const { contender } = yield* writer(url, count)
        points.push([count, 1_000_000 / (yield* micros(contender.name, contender.operations, contender.run))])
      })
    )
  }
  return {
    "growth-nodes": {
      title: "Updates a second of one node, 64 callers, by nodes that listen (more is better)",
      x: "nodes",
      y: "updates a second",
      lines: [line("update, durable", points)]
    }
  }
}).pipe(Effect.scoped)

const byCallers = Effect.gen(function* () {
  const { url } = yield* Node.durable()
  yield* Rows.insert(yield* Node.client(url), Workload.one, 0, 4_096)
  const sessions = yield* Node.node({ url })
  const small = yield* Node.node({ url, cacheCapacity: 64 })
  const update = change(sessions, Workload.one)
  const ids = Array.from({ length: 4_096 }, (_, i) => Rows.idOf(i))
  const miss = (i: number) => Effect.map(small.get(ids[i % 4_096] as Session["id"]), ({ version }) => version > 0n)
  const updates: Array<readonly [number, number]> = []
  const misses: Array<readonly [number, number]> = []
  for (const callers of [1, 4, 16, 64, 256]) {
    const count = callers < 16 ? 512 : 2_048
    updates.push([callers, 1_000_000 / (yield* micros("update", count, Workload.shared(count, callers, update)))])
    misses.push([callers, 1_000_000 / (yield* micros("miss", count, Workload.shared(count, callers, miss)))])
  }
  return {
    "growth-callers": {
      title: "Operations a second of one node, by callers at once (more is better)",
      x: "callers",
      y: "operations a second",
      lines: [line("get, a miss", misses), line("update, durable", updates)],
      bend: flatter(updates, "from here on it is larger batches that help")
    }
  }
}).pipe(Effect.scoped)

/** One curve, or several of the same points. */
const growth = (name: string, run: Effect.Effect<Readonly<Record<string, Curves>>, unknown>): Suite => ({
  name: `growth-${name}`,
  onRequest: true,
  run: () =>
    Effect.map(run, (curves) => ({
      tables: [],
      figures: {},
      curves,
      notes: Object.values(curves).flatMap(({ lines, title }) => [
        title,
        ...lines.map(
          ({ name, points }) => `  ${name}: ${points.map(([x, y]) => `${x}: ${y.toPrecision(3)}`).join(", ")}`
        )
      ])
    }))
})

export const suites: ReadonlyArray<Suite> = [
  growth("callers", byCallers),
  growth("nodes", byNodes),
  growth("attributes", byAttributes),
  growth("rows", byRows),
  growth("sessions", bySessions)
]
