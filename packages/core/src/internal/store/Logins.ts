/**
 * Creating sessions: concurrent logins of one node share statements, each is
 * answered by itself, and one that must wait holds up nobody else: it goes on in a
 * lane of its own. Logins of one user take turns.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import {
  type AttributeInvalid,
  type AttributeTooLarge,
  type SessionStoreUnavailable,
  type SessionTooLarge,
  TooManySessions
} from "../../SessionError.ts"
import { givenId, keyOfToken, type UserId, type WithGivenId } from "../../SessionId.ts"
import type { CreateOutcome, CreateRequest, SessionLimit, Storage } from "../../SessionStorage.ts"
import type { CreateOptions } from "../../SessionStore.ts"
import * as Coalescer from "../Coalescer.ts"
import { type Fill, userOwner } from "../FillRegistry.ts"
import type { AnswerTime } from "../SessionView.ts"
import { encodeAll, idleMillis, lifetimeMillis } from "./Encoding.ts"
import type { Operations } from "./Operations.ts"
import type { Presented } from "../Proof.ts"
import { givenOr } from "./GivenId.ts"
import { letGo, takeIn } from "./TakeIn.ts"
import { writeEach } from "./Writes.ts"

/** Logins that may wait, in each lane. */
const maxPending = 20_000
/**
 * Logins that share a statement, and how long their values may be together, in characters. PostgreSQL has room for 64 locks per
 * connection where nobody has set `max_locks_per_transaction`, and each of these may need one.
 */
const maxBatch = 50
const maxWeight = 1_048_576
/** Statements in flight that are shared, and from how many waiting logins on there is a further one. */
const fastLane = 3
const minShare = 16
/** Logins at once that must wait for somebody, each with a connection. */
const waitingLane = 4

interface Login {
  readonly presented: Presented
  readonly request: CreateRequest
  readonly isGiven: boolean
}

type Failure = TooManySessions | SessionStoreUnavailable
type EncodingError = AttributeInvalid | AttributeTooLarge | SessionTooLarge

export interface Logins {
  readonly insert: (
    userId: UserId | undefined,
    lifetime: number,
    options: (CreateOptions & WithGivenId) | undefined
  ) => Effect.Effect<Session, Failure | EncodingError>
}

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings,
  operations: Operations
): Effect.fn.Return<Logins, never, Scope.Scope> {
  const limit: SessionLimit = { max: settings.maxSessionsPerUser, onLimit: settings.onSessionLimit }

  const settle = (
    { isGiven, presented, request }: Login,
    outcome: CreateOutcome,
    fill: Fill,
    time: AnswerTime
  ): Exit.Exit<Session, Failure> => {
    const { key, userId } = request
    if (outcome._tag === "TooManySessions") {
      return userId === undefined
        ? Exit.die(new Error("the storage limited the sessions of guests"))
        : Exit.fail(new TooManySessions({ userId, limit: limit.max }))
    }
    letGo(cache, operations, outcome.evicted)
    operations.publish({ _tag: "Created", key, userId })
    // Somebody may have looked for a given id before there was anything.
    if (isGiven) cache.acknowledge(key, outcome.row.version)
    return Exit.succeed(takeIn(cache, fill, outcome.row, time, presented))
  }

  const sendAll = (
    logins: ReadonlyArray<Login>,
    statement: (requests: ReadonlyArray<CreateRequest>) => ReturnType<Storage["tryCreate"]>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<Session | undefined, Failure>>> =>
    writeEach(cache, logins, statement, (login, outcome, fill, time) =>
      outcome._tag === "Undone" ? undone : settle(login, outcome, fill, time)
    )

  const lane = (
    options: Pick<
      Coalescer.Options<Login, Session | undefined, Failure>,
      "maxBatch" | "concurrency" | "minShare" | "send"
    >
  ) =>
    Coalescer.make<Login, Session | undefined, Failure>({
      operation: "create the session",
      maxPending,
      maxWeight,
      patience: { millis: settings.statementTimeout, now: () => cache.clock.now() },
      weigh: ({ request }) => request.attributes.reduce((sum, { value }) => sum + value.length, 0),
      // A second login of a user could only wait for the first one.
      keyOf: ({ request: { userId } }) => (userId === undefined ? undefined : userOwner(userId)),
      ...options
    })

  const waiting = yield* lane({
    maxBatch: 1,
    concurrency: waitingLane,
    send: (logins) =>
      sendAll(logins, ([request]) =>
        request === undefined
          ? Effect.die(new Error("an empty batch"))
          : Effect.map(storage.create(request), ({ now, ...outcome }) => ({ now, outcomes: [outcome] }))
      )
  })

  const fast = yield* lane({
    maxBatch,
    concurrency: fastLane,
    minShare,
    send: (logins) => sendAll(logins, storage.tryCreate)
  })

  const submit = (login: Login): Effect.Effect<Session, Failure> =>
    Effect.flatMap(fast.submit(login), (answer) =>
      answer === undefined
        ? Effect.flatMap(waiting.submit(login), (late) => (late === undefined ? missingAnswer : Effect.succeed(late)))
        : Effect.succeed(answer)
    )

  return {
    insert: (userId, lifetime, options) =>
      Effect.flatMap(encodeAll(options?.attributes ?? [], settings), (attributes) => {
        const presented = givenOr(options)
        const request: CreateRequest = {
          key: keyOfToken(presented.token),
          secretHash: presented.proof,
          userId,
          groupId: options?.groupId,
          lifetime:
            options?.expiresIn === undefined ? lifetime : lifetimeMillis(Duration.fromInputUnsafe(options.expiresIn)),
          idleTimeout: idleMillis(
            options?.idleTimeout === undefined
              ? Duration.millis(settings.idleTimeout)
              : Duration.fromInputUnsafe(options.idleTimeout)
          ),
          attributes,
          limit
        }
        const isGiven = options?.[givenId] !== undefined
        return operations.run("create the session", submit({ presented, request, isGiven }))
      })
  }
})

/** The answer for a login that must be done by itself. */
const undone = Exit.succeed(undefined)
const missingAnswer = Exit.die(new Error("a login that was to be done by itself was left again"))
