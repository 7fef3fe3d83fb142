/**
 * Decides whether a long run under an even load ended as it began: memory,
 * handles, connections and everything that is kept.
 *
 * The first quarter of the run is warm-up: caches fill, code is compiled. After that the median of the last
 * quarter must not be above the median of the second one by more than an allowance. Medians, because single samples are taken at
 * moments when more or less is under way; two quarters that are far apart, because a slow leak needs time to show.
 */

export type Figures = Readonly<Record<string, number>>

/** What was measured of one process, or of the server, at a time of the run. */
export interface Sample {
  readonly of: string
  /** Milliseconds since the load began. */
  readonly at: number
  readonly figures: Figures
}

export interface Trend {
  readonly of: string
  readonly figure: string
  /** The medians of the second and of the last quarter. */
  readonly early: number
  readonly late: number
  /** How far above `early` the other may be. */
  readonly allowed: number
  readonly flat: boolean
}

interface Allowance {
  /** The greater one counts. */
  readonly absolute: number
  readonly share: number
}

/** For each figure that is judged. What is under way at a moment differs from sample to sample; what is kept does not. */
export const allowances: Readonly<Record<string, Allowance>> = {
  heapMegabytes: { absolute: 3, share: 0.05 },
  externalMegabytes: { absolute: 2, share: 0.2 },
  rssMegabytes: { absolute: 24, share: 0.1 },
  descriptors: { absolute: 3, share: 0 },
  timers: { absolute: 25, share: 0.25 },
  otherResources: { absolute: 3, share: 0 },
  connections: { absolute: 3, share: 0 },
  // Some of other nodes are still found after the warm-up of a short run.
  cached: { absolute: 400, share: 0.05 },
  // Forgotten whenever the listener connects again.
  absent: { absolute: 3_000, share: 0.5 },
  // What was used since the last flush: it follows the load.
  pendingActivity: { absolute: 800, share: 0.25 },
  pendingUpdates: { absolute: 25, share: 0.25 },
  watched: { absolute: 10, share: 0.25 },
  held: { absolute: 10, share: 0.25 },
  waiting: { absolute: 10, share: 0.25 },
  sessionRows: { absolute: 200, share: 0.05 },
  lockRows: { absolute: 50, share: 0.1 }
}

/** Fewer samples in a quarter say nothing. */
const enough = 3

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

const valuesBetween = (samples: ReadonlyArray<Sample>, figure: string, from: number, to: number) =>
  samples.flatMap(({ at, figures }) => {
    const value = figures[figure]
    return at >= from && at < to && value !== undefined ? [value] : []
  })

/** How each figure went that has an allowance, of a run of so many milliseconds. Throws where it was measured too rarely. */
export const trends = (samples: ReadonlyArray<Sample>, duration: number): ReadonlyArray<Trend> =>
  [...Map.groupBy(samples, ({ of }) => of)].flatMap(([of, own]) =>
    Object.entries(allowances).flatMap(([figure, { absolute, share }]) => {
      if (own.every(({ figures }) => figures[figure] === undefined)) return []
      const second = valuesBetween(own, figure, duration / 4, duration / 2)
      const last = valuesBetween(own, figure, (duration * 3) / 4, Infinity)
      if (second.length < enough || last.length < enough) {
        throw new Error(`${figure} of ${of} was measured ${second.length} and ${last.length} times only`)
      }
      const early = median(second)
      const late = median(last)
      const allowed = Math.max(absolute, share * early)
      return [{ of, figure, early, late, allowed, flat: late <= early + allowed }]
    })
  )
