/** How long things took, as a histogram: its size is constant, so that measuring for hours is no leak. */

/** Each bucket ends this much above the one before. */
const growth = 1.05
/** The first bucket ends here, in milliseconds. */
const smallest = 0.001
const buckets = 400

export interface Percentiles {
  readonly count: number
  /** In milliseconds, at most 5 % above the true ones. */
  readonly p50: number
  readonly p99: number
}

export class Latencies {
  private readonly counts = new Uint32Array(buckets)
  private count = 0

  record(millis: number): void {
    const bucket = Math.ceil(Math.log(Math.max(millis, smallest) / smallest) / Math.log(growth))
    const index = Math.min(bucket, buckets - 1)
    this.counts[index] = (this.counts[index] ?? 0) + 1
    this.count++
  }

  /** What was recorded since the last time. */
  take(): Percentiles {
    const taken = { count: this.count, p50: this.percentile(0.5), p99: this.percentile(0.99) }
    this.counts.fill(0)
    this.count = 0
    return taken
  }

  /** Zero where nothing was recorded. */
  private percentile(part: number): number {
    let left = Math.ceil(this.count * part)
    if (left === 0) return 0
    for (const [bucket, count] of this.counts.entries()) {
      left -= count
      if (left <= 0) return smallest * growth ** bucket
    }
    return Infinity
  }
}
