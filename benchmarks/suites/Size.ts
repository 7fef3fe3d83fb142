/**
 * How much of a processor and of memory a large cache takes: the time of a cached read with a million sessions in memory over
 * that with a thousand, and the heap that a cached session takes over that of the same data as parsed JSON. Each cache is in a
 * process of its own; those that are compared take turns.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Child from "../Child.ts"
import { measure, NotMeasured, timeRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Rows from "../Rows.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const readsPerRun = 100_000
const Counted = Schema.Tuple([Schema.Finite, Schema.Finite])

/** A node with so many sessions in memory. */
export const cached = Effect.fnUntraced(function* (url: Node.Url, count: number, attributes = 1) {
  const { ask } = yield* Child.start(
    "Cached",
    { BENCH_URL: Redacted.value(url), BENCH_SESSIONS: String(count), BENCH_ATTRIBUTES: String(attributes) },
    ["--expose-gc", "--max-old-space-size=8192"]
  )
  const bytes = Effect.fnUntraced(function* (command: "fill" | "load" | "decode" | "plain") {
    const [sessions, each] = yield* ask(command, Counted)
    if (sessions === count) return each
    return yield* new NotMeasured({ message: `${command}: ${sessions} of ${count} sessions are there` })
  })
  return {
    bytes,
    contender: {
      name: `get, ${count.toLocaleString("en")} in memory`,
      operations: readsPerRun,
      run: Effect.map(ask("read", Counted), ([right]) => right)
    },
    floor: {
      name: `floor: Map.get, mark, ${count.toLocaleString("en")}`,
      operations: readsPerRun,
      run: Effect.map(ask("floor", Counted), ([right]) => right)
    },
    /** Nanoseconds per read, once. */
    read: Effect.flatMap(ask("read", Counted), ([right, millis]) =>
      right === readsPerRun
        ? Effect.succeed((millis * 1_000_000) / readsPerRun)
        : Effect.fail(new NotMeasured({ message: `${right} of ${readsPerRun} reads were right` }))
    )
  }
})

/** Bytes per session: as loaded, with every attribute read and so decoded, and as parsed JSON alone. */
const memoryOf = Effect.fnUntraced(function* (url: Node.Url, count: number, attributes: number) {
  const { bytes } = yield* cached(url, count, attributes)
  const loaded = yield* bytes("load")
  const decoded = loaded + (yield* bytes("decode"))
  return { loaded, decoded, plain: yield* bytes("plain") }
}, Effect.scoped)

export const suite: Suite = {
  name: "size",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.volatile
        const sql = yield* Node.client(url)
        const small = quick ? 5_000 : 20_000
        const ten = quick
          ? undefined
          : yield* Effect.andThen(Rows.insert(sql, Workload.ten, 0, small), memoryOf(url, small, 10))
        if (!quick) yield* sql`truncate sessions cascade`
        const large = quick ? 50_000 : 1_000_000
        yield* Rows.insert(sql, Workload.one, 0, large)
        const one = yield* memoryOf(url, small, 1)

        const thousand = yield* cached(url, 1_000)
        const many = yield* cached(url, large)
        yield* thousand.bytes("fill")
        yield* many.bytes("fill")
        const rows = yield* measure([thousand.contender, many.contender], rounds(11))
        // Afterwards, because it takes memory of its own.
        const floors = quick ? undefined : yield* measure([thousand.floor, many.floor], rounds(11))
        return {
          tables: [{ title: "Cached reads in one fiber, by sessions in memory", rows: [...rows, ...(floors ?? [])] }],
          figures: {
            [quick ? "read.hit.vsSize50000" : "read.hit.vsSizeMillion"]: timeRatio(rows[1], rows[0]),
            ...(floors && { "read.floor.vsSizeMillion": timeRatio(floors[1], floors[0]) }),
            "memory.vsPlain": one.decoded / one.plain,
            "memory.bytesPerSession": one.decoded,
            "memory.loaded.vsPlain": one.loaded / one.plain,
            ...(ten && {
              "memory.tenAttributes.vsPlain": ten.decoded / ten.plain,
              "memory.tenAttributes.bytesPerSession": ten.decoded,
              "memory.tenAttributes.loaded.vsPlain": ten.loaded / ten.plain
            })
          },
          notes: quick ? ["A quick run fills 50 000 sessions in place of a million."] : []
        }
      })
    )
}
