/** What a suite of benchmarks is, and what it hands back. */
import type * as Effect from "effect/Effect"
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
  /** Sentences that belong to the result, such as what could not be measured. */
  readonly notes?: ReadonlyArray<string> | undefined
}

/** A named part of the benchmarks. */
export interface Suite {
  readonly name: string
  readonly run: (effort: Effort) => Effect.Effect<Findings, unknown>
}
