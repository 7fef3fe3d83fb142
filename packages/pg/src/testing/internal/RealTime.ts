/**
 * Real time for what talks to real processes: under `TestClock` a timeout or a
 * poll would wait for ever.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

const clock = Clock.Clock.defaultValue()

/** Runs `self` with the wall clock, whatever clock the caller has. */
export const inRealTime = Effect.provideService(Clock.Clock, clock)

/**
 * Checks every 10 ms of real time until `condition` holds: `true` then, `false`
 * when `timeout` has passed without. It counts the time itself, so it ends also
 * where it cannot be interrupted.
 */
export const waitUntil = Effect.fnUntraced(function* <E, R>(
  condition: Effect.Effect<boolean, E, R>,
  timeout: Duration.Input
): Effect.fn.Return<boolean, E, R> {
  const deadline = (yield* Clock.monotonicTimeNanos) + Duration.toNanosUnsafe(timeout)
  while (!(yield* condition)) {
    if ((yield* Clock.monotonicTimeNanos) > deadline) return false
    yield* Effect.sleep("10 millis")
  }
  return true
}, inRealTime)
