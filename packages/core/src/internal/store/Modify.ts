/**
 * The whole optimistic loop: read, change, write, and start over with the session
 * as it stands when the race was lost.
 *
 * Who lost takes turns with the other losers of this node, one at a time per
 * session, so that n racers need about 2n attempts instead of n squared. Only other
 * nodes, and first attempts, can still come in between.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Semaphore from "effect/Semaphore"
import type { Session } from "../../Session.ts"
import type { AttributeVersionMismatch, ReadError, VersionMismatch, WriteError } from "../../SessionError.ts"
import { SessionId, type SessionKey } from "../../SessionId.ts"
import type { LockFence } from "../../SessionLockStorage.ts"
import type { Check, FencedBy, Mismatch, ModifyOptions, Sessions } from "../../SessionStore.ts"
import type { Reads } from "./Reads.ts"
import type { Updates } from "./Updates.ts"

/** `modify` starts over this often unless told otherwise. */
const defaultRetries = 100
/** The longest pause before it starts over, in milliseconds. */
const maxRetryDelay = 16

export type Modify = Sessions["modify"]

/**
 * Whether this fiber has a turn already. A `modify` within the callback of another one never waits for a turn: two that
 * wait for each other's would wait for ever.
 */
const HasTurn = Context.Reference<boolean>("@effect-pg-session/core/Modify/HasTurn", { defaultValue: () => false })

export const make = (get: Reads["get"], update: Updates["update"]): Modify => {
  const turns = new Map<SessionKey, { readonly semaphore: Semaphore.Semaphore; waiting: number }>()

  const inTurn = <A, E, R>(key: SessionKey, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const turn = turns.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), waiting: 0 }
        turns.set(key, turn)
        turn.waiting++
        return turn
      }),
      ({ semaphore }) => semaphore.withPermit(Effect.provideService(effect, HasTurn, true)),
      (turn) =>
        Effect.sync(() => {
          turn.waiting--
          if (turn.waiting === 0) turns.delete(key)
        })
    )

  const modify: Modify = <E, R, C extends Check, F extends LockFence>(
    id: SessionId,
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyOptions<C, F>
  ) => {
    type Attempt = Effect.Effect<Session, E | ReadError | WriteError | Mismatch<C> | FencedBy<F>, R>
    const retries = options?.retries ?? defaultRetries

    const write = (session: Session, tries: number): Attempt =>
      Effect.catch(update(session, options), (error): Attempt =>
        isMismatch(error) && tries < retries ? startOver(error.current, tries + 1) : Effect.fail(error)
      )

    const attempt = (session: Session, tries: number): Attempt =>
      Effect.suspend(() => {
        const changed = f(session)
        return Effect.isEffect(changed) ? Effect.flatMap(changed, (next) => write(next, tries)) : write(changed, tries)
      })

    const startOver = (current: Session, tries: number): Attempt =>
      Effect.flatMap(HasTurn, (hasTurn) =>
        hasTurn
          ? Effect.andThen(pause(tries), attempt(current, tries))
          : // By the time it is our turn the session has moved on.
            inTurn(
              SessionId.key(id),
              Effect.flatMap(get(id, { touch: false }), (session) => attempt(session, tries))
            )
      )

    return Effect.flatMap(get(id, options?.touch === false ? { touch: false } : undefined), (session) =>
      attempt(session, 0)
    )
  }
  return modify
}

/** Random, so that nodes that lost to each other do not meet again. */
const pause = (attempt: number): Effect.Effect<void> =>
  attempt < 4
    ? Effect.yieldNow
    : Effect.flatMap(Random.next, (random) => Effect.sleep(random * Math.min(maxRetryDelay, attempt - 3)))

const isMismatch = (error: { readonly _tag: string }): error is VersionMismatch | AttributeVersionMismatch =>
  error._tag === "VersionMismatch" || error._tag === "AttributeVersionMismatch"
