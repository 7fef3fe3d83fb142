/** The command line. */
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"

export interface Options {
  readonly seed: number
  readonly seconds: number
  readonly nodes: number
  /** Statements go through PgBouncer in transaction mode, the listener directly. */
  readonly pgbouncer: boolean
  /** Say what goes on. */
  readonly verbose: boolean
  /** A file to write the history to, one operation a line. */
  readonly history: string | undefined
}

export const usage = `npm run faults -- [--seed N] [--seconds S] [--nodes K] [--pgbouncer] [--history FILE] [--verbose]

  --seed N      repeats the choices of an earlier run; default: a random one
  --seconds S   for how long faults are injected; default 60
  --nodes K     how many node processes; default 3
  --pgbouncer   statements go through PgBouncer in transaction mode
  --verbose     says what is injected when
  --history F   writes every operation to a file, one a line`

/** A whole number of the command line. */
export const whole = (text: string | undefined, name: string, otherwise: number, min: number): number => {
  const number = text === undefined ? otherwise : Number(text)
  if (!Number.isSafeInteger(number) || number < min) throw new Error(`--${name} must be a whole number from ${min} on`)
  return number
}

/** Throws where they make no sense. */
export const parse = (args: ReadonlyArray<string>): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string" },
      seconds: { type: "string" },
      nodes: { type: "string" },
      pgbouncer: { type: "boolean", default: false },
      verbose: { type: "boolean", default: false },
      history: { type: "string" }
    }
  })
  return {
    seed: whole(values.seed, "seed", randomInt(1, 2 ** 31), 0),
    seconds: whole(values.seconds, "seconds", 60, 1),
    nodes: whole(values.nodes, "nodes", 3, 1),
    pgbouncer: values.pgbouncer,
    verbose: values.verbose,
    history: values.history
  }
}

/** How to run the same again. */
export const replay = ({ nodes, pgbouncer, seconds, seed }: Options): string =>
  `npm run faults -- --seed ${seed} --seconds ${seconds} --nodes ${nodes}${pgbouncer ? " --pgbouncer" : ""}`
