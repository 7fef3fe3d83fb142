/**
 * Measures contenders in turns, so that whatever disturbs the machine disturbs all
 * of them: each round runs every contender once, beginning with another one each
 * time. What counts are ratios within a round, and of those the median.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** A benchmark whose figures would mean nothing. */
export class NotMeasured extends Data.TaggedError("NotMeasured")<{ readonly message: string }> {}

/** Something to be measured. */
export interface Contender<E = never, R = never> {
  readonly name: string
  /** How many operations one run does. */
  readonly operations: number
  /** Does the operations, and answers how many of them did what they should; all must. */
  readonly run: Effect.Effect<number, E, R>
}

/** What was measured of one contender. */
export interface Measured {
  readonly name: string
  /** Operations per second, the median of all rounds. */
  readonly perSecond: number
  /** Of the slowest and of the fastest round. */
  readonly slowest: number
  readonly fastest: number
  /** Milliseconds per operation, by round. */
  readonly millis: ReadonlyArray<number>
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

/** The value below which this part of all values lies. */
export const quantile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = values.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

/** How much longer an operation of the first takes than one of the second: the median of the rounds' ratios. */
export const timeRatio = (first: Measured, second: Measured): number =>
  median(first.millis.map((millis, round) => millis / (second.millis[round] ?? Number.NaN)))

/** How many operations the first does while the second does one. */
export const rateRatio = (first: Measured, second: Measured): number => timeRatio(second, first)

/**
 * How many operations of each contender are done before anything is measured, at least. What waits for a database once per millisecond
 * is compiled late: an update takes half as long again in its first five hundred runs as later.
 */
const warmUp = 1_500

/** How often {@link measure} runs a contender of so many operations. */
export const runs = (operations: number, rounds: number): number => Math.ceil(warmUp / operations) + rounds

/** Does the operations once; answers milliseconds for each. */
const time = Effect.fnUntraced(function* <E, R>({ name, operations, run }: Contender<E, R>) {
  const start = performance.now()
  const right = yield* run
  const elapsed = performance.now() - start
  if (right !== operations) {
    return yield* new NotMeasured({
      message: `${operations - right} of ${operations} operations of "${name}" did not do their work`
    })
  }
  return elapsed / operations
})

/** Runs every contender until it is warm, then `rounds` times in turns. */
export const measure = Effect.fnUntraced(function* <const C extends ReadonlyArray<Contender<unknown, unknown>>>(
  contenders: C,
  rounds: number
): Effect.fn.Return<
  { readonly [K in keyof C]: Measured },
  NotMeasured | Effect.Error<C[number]["run"]>,
  Effect.Services<C[number]["run"]>
> {
  type Typed = Contender<Effect.Error<C[number]["run"]>, Effect.Services<C[number]["run"]>>
  const all = contenders as ReadonlyArray<Contender<unknown, unknown>> as ReadonlyArray<Typed>
  for (const contender of all) {
    for (let run = 0; run < runs(contender.operations, 0); run++) yield* time(contender)
  }
  const millis = all.map((): Array<number> => [])
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < all.length; turn++) {
      const index = (turn + round) % all.length
      millis[index]?.push(yield* time(all[index] as Typed))
    }
  }
  return all.map(({ name }, index) => {
    const each = millis[index] ?? []
    return {
      name,
      perSecond: 1_000 / median(each),
      slowest: 1_000 / Math.max(...each),
      fastest: 1_000 / Math.min(...each),
      millis: each
    }
  }) as { readonly [K in keyof C]: Measured }
})
