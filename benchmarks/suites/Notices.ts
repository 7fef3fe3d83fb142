/**
 * What notifications cost PostgreSQL: how many single ones a second one sender can commit while so many connections listen, and
 * how much of a processor the server takes for each delivery to each of them. The operator's table in `README.md` is
 * computed from it.
 */
import type { Session } from "@effect-pg-session/core"
import type { EmbeddedPostgresService } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { Client } from "pg"
import { median, NotMeasured } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const counts = [1, 8, 32] as const
const perRound = 1_000

const ticksPerSecond = (): number => Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))

/** The processor time of a server and of all its backends so far, in microseconds. */
const cpuOf = (pid: number, tick: number): number => {
  let ticks = 0
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || !existsSync(`/proc/${name}/stat`)) continue
    const stat = readFileSync(`/proc/${name}/stat`, "utf8")
    // After the name, which may hold any character: state, parent, ..., user and system time.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    if (Number(name) === pid || Number(fields[1]) === pid) ticks += Number(fields[11]) + Number(fields[12])
  }
  return (ticks * 1_000_000) / tick
}

/** So many connections that listen; the result counts what they have heard. */
const listeners = Effect.fnUntraced(function* (url: Node.Url, channel: string, count: number) {
  const heard = { total: 0 }
  yield* Effect.forEach(
    Array.from({ length: count }),
    () =>
      Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new Client({ connectionString: Redacted.value(url) })
          client.on("notification", () => heard.total++)
          client.on("error", () => {})
          await client.connect()
          await client.query(`listen ${channel}`)
          return client
        }),
        (client) => Effect.promise(() => client.end())
      ),
    { concurrency: 4 }
  )
  return heard
})

const measureWith = Effect.fnUntraced(function* (
  server: EmbeddedPostgresService,
  count: number,
  rounds: number,
  tick: number
) {
  // A database of its own: the server wakes all that listen in the same one.
  const url = yield* Node.database(server.url, `listeners_${count}`)
  const heard = yield* listeners(url, "bench", count)
  const sql = yield* Node.client(url)
  const pid = yield* server.pid
  const perSecond: Array<number> = []
  const cpu: Array<number> = []
  for (let round = -1; round < rounds; round++) {
    const expected = heard.total + count * perRound
    const [before, start] = [cpuOf(pid, tick), performance.now()]
    for (let i = 0; i < perRound; i++) yield* sql`select pg_notify('bench', 'x')`
    const took = performance.now() - start
    for (let i = 0; i < 500 && heard.total < expected; i++) yield* Effect.sleep("10 millis")
    if (heard.total !== expected) {
      return yield* new NotMeasured({ message: `${expected - heard.total} notifications were not heard` })
    }
    if (round < 0) continue
    perSecond.push((1_000 * perRound) / took)
    cpu.push((cpuOf(pid, tick) - before) / perRound)
  }
  return { perSecond: median(perSecond), cpu: median(cpu) }
}, Effect.scoped)

/** How many connections a node has open, while nothing is asked of it and while 64 callers miss. */
const connectionsOf = Effect.fnUntraced(function* (server: EmbeddedPostgresService) {
  const url = yield* Node.database(server.url, "connections")
  const sql = yield* Node.client(server.url)
  const count = Effect.map(
    sql<{ n: number }>`select count(*)::int as n from pg_stat_activity where datname = 'connections'`,
    ([row]) => row?.n ?? Number.NaN
  )
  const sessions = yield* Node.node({ url, cacheCapacity: 10 })
  const idle = yield* count
  const created = yield* Workload.create(sessions, Workload.one, 200)
  yield* Workload.shared(2_000, 64, (i) => Effect.as(sessions.get((created[i % 200] as Session).id), true))
  return { idle, busy: yield* count }
}, Effect.scoped)

export const suite: Suite = {
  name: "notices",
  slowToSetUp: true,
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        if (!existsSync("/proc/self/stat")) {
          return { tables: [], figures: {}, notes: ["The processor time of PostgreSQL can only be read on Linux."] }
        }
        const server = yield* Node.durable()
        const tick = ticksPerSecond()
        const measured = yield* Effect.forEach(counts, (count) => measureWith(server, count, rounds(9), tick))
        const connections = yield* connectionsOf(server)
        const [first, last] = [measured[0], measured[measured.length - 1]]
        return {
          tables: [],
          figures: {
            "node.connections.idle": connections.idle,
            "node.connections.busy": connections.busy,
            ...Object.fromEntries(
              measured.map(({ perSecond }, i) => [`notices.perSecond.listeners${counts[i] ?? 0}`, perSecond])
            ),
            "notices.pgCpuMicrosPerNotice": first?.cpu ?? Number.NaN,
            "notices.pgCpuMicrosPerDelivery": ((last?.cpu ?? Number.NaN) - (first?.cpu ?? Number.NaN)) / (32 - 1)
          }
        }
      })
    )
}
