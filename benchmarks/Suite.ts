/** What a suite of benchmarks is, and what it hands back. */
import type * as Effect from "effect/Effect"
import type { Bars, Curves } from "./Chart.ts"
import type { Measured } from "./Interleaved.ts"

/** How much to do. */
export interface Effort {
  /** Scales the number of rounds: 1 for a full run, less for a quick one. */
  readonly rounds: (full: number) => number
  /** Whether this is a quick run: for what takes long although it has few rounds. */
  readonly quick: boolean
}

/** A table of contenders, fastest to be compared within it. */
export interface Table {
  readonly title: string
  readonly rows: ReadonlyArray<Measured>
}

/** What a suite found. */
export interface Findings {
  readonly tables: ReadonlyArray<Table>
  /** By the names in `Figures.ts`, and further ones that have no bound. */
  readonly figures: Readonly<Record<string, number>>
  /** By the name of the file in `results/` that they are drawn to, without `.svg`. */
  readonly bars?: Readonly<Record<string, Bars>> | undefined
  /** The same; their points are also written to `results/<name>.json`. */
  readonly curves?: Readonly<Record<string, Curves>> | undefined
  /** Sentences that belong to the result, such as what could not be measured. */
  readonly notes?: ReadonlyArray<string> | undefined
}

/** A named part of the benchmarks. */
export interface Suite {
  readonly name: string
  /** Takes long, and so runs only when it is asked for by name. */
  readonly onRequest?: boolean | undefined
  /** Takes long to set up: not part of a quick run unless asked for by its name. */
  readonly slowToSetUp?: boolean
  readonly run: (effort: Effort) => Effect.Effect<Findings, unknown>
}

/** A chart of what was measured; `ours` says which of the rows are this library's. */
export const chart = (
  title: string,
  unit: string,
  rows: ReadonlyArray<Measured>,
  ours: (name: string) => boolean
): Bars => ({
  title,
  unit,
  bars: rows.map(({ name, perSecond }) => ({ name: name.trim(), value: perSecond, ours: ours(name) }))
})
