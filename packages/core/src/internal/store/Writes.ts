/**
 * Changing sessions: concurrent updates of one node share statements, each is
 * answered by itself, and every answer, a refusal included, brings the cache up to
 * date.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import {
  AttributeVersionMismatch,
  type ReadError,
  SessionNotFound,
  type SessionStoreUnavailable,
  SessionTooLarge,
  VersionMismatch,
  type WriteError
} from "../../SessionError.ts"
import type { SessionId } from "../../SessionId.ts"
import type { SessionRow, Storage, WriteOutcome, WriteRequest } from "../../SessionStorage.ts"
import type { Check, FindOptions, Mismatch, ModifyOptions, UpdateOptions } from "../../SessionStore.ts"
import * as Coalescer from "../Coalescer.ts"
import type { Fill } from "../FillRegistry.ts"
import { type AnswerTime, SessionImpl } from "../SessionView.ts"
import { applyAccepted, encodeChanges } from "./Encoding.ts"
import type { Operations } from "./Operations.ts"

/** Changes that may wait, and that share a statement. */
const maxPending = 20_000
const maxBatch = 256
/** `modify` starts over this often unless told otherwise. */
const defaultRetries = 100
/** The longest pause before `modify` starts over, in milliseconds. */
const maxRetryDelay = 8

type UpdateFailure = WriteError | VersionMismatch | AttributeVersionMismatch

interface Change {
  readonly session: SessionImpl
  readonly request: WriteRequest
}

export interface Writes {
  readonly update: <C extends Check = "attributes">(
    session: Session,
    options?: UpdateOptions<C>
  ) => Effect.Effect<Session, WriteError | Mismatch<C>>
  readonly modify: <E = never, R = never, C extends Check = "attributes">(
    id: SessionId,
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyOptions<C>
  ) => Effect.Effect<Session, E | ReadError | WriteError | Mismatch<C>, R>
  /** Waits until every update has been answered. */
  readonly drained: Effect.Effect<void>
  readonly pending: () => number
}

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings,
  operations: Operations,
  get: (id: SessionId, options?: FindOptions) => Effect.Effect<Session, ReadError>
): Effect.fn.Return<Writes, never, Scope.Scope> {
  const { clock } = cache

  /** The session with this id as the row says, cached where that is allowed. */
  const take = (fill: Fill, row: SessionRow, time: AnswerTime, { id, view }: SessionImpl): Session => {
    // The own notice may have come first and have dropped the entry.
    const entry = cache.admit(fill, row, time, view)
    cache.acknowledge(row.key, row.version)
    const proof = cache.verify(entry, Redacted.value(id))
    return proof._tag === "Accepted" ? proof.handle.session : new SessionImpl(entry.view, id)
  }

  const settle = (
    change: Change,
    outcome: WriteOutcome,
    fill: Fill,
    time: AnswerTime
  ): Exit.Exit<Session, UpdateFailure> => {
    const { request, session } = change
    const { key } = request
    switch (outcome._tag) {
      case "Accepted": {
        const { now, version } = outcome
        const row = outcome.row ?? applyAccepted(session.view.row, request, version, now)
        operations.publish({ _tag: "Updated", key, version, attributes: [...session.changes.keys()] })
        return Exit.succeed(take(fill, row, { sentAt: time.sentAt, now }, session))
      }
      case "Gone":
        cache.acknowledge(key, undefined)
        return Exit.fail(new SessionNotFound({ key }))
      case "VersionMismatch":
        return Exit.fail(
          new VersionMismatch({
            key,
            expected: request.expectedVersion ?? request.baseVersion,
            actual: outcome.row.version,
            current: take(fill, outcome.row, time, session)
          })
        )
      case "AttributeVersionMismatch":
        return Exit.fail(
          new AttributeVersionMismatch({
            key,
            attribute: outcome.attribute,
            expected: request.expectedAttributes.find(([name]) => name === outcome.attribute)?.[1] ?? 0n,
            actual: outcome.actual,
            current: take(fill, outcome.row, time, session)
          })
        )
      case "TooLarge":
        return Exit.fail(new SessionTooLarge({ key, bytes: outcome.bytes, limit: request.maxBytes }))
    }
  }

  /**
   * A change that waited while another one of this node won the race for its session needs no statement to be refused:
   * versions never come back, so what is in memory is proof enough.
   */
  const refuseKnown = ({ request, session }: Change): Exit.Exit<Session, UpdateFailure> | undefined => {
    const entry = cache.live(request.key, clock.now())
    if (entry === undefined || entry.view.row.version <= request.baseVersion) return undefined
    const proof = cache.verify(entry, Redacted.value(session.id))
    if (proof._tag !== "Accepted") return undefined
    const current = proof.handle.session
    if (request.expectedVersion !== undefined) {
      return Exit.fail(
        new VersionMismatch({
          key: request.key,
          expected: request.expectedVersion,
          actual: entry.view.row.version,
          current
        })
      )
    }
    for (const [attribute, expected] of request.expectedAttributes) {
      const actual = entry.view.stored(attribute)?.version ?? 0n
      if (actual > expected) {
        return Exit.fail(new AttributeVersionMismatch({ key: request.key, attribute, expected, actual, current }))
      }
    }
    return undefined
  }

  const send = (changes: ReadonlyArray<Change>): Effect.Effect<ReadonlyArray<Exit.Exit<Session, UpdateFailure>>> =>
    Effect.suspend(() => {
      const known = changes.map(refuseKnown)
      if (!known.includes(undefined)) return Effect.succeed(known.filter((exit) => exit !== undefined))
      return Effect.map(sendStatement(changes.filter((_, index) => known[index] === undefined)), (exits) => {
        const answered = exits.values()
        return known.map((exit) => exit ?? answered.next().value ?? missingAnswer)
      })
    })

  const sendStatement = (
    changes: ReadonlyArray<Change>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<Session, UpdateFailure>>> =>
    Effect.suspend(() => {
      const fills = changes.map(({ request }) => cache.fills.begin(request.key))
      const sentAt = clock.now()
      const lost = (error: SessionStoreUnavailable) => {
        if (error.outcome === "Unknown") {
          for (const { request } of changes) cache.forget(request.key)
        }
        return changes.map(() => Exit.fail(error))
      }
      return storage.write(changes.map(({ request }) => request)).pipe(
        Effect.map(({ now, outcomes }) =>
          changes.map((change, index) => {
            const outcome = outcomes[index]
            const fill = fills[index]
            return outcome === undefined || fill === undefined
              ? missingAnswer
              : settle(change, outcome, fill, { sentAt, now })
          })
        ),
        Effect.catch((error) => Effect.sync(() => lost(error))),
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            for (const { request } of changes) cache.forget(request.key)
          })
        ),
        Effect.ensuring(
          Effect.sync(() => {
            for (const fill of fills) cache.fills.end(fill)
          })
        )
      )
    })

  const coalescer = yield* Coalescer.make<Change, Session, UpdateFailure>({
    operation: "update the session",
    maxBatch,
    maxPending,
    concurrency: 1,
    keyOf: ({ request }) => request.key,
    send
  })

  const update = <C extends Check = "attributes">(
    session: Session,
    options?: UpdateOptions<C>
  ): Effect.Effect<Session, WriteError | Mismatch<C>> =>
    Effect.suspend(() => {
      const changed = SessionImpl.of(session)
      if (!operations.isOpen()) return Effect.fail(operations.closed("update the session"))
      if (!changed.hasChanges) return Effect.succeed(session)
      const updated = Effect.flatMap(encodeChanges(changed, options, settings), (request) =>
        coalescer.submit({ session: changed, request })
      )
      // The request asks for one kind of check only, so only that mismatch can be the answer.
      return updated as Effect.Effect<Session, WriteError | Mismatch<C>>
    })

  // Racers of this node take turns by themselves; pauses are for those of other nodes.
  const pause = (attempt: number): Effect.Effect<void> =>
    attempt < 4
      ? Effect.yieldNow
      : Effect.flatMap(Random.next, (random) => Effect.sleep(random * Math.min(maxRetryDelay, attempt - 3)))

  const modify: Writes["modify"] = <E, R, C extends Check>(
    id: SessionId,
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyOptions<C>
  ) => {
    const retries = options?.retries ?? defaultRetries
    const write = (session: Session, tries: number): Effect.Effect<Session, E | WriteError | Mismatch<C>, R> =>
      Effect.catch(update(session, options), (error) =>
        isMismatch(error) && tries < retries
          ? Effect.andThen(pause(tries), attempt(error.current, tries + 1))
          : Effect.fail(error)
      )
    const attempt = (session: Session, tries: number): Effect.Effect<Session, E | WriteError | Mismatch<C>, R> =>
      Effect.suspend(() => {
        const changed = f(session)
        return Effect.isEffect(changed) ? Effect.flatMap(changed, (next) => write(next, tries)) : write(changed, tries)
      })
    return Effect.flatMap(get(id, options?.touch === false ? { touch: false } : undefined), (session) =>
      attempt(session, 0)
    )
  }

  return { update, modify, drained: coalescer.drained, pending: coalescer.pending }
})

const missingAnswer = Exit.die(new Error("the storage answered fewer changes than it was given"))

const isMismatch = (error: { readonly _tag: string }): error is VersionMismatch | AttributeVersionMismatch =>
  error._tag === "VersionMismatch" || error._tag === "AttributeVersionMismatch"
