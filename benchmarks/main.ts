/**
 * `npm run bench`: measures, prints, and writes `results/latest.json`. With
 * `--check` the exit status is 1 where a figure is below its bound.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { join } from "node:path"
import { type Rate, readHit } from "./read-hit.ts"

/** What `--check` insists on. */
const bounds: Readonly<Record<string, number>> = { "read.hit.opsPerSec": 1_500_000 }

const millions = (perSecond: number) => `${(perSecond / 1_000_000).toFixed(2)} M/s`

const row = (name: string, ...columns: ReadonlyArray<string>) =>
  name.padEnd(36) + columns.map((column) => column.padStart(13)).join("")

const table = (title: string, rates: ReadonlyArray<Rate>) =>
  [
    "",
    title,
    "",
    row("", "median", "per read", "slowest", "fastest"),
    ...rates.map(({ max, median, min, name }) =>
      row(name, millions(median), `${(1_000_000_000 / median).toFixed(0)} ns`, millions(min), millions(max))
    ),
    ""
  ].join("\n")

const main = Effect.gen(function* () {
  yield* Console.log(
    `Node ${process.version}, ${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} processors`
  )
  const { figures, rates, title } = yield* readHit
  yield* Console.log(table(title, rates))

  const directory = join(import.meta.dirname, "results")
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, "latest.json"), `${JSON.stringify(figures, undefined, 2)}\n`)

  for (const [name, value] of Object.entries(figures)) {
    const bound = bounds[name]
    const tooLow = bound !== undefined && !(value >= bound)
    const verdict = bound === undefined ? "" : tooLow ? `  below its bound of ${bound}` : `  (bound ${bound})`
    yield* Console.log(row(name, String(value)) + verdict)
    if (tooLow && process.argv.includes("--check")) process.exitCode = 1
  }
})

NodeRuntime.runMain(main)
