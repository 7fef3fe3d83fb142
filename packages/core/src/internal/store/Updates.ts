/**
 * Changing sessions: concurrent updates of one node share statements, each is
 * answered by itself, and every answer, a refusal included, brings the cache up to
 * date. A session that somebody else has locked does not hold up the others: its
 * change waits in a lane of its own.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import {
  AttributeVersionMismatch,
  Fenced,
  SessionNotFound,
  SessionTooLarge,
  VersionMismatch,
  type WriteError
} from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { Storage, WriteOutcome, WriteRequest } from "../../SessionStorage.ts"
import type { LockFence } from "../../SessionLockStorage.ts"
import type { Check, FencedBy, Mismatch, Sessions, UpdateOptions } from "../../SessionStore.ts"
import * as Coalescer from "../Coalescer.ts"
import type { Fill } from "../FillRegistry.ts"
import { resourceOf } from "../lock/LockKeys.ts"
import { SessionImpl } from "../SessionImpl.ts"
import type { AnswerTime } from "../SessionView.ts"
import { applyAccepted, encodeChanges } from "./Encoding.ts"
import { type Change, refuseKnown, type UpdateFailure } from "./KnownRefusal.ts"
import type { Operations } from "./Operations.ts"
import { takeIn } from "./TakeIn.ts"
import { writeEach } from "./Writes.ts"

/** Changes that may wait, in each lane. */
const maxPending = 20_000
/** Changes that share a statement, and how long their values may be together, in characters: one large one shall not delay 255 others. */
const maxBatch = 256
const maxWeight = 1_048_576
/**
 * Batches of the fast lane in flight, so that this process makes one while PostgreSQL writes another, and from how many waiting
 * changes on there is a further one. More than three only divide the crowd: commits that notify wait for each other.
 */
const fastLane = 3
const minShare = 16
/** Sessions that are waited for at once, each with a connection. */
const waitingLane = 4

export interface Updates {
  readonly update: Sessions["update"]
  /** Waits until every update has been answered. */
  readonly drained: Effect.Effect<void>
  readonly pending: () => number
}

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings,
  operations: Operations
): Effect.fn.Return<Updates, never, Scope.Scope> {
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
        const row = outcome.row ?? applyAccepted(session.view, request, version, now)
        operations.publish({ _tag: "Updated", key, version, attributes: [...session.changes.keys()] })
        return Exit.succeed(takeIn(cache, fill, row, { sentAt: time.sentAt, now }, session, session.view))
      }
      case "Gone":
        cache.acknowledge(key, undefined)
        return Exit.fail(new SessionNotFound({ key }))
      case "Fenced":
        return Exit.fail(
          new Fenced({ key, resource: resourceOf(request.fence?.lock), token: request.fence?.token ?? 0n })
        )
      case "VersionMismatch":
        return Exit.fail(
          new VersionMismatch({
            key,
            expected: request.expectedVersion ?? request.baseVersion,
            actual: outcome.row.version,
            current: takeIn(cache, fill, outcome.row, time, session, session.view)
          })
        )
      case "AttributeVersionMismatch":
        return Exit.fail(
          new AttributeVersionMismatch({
            key,
            attribute: outcome.attribute,
            expected: request.expectedAttributes.find(([name]) => name === outcome.attribute)?.[1] ?? 0n,
            actual: outcome.actual,
            current: takeIn(cache, fill, outcome.row, time, session, session.view)
          })
        )
      case "TooLarge":
        return Exit.fail(new SessionTooLarge({ key, bytes: outcome.bytes, limit: request.maxBytes }))
    }
  }

  const sendAll = (
    changes: ReadonlyArray<Change>,
    statement: (requests: ReadonlyArray<WriteRequest>) => ReturnType<Storage["tryWrite"]>
  ): Effect.Effect<Answers> =>
    writeEach(cache, changes, statement, (change, outcome, fill, time): Answer => {
      switch (outcome._tag) {
        case "Busy":
          return postpone(change)
        case "Unavailable":
          if (outcome.error.outcome === "Unknown") cache.forget(change.request.key)
          return Exit.fail(outcome.error)
        default:
          return settle(change, outcome, fill, time)
      }
    })

  const lane = (
    options: Pick<
      Coalescer.Options<Change, Session | Late, UpdateFailure>,
      "maxBatch" | "concurrency" | "minShare" | "send"
    >
  ) =>
    Coalescer.make<Change, Session | Late, UpdateFailure>({
      operation: "update the session",
      maxPending,
      maxWeight,
      patience: { millis: settings.statementTimeout, now: () => cache.clock.now() },
      weigh: ({ request }) => request.set.reduce((sum, { value }) => sum + value.length, 0),
      keyOf: ({ request }) => request.key,
      ...options
    })

  const waiting = yield* lane({
    maxBatch: 1,
    concurrency: waitingLane,
    send: (changes) =>
      answerAll(
        changes,
        (change) => refuseKnown(cache, change),
        (rest) => sendAll(rest, storage.write)
      )
  })
  /** How many changes of a session are in the waiting lane: later ones must not overtake them. */
  const postponed = new Map<SessionKey, number>()

  /** Moves a change to the waiting lane at once, so that the order of a session's changes is kept. */
  const postpone = (change: Change): Exit.Exit<Late> => {
    const { key } = change.request
    postponed.set(key, (postponed.get(key) ?? 0) + 1)
    const settled = () => {
      const others = (postponed.get(key) ?? 1) - 1
      if (others === 0) postponed.delete(key)
      else postponed.set(key, others)
    }
    const result = Deferred.makeUnsafe<Session | Late, UpdateFailure>()
    const takeBack = waiting.submitUnsafe(change, (exit) => {
      settled()
      Deferred.doneUnsafe(result, exit)
    })
    return Exit.succeed(new Late(result, () => takeBack() && settled()))
  }

  const fast = yield* lane({
    maxBatch,
    concurrency: fastLane,
    minShare,
    send: (changes) =>
      answerAll(
        changes,
        (change) => (postponed.has(change.request.key) ? postpone(change) : refuseKnown(cache, change)),
        (rest) => sendAll(rest, storage.tryWrite)
      )
  })

  const submit = (change: Change): Effect.Effect<Session, UpdateFailure> =>
    Effect.flatMap(fast.submit(change), (answer) =>
      answer instanceof Late
        ? Effect.flatMap(
            Effect.onInterrupt(Deferred.await(answer.result), () => Effect.sync(answer.takeBack)),
            (late) => (late instanceof Late ? missingAnswer : Effect.succeed(late))
          )
        : Effect.succeed(answer)
    )

  const update = <C extends Check = "attributes", F extends LockFence = never>(
    session: Session,
    options?: UpdateOptions<C, F>
  ): Effect.Effect<Session, WriteError | Mismatch<C> | FencedBy<F>> =>
    Effect.suspend(() => {
      const changed = SessionImpl.of(session)
      if (!operations.isOpen()) return Effect.fail(operations.closed("update the session"))
      if (!changed.hasChanges) return Effect.succeed(session)
      const updated = Effect.flatMap(encodeChanges(changed, options, settings), (request) =>
        submit({ session: changed, request })
      )
      // The request asks for one kind of check only, so only that mismatch can be the answer; so with the fence.
      return updated as Effect.Effect<Session, WriteError | Mismatch<C> | FencedBy<F>>
    })

  return {
    update,
    drained: Effect.andThen(fast.drained, waiting.drained),
    pending: () => fast.pending() + waiting.pending()
  }
})

type Answer = Exit.Exit<Session | Late, UpdateFailure>
type Answers = ReadonlyArray<Answer>

/** Answers at once what can be, and the rest with one statement. */
const answerAll = (
  changes: ReadonlyArray<Change>,
  atOnce: (change: Change) => Answer | undefined,
  answerRest: (changes: ReadonlyArray<Change>) => Effect.Effect<Answers>
): Effect.Effect<Answers> =>
  Effect.suspend(() => {
    const known = changes.map(atOnce)
    const rest = changes.filter((_, index) => known[index] === undefined)
    if (rest.length === changes.length) return answerRest(changes)
    if (rest.length === 0) return Effect.succeed(known.map((exit) => exit ?? missingAnswer))
    return Effect.map(answerRest(rest), (exits) => {
      const answered = exits.values()
      return known.map((exit) => exit ?? answered.next().value ?? missingAnswer)
    })
  })

/** The answer for a session that somebody else has locked: it comes later. */
class Late {
  readonly result: Deferred.Deferred<Session | Late, UpdateFailure>
  readonly takeBack: () => void

  constructor(result: Deferred.Deferred<Session | Late, UpdateFailure>, takeBack: () => void) {
    this.result = result
    this.takeBack = takeBack
  }
}

const missingAnswer = Exit.die(new Error("a change was answered without a result"))
