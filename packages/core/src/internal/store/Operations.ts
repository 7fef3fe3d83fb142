/**
 * What all operations of a store share: the gate that closes at shutdown, the
 * fibers of the library's own in which statements run to their end whatever
 * happens to the caller, and the events.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
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
  // Closed after everything that is registered from now on, so after the gate and the waiting.
  const fibers = yield* FiberSet.make<unknown, unknown>()
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

  const cutOff = (operation: string) =>
    new SessionStoreUnavailable({
      operation,
      reason: "Closed",
      outcome: "Unknown",
      detail: "the session layer was closed meanwhile"
    })

  const settled = () => {
    active--
    if (active === 0) {
      for (const resume of idle.splice(0)) resume()
    }
  }

  return {
    isOpen: () => open,
    closed,
    run: <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
      // Counted, forked and observed in one step, between which nothing can interrupt.
      Effect.withFiber((caller): Effect.Effect<A, E | SessionStoreUnavailable> => {
        if (!open) return Effect.fail(closed(operation))
        active++
        const fiber = Effect.runForkWith(caller.context)(effect)
        fiber.addObserver(settled)
        FiberSet.addUnsafe(fibers, fiber)
        return Effect.flatMap(Fiber.await(fiber), (exit): Effect.Effect<A, E | SessionStoreUnavailable> =>
          Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Effect.fail(cutOff(operation)) : exit
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
