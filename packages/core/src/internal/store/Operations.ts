/**
 * What all operations of a store share: the gate that closes at shutdown, the
 * fibers of the library's own in which statements run to their end whatever
 * happens to the caller, and the events.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionEvent } from "../../SessionEvent.ts"

/** Events that a slow subscriber may be behind; then it loses the oldest. */
const eventBuffer = 4_096

export interface Operations {
  /** Fails at once when the layer is closing. `operation` completes the sentence "could not ...". */
  readonly isOpen: () => boolean
  readonly closed: (operation: string) => SessionStoreUnavailable
  /** Runs a write in a fiber of the layer: the caller's interruption stops the waiting, not the write. */
  readonly run: <A, E>(operation: string, effect: Effect.Effect<A, E>) => Effect.Effect<A, E | SessionStoreUnavailable>
  readonly publish: (event: SessionEvent) => void
  readonly events: Stream.Stream<SessionEvent>
  /** Closes the gate and waits for what {@link run} has begun. */
  readonly close: Effect.Effect<void>
}

export const make: Effect.Effect<Operations, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Scope.Scope
  const pubsub = yield* PubSub.sliding<SessionEvent>(eventBuffer)
  yield* Effect.addFinalizer(() => PubSub.shutdown(pubsub))
  const idle: Array<() => void> = []
  let open = true
  let active = 0

  const closed = (operation: string) =>
    new SessionStoreUnavailable({
      operation,
      reason: "Closed",
      outcome: "NotApplied",
      detail: "the session layer is closed"
    })

  const settled = Effect.sync(() => {
    active--
    if (active === 0) {
      for (const resume of idle.splice(0)) resume()
    }
  })

  return {
    isOpen: () => open,
    closed,
    run: <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
      Effect.suspend((): Effect.Effect<A, E | SessionStoreUnavailable> => {
        if (!open) return Effect.fail(closed(operation))
        active++
        return Effect.flatMap(
          Effect.forkIn(Effect.ensuring(effect, settled), scope, { startImmediately: true }),
          Fiber.join
        )
      }),
    publish: (event) => {
      PubSub.publishUnsafe(pubsub, event)
    },
    events: Stream.fromPubSub(pubsub),
    close: Effect.callback<void>((resume) => {
      open = false
      if (active === 0) resume(Effect.void)
      else idle.push(() => resume(Effect.void))
    })
  }
})
