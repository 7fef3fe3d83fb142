/** A store that a test can watch, take down, and stop in the middle of an operation. */
import { type SessionOptions, SessionStore, SessionStoreUnavailable, type Sessions } from "@effect-pg-session/core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"

export type Operation = "find" | "create" | "createAnonymous" | "rotate" | "modify" | "delete" | "deleteAllForUser"

/** An operation that was stopped, or will be. */
export interface Pause {
  readonly arrived: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

export interface WatchedStore {
  /** What was asked of the store so far. */
  readonly calls: Array<Operation>
  /** The least versions that were asked for so far. */
  readonly versions: Array<bigint | undefined>
  /** Which of the reads so far demanded the database's answer. */
  readonly refreshed: Array<boolean>
  /** From now on the store is unavailable, or available again. */
  readonly down: (is: boolean) => Effect.Effect<void>
  /** Stops the next such operation before it begins, or after it is done. */
  readonly pause: (when: "before" | "after", operation: Operation) => Effect.Effect<Pause>
}

/** The means to watch, beside a `SessionStore` that is watched. */
export class Watched extends Context.Service<Watched, WatchedStore>()("@effect-pg-session/http/test/Watched") {
  static readonly layer = <E, R>(store: Layer.Layer<SessionStore, E, R>): Layer.Layer<SessionStore | Watched, E, R> =>
    Layer.effectContext(
      Effect.gen(function* () {
        const sessions = yield* SessionStore
        const watched = make()
        return Context.make(SessionStore, watch(sessions, watched)).pipe(Context.add(Watched, watched))
      })
    ).pipe(Layer.provide(store))

  static readonly layerMemory = (options?: SessionOptions) => Watched.layer(SessionStore.layerMemory(options))
}

interface Gate extends Pause {
  readonly when: "before" | "after"
  readonly operation: Operation
  readonly enter: Effect.Effect<void>
}

interface Watching extends WatchedStore {
  readonly through: <A, E, R>(
    operation: Operation,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SessionStoreUnavailable, R>
}

/** What must not reach a client. */
export const detail = "the test has taken down postgres://database.internal"

const unavailable = (operation: string) =>
  new SessionStoreUnavailable({ operation, reason: "Unreachable", outcome: "NotApplied", detail })

const make = (): Watching => {
  const calls: Array<Operation> = []
  const versions: Array<bigint | undefined> = []
  const refreshed: Array<boolean> = []
  const gates: Array<Gate> = []
  let isDown = false

  const stop = (when: Gate["when"], operation: Operation) =>
    Effect.suspend(() => {
      const index = gates.findIndex((gate) => gate.when === when && gate.operation === operation)
      const [gate] = index < 0 ? [] : gates.splice(index, 1)
      return gate === undefined ? Effect.void : gate.enter
    })

  return {
    calls,
    versions,
    refreshed,
    down: (is) => Effect.sync(() => void (isDown = is)),
    pause: (when, operation) =>
      Effect.sync(() => {
        const arrived = Latch.makeUnsafe()
        const resume = Latch.makeUnsafe()
        const enter = Effect.andThen(arrived.open, resume.await)
        const gate = { when, operation, enter, arrived: arrived.await, resume: Effect.asVoid(resume.open) }
        gates.push(gate)
        return gate
      }),
    through: <A, E, R>(operation: Operation, effect: Effect.Effect<A, E, R>) =>
      Effect.suspend((): Effect.Effect<A, E | SessionStoreUnavailable, R> => {
        calls.push(operation)
        return isDown
          ? Effect.fail(unavailable(operation))
          : Effect.tap(Effect.andThen(stop("before", operation), effect), () => stop("after", operation))
      })
  }
}

const watch = (sessions: Sessions, { refreshed, through, versions }: Watching): Sessions => ({
  ...sessions,
  find: (id, options) => {
    versions.push(options?.minVersion)
    refreshed.push(options?.refresh === true)
    return through("find", sessions.find(id, options))
  },
  create: (userId, options) => through("create", sessions.create(userId, options)),
  createAnonymous: (options) => through("createAnonymous", sessions.createAnonymous(options)),
  rotate: (id, options) => through("rotate", sessions.rotate(id, options)),
  modify: (id, f, options) => through("modify", sessions.modify(id, f, options)),
  delete: (id) => through("delete", sessions.delete(id)),
  deleteAllForUser: (userId, options) => through("deleteAllForUser", sessions.deleteAllForUser(userId, options))
})
