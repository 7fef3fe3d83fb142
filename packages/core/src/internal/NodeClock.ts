/**
 * Elapsed time on this node, in milliseconds: the larger of what the monotonic
 * and the wall clock say has passed. The monotonic clock stops while a machine
 * sleeps, and a wall clock can be set; taking the larger one errs towards "more
 * time has passed", which costs a reload and never serves something too old.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/** Differences between the clocks up to this much are their resolution, not a jump, and are not added up. */
const resolutionMillis = 2

/**
 * The wall clock is compared once in so much monotonic time, in milliseconds: reading it costs as much as everything
 * else here, and what a sleep adds is noticed no later than this after waking up.
 */
const comparisonMillis = 0.5

const nanosPerMilli = 1_000_000

/** The runtime's own clock, as opposed to a test's. */
const runtimeClock = Context.get(Context.empty(), Clock.Clock)

export class NodeClock {
  private readonly clock: Clock.Clock
  private readonly isRuntime: boolean
  /** What the wall clock has run ahead of the monotonic one in all its jumps forward. */
  private ahead = 0
  private lastDrift: number
  private lastCompared: number

  constructor(clock: Clock.Clock) {
    this.clock = clock
    this.isRuntime = clock === runtimeClock
    this.lastCompared = this.monotonic()
    this.lastDrift = clock.currentTimeMillisUnsafe() - this.lastCompared
  }

  /** Milliseconds since an arbitrary point; never goes back. */
  now(): number {
    const monotonic = this.monotonic()
    if (monotonic - this.lastCompared >= comparisonMillis) this.compare(monotonic)
    return monotonic + this.ahead
  }

  private compare(monotonic: number): void {
    this.lastCompared = monotonic
    const drift = this.clock.currentTimeMillisUnsafe() - monotonic
    const jump = drift - this.lastDrift
    if (jump > resolutionMillis) {
      this.ahead += jump
      this.lastDrift = drift
    } else if (jump < -resolutionMillis) {
      this.lastDrift = drift
    }
  }

  // The runtime's monotonic clock comes as a `bigint`, which takes twice as long as the same clock as a number.
  private monotonic(): number {
    if (this.isRuntime) return performance.now()
    return Number(this.clock.monotonicTimeNanosUnsafe()) / nanosPerMilli
  }
}
