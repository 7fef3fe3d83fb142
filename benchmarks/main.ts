/**
 * `npm run bench`: measures, prints, and writes `results/latest.json`.
 *
 *     --suite NAME   only this one, or those that begin with it (may be repeated)
 *     --quick        fewer rounds, the first workload only, a cache of 50 000 sessions in place of a million, and without those
 *                    suites that take long to set up
 *     --check        the exit status is 1 where a figure does not keep its bound
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Chart from "./Chart.ts"
import { figures as known, keeps } from "./Figures.ts"
import { versions } from "./Versions.ts"
import type { Effort, Suite, Table } from "./Suite.ts"
import { suite as creates } from "./suites/Creates.ts"
import { suites as growth } from "./suites/Growth.ts"
import { suite as http } from "./suites/Http.ts"
import { suite as invalidation } from "./suites/Invalidation.ts"
import { suite as locks } from "./suites/Locks.ts"
import { suite as misses } from "./suites/Misses.ts"
import { suite as nodes } from "./suites/Nodes.ts"
import { suite as notices } from "./suites/Notices.ts"
import { suite as readHit } from "./suites/ReadHit.ts"
import { suite as size } from "./suites/Size.ts"
import { suite as updates } from "./suites/Updates.ts"

const suites: ReadonlyArray<Suite> = [
  readHit,
  size,
  misses,
  updates,
  creates,
  locks,
  invalidation,
  nodes,
  notices,
  http,
  ...growth
]

const { values: options } = parseArgs({
  options: {
    suite: { type: "string", multiple: true },
    quick: { type: "boolean", default: false },
    check: { type: "boolean", default: false }
  }
})

const effort: Effort = {
  rounds: (full) => (options.quick ? Math.max(3, Math.round(full / 5)) : full),
  quick: options.quick
}

const rate = (perSecond: number): string =>
  perSecond >= 1_000_000
    ? `${(perSecond / 1_000_000).toFixed(2)} M/s`
    : `${Math.round(perSecond).toLocaleString("en")}/s`

const time = (perSecond: number): string => {
  const nanos = 1_000_000_000 / perSecond
  if (nanos < 10_000) return `${nanos.toFixed(0)} ns`
  return nanos < 10_000_000 ? `${(nanos / 1_000).toFixed(0)} µs` : `${(nanos / 1_000_000).toFixed(1)} ms`
}

const line = (name: string, ...columns: ReadonlyArray<string>): string =>
  name.padEnd(40) + columns.map((column) => column.padStart(13)).join("")

const show = ({ rows, title }: Table): string =>
  [
    "",
    title,
    "",
    line("", "median", "each", "slowest", "fastest"),
    ...rows.map(({ fastest, name, perSecond, slowest }) =>
      line(name, rate(perSecond), time(perSecond), rate(slowest), rate(fastest))
    )
  ].join("\n")

const seconds = (since: number): string => `${((performance.now() - since) / 1_000).toFixed(0)} s`

/** Four digits say all there is to know. */
const rounded = (value: number): number => (Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(4)))

const main = Effect.gen(function* () {
  const machine = `${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} processors`
  yield* Console.log(`Node ${process.version}, ${machine}`)
  const isNamed = (name: string) => (asked: string) => name === asked || name.startsWith(`${asked}-`)
  const isUsual = ({ onRequest, slowToSetUp }: Suite) => onRequest !== true && !(options.quick && slowToSetUp === true)
  const chosen = suites.filter((suite) => options.suite?.some(isNamed(suite.name)) ?? isUsual(suite))
  if (chosen.length === 0) {
    yield* Console.error(`There is no such suite. There are: ${suites.map(({ name }) => name).join(", ")}`)
    process.exitCode = 2
    return
  }
  const begin = performance.now()
  const directory = join(import.meta.dirname, "results")
  const file = join(directory, "latest.json")
  mkdirSync(directory, { recursive: true })
  const results: Record<string, unknown> =
    existsSync(file) && options.suite !== undefined
      ? (JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)
      : {}
  for (const { name, run } of chosen) {
    const start = performance.now()
    const { bars = {}, curves = {}, figures, notes = [], tables } = yield* run(effort)
    for (const [chart, content] of Object.entries(bars)) {
      writeFileSync(join(directory, `${chart}.svg`), Chart.bars(content))
    }
    for (const [chart, content] of Object.entries(curves)) {
      writeFileSync(join(directory, `${chart}.svg`), Chart.curves(content))
      writeFileSync(join(directory, `${chart}.json`), `${JSON.stringify(content, undefined, 2)}\n`)
    }
    for (const table of tables) yield* Console.log(show(table))
    yield* Console.log("")
    for (const [name, value] of Object.entries(figures)) {
      results[name] = rounded(value)
      const figure = known[name]
      const kept = figure === undefined || keeps(figure, value)
      const verdict =
        figure === undefined
          ? ""
          : `  ${kept ? "" : "NOT "}${figure.better === "atLeast" ? ">=" : "<="} ${figure.bound}`
      yield* Console.log(line(name, String(rounded(value))) + verdict)
      if (!kept && options.check) process.exitCode = 1
    }
    for (const note of notes) yield* Console.log(note)
    yield* Console.log(`${name}: ${seconds(start)}`)
    Object.assign(results, yield* versions, { machine })
    writeFileSync(file, `${JSON.stringify(results, undefined, 2)}\n`)
  }
  yield* Console.log(`\nAll in ${seconds(begin)}`)
})

NodeRuntime.runMain(main)
