/**
 * What is measured: each figure's meaning, the bound that `--check` insists on, and
 * what we aim at.
 */

/** One figure. */
export interface Figure {
  readonly meaning: string
  /** `atLeast`: higher is better. */
  readonly better: "atLeast" | "atMost"
  readonly bound: number
  readonly aim: number
}

const atLeast = (bound: number, aim: number, meaning: string): Figure => ({ meaning, better: "atLeast", bound, aim })
const atMost = (bound: number, aim: number, meaning: string): Figure => ({ meaning, better: "atMost", bound, aim })

/** By the names that they have in `results/latest.json`. */
export const figures: Readonly<Record<string, Figure>> = {
  "read.hit.opsPerSec": atLeast(2_000_000, 3_000_000, "cached reads a second in one fiber, the touch included"),
  "read.hit.vsFloor": atMost(2, 1.3, "their time over that of suspend, Map.get and a mark"),
  "update.c1.vsStatement": atMost(1.3, 1.1, "an update, time over one bare UPDATE ... RETURNING with pg_notify"),
  "update.c64.vsStatementEach": atLeast(5, 10, "64 callers that update, operations over a statement each"),
  "lock.cycle.vsStatements": atMost(1.3, 1.1, "acquire and release, time over two bare statements"),
  "lock.wakeup.vsNotify": atMost(
    3,
    2,
    "from a release until a waiter on another node is awake, median over a bare NOTIFY round trip"
  )
}

/** Whether a value keeps its figure's bound. */
export const keeps = ({ better, bound }: Figure, value: number): boolean =>
  better === "atLeast" ? value >= bound : value <= bound
