/**
 * Knows when this process did not run: stopped by a signal, or busy. What it did
 * late because of that is its own lateness, not the library's.
 */
import { now } from "../Timing.ts"

const interval = 10
/** Gaps above this are kept. */
const noticed = 20
const kept = 256

let last = now()
const gaps: Array<{ readonly end: number; readonly length: number }> = []

const tick = (): void => {
  const time = now()
  const length = time - last
  if (length > noticed) {
    gaps.push({ end: time, length })
    if (gaps.length > kept) gaps.shift()
  }
  last = time
}

setInterval(tick, interval).unref()

/** The longest time since `start` in which nothing ran here, up to this very moment. */
export const longestSince = (start: number): number =>
  gaps.reduce((longest, gap) => (gap.end >= start ? Math.max(longest, gap.length) : longest), now() - last)
