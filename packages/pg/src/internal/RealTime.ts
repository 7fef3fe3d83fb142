/**
 * Real time for what talks to a real server: a connection that is silent under a
 * test's clock would be waited for without end.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Runs an effect, and all that it forks, with the wall clock, whatever `Clock` the caller has. */
export const inRealTime: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Clock.Clock,
  Clock.Clock.defaultValue()
)
