/**
 * Where the time of a lone miss and of a lone update goes, beside bare statements in turns: before the statement is written to the socket,
 * in that write, until the last part of the answer has been read, and after it. Medians, in microseconds.
 *
 *     node --conditions=@effect-pg-session/source benchmarks/phases.ts
 */
import { Session } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { Socket } from "node:net"
import { median } from "./Interleaved.ts"
import * as Node from "./Node.ts"
import * as Workload from "./Workload.ts"

const rounds = 16
const perRound = 300
const { sessionCount } = Workload
const [attribute] = Workload.one.attributes
const phases = ["before", "write", "waiting", "after", "in all"] as const

/** Of the operation that runs; its first write, and what was read last. */
let write: { begin: number; end: number; socket: Socket } | undefined
let read = 0
let watching = false

const { push: pushed, write: written } = Socket.prototype
Object.assign(Socket.prototype, {
  write(this: Socket, ...arguments_: Parameters<Socket["write"]>): boolean {
    const begin = performance.now()
    const result = Reflect.apply(written, this, arguments_)
    if (watching) write ??= { begin, end: performance.now(), socket: this }
    return result
  },
  push(this: Socket, ...arguments_: Parameters<Socket["push"]>): boolean {
    // Its own notice comes to the node on another one.
    if (this === write?.socket) read = performance.now()
    return Reflect.apply(pushed, this, arguments_)
  }
})

/** The phases of one operation, in milliseconds. */
const timed = <E>(operation: () => Effect.Effect<unknown, E>) =>
  Effect.gen(function* () {
    write = undefined
    watching = true
    const begin = performance.now()
    yield* Effect.suspend(operation)
    const end = performance.now()
    watching = false
    // What `suspend` has run has set it.
    const sent = write as { begin: number; end: number } | undefined
    if (sent === undefined) return yield* Effect.die(new Error("Nothing was sent"))
    return [sent.begin - begin, sent.end - sent.begin, read - sent.end, end - read, end - begin] as const
  })

/** Operations by name, in turns; the first round is for the compiler. */
const table = Effect.fnUntraced(function* (
  operations: Readonly<Record<string, () => Effect.Effect<unknown, unknown>>>
) {
  const measured = new Map<string, Array<ReadonlyArray<number>>>()
  const names = Object.keys(operations)
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const operation = operations[name]
      if (operation === undefined) continue
      const times = Array.from({ length: perRound }, () => timed(operation))
      const taken = yield* Effect.forEach(times, (time) => time)
      if (round > 0) measured.set(name, [...(measured.get(name) ?? []), ...taken])
    }
  }
  for (const [name, times] of measured) {
    const columns = phases.map((_, index) =>
      Math.round(1_000 * median(times.map((phase) => phase[index] ?? Number.NaN)))
    )
    yield* Console.log(`${name.padEnd(36)}${columns.map((micros) => String(micros).padStart(9)).join("")}`)
  }
})

const misses = Effect.fnUntraced(function* (url: Node.Url) {
  const sessions = yield* Node.node({ url, cacheCapacity: sessionCount / 10 })
  const sql = yield* Node.client(url)
  const created = yield* Workload.create(sessions, Workload.one)
  const ids = created.map(({ id }) => id)
  const keys = created.map(({ key }) => key)
  let next = 0
  yield* table({
    "get, a miss": () => sessions.get(ids[next++ % sessionCount] as Session["id"]),
    "SELECT by primary key": () => sql`select * from sessions where key = ${keys[next++ % sessionCount]}`
  })
}, Effect.scoped)

const updates = Effect.fnUntraced(function* (url: Node.Url) {
  const sessions = yield* Node.node({ url })
  const sql = yield* Node.client(url)
  const latest = [...(yield* Workload.create(sessions, Workload.one))]
  yield* sql`create table bench_bare (key text primary key, version bigint not null, attributes jsonb not null) with (fillfactor = 70)`
  yield* sql`insert into bench_bare select key, version, attributes from sessions`
  let next = 0
  const value = () => `value${1_000 + (next % 1_000)}`
  yield* table({
    update: () => {
      const index = next++ % sessionCount
      return Effect.map(
        sessions.update(Session.set(latest[index] as Session, attribute, value())),
        (saved) => (latest[index] = saved)
      )
    },
    "UPDATE ... RETURNING, pg_notify": () =>
      sql`with u as (
          update bench_bare set version = version + 1,
            attributes = jsonb_set(attributes, ${`{${attribute.name},v}`}::text::text[], to_jsonb(${value()}::text))
          where key = ${latest[next++ % sessionCount]?.key} returning *
        )
        select u.*, (select count(*) from (select pg_notify('bench', 'U' || u.key || u.version)) n) from u`
  })
}, Effect.scoped)

const program = Effect.gen(function* () {
  const { url } = yield* Node.durable()
  yield* Console.log(`${"microseconds".padEnd(36)}${phases.map((phase) => phase.padStart(9)).join("")}`)
  yield* misses(url)
  yield* updates(url)
})

NodeRuntime.runMain(Effect.scoped(program))
