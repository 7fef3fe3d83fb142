/**
 * Nodes on one in-process database whose order of events a test decides: it
 * holds notices, stops statements before they are applied or before their answer
 * is seen, and skews the clock of a single node.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as MemoryDatabase from "../../src/internal/memory/MemoryDatabase.ts"
import * as MemoryNotifier from "../../src/internal/memory/MemoryNotifier.ts"
import * as MemoryStorage from "../../src/internal/memory/MemoryStorage.ts"
import { NodeClock } from "../../src/internal/NodeClock.ts"
import { Board } from "../../src/internal/NoticeBoard.ts"
import * as Store from "../../src/internal/store/Store.ts"
import { Session } from "../../src/Session.ts"
import { SessionAttribute } from "../../src/SessionAttribute.ts"
import { Cache } from "../../src/SessionCache.ts"
import { makeSettings, type SessionOptions } from "../../src/SessionConfig.ts"
import { type SessionId, UserId } from "../../src/SessionId.ts"
import type { Notice } from "../../src/SessionNotifier.ts"
import type { Storage } from "../../src/SessionStorage.ts"
import type { Sessions } from "../../src/SessionStore.ts"

export const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })
export const Color = SessionAttribute.make("color", Schema.String, { initial: () => "" })
export const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })

export const alice = UserId.make("alice")
export const bob = UserId.make("bob")

/** `maxStaleness` unless a test says otherwise, in milliseconds. */
export const maxStaleness = 5_000

/** A node's own idea of the time; its statements run on the database's. */
export interface SkewedClock extends Clock.Clock {
  /** Sets the wall clock so many milliseconds ahead of the database's (back, where negative). */
  readonly setWall: (ahead: number) => Effect.Effect<void>
}

/** A clock whose wall time can be set; its monotonic time is that of the test. */
export const skewedClock = Effect.gen(function* () {
  const real = yield* Clock.Clock
  let ahead = 0
  const millis = () => real.currentTimeMillisUnsafe() + ahead
  const nanos = () => BigInt(Math.floor(millis())) * 1_000_000n
  const clock: SkewedClock = {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: real.monotonicTimeNanos,
    sleep: (duration) => real.sleep(duration),
    setWall: (millis) => Effect.sync(() => void (ahead = millis))
  }
  return clock
})

export interface NodeOptions extends SessionOptions {
  /** The node's clock, where it is not the database's. */
  readonly clock?: Clock.Clock | undefined
  /** What others on the node hear of its notices by. */
  readonly board?: Board | undefined
  /** Puts something between the node and its storage. */
  readonly storage?: ((storage: Storage) => Storage) | undefined
}

/** A node, with a look behind its service. */
export interface Node extends Sessions {
  readonly name: string
  readonly cache: Cache
}

export interface Cluster {
  readonly database: MemoryDatabase.Database
  readonly controls: MemoryDatabase.Controls
  /** Starts a node and waits until it is synchronized. */
  readonly node: (name: string, options?: NodeOptions) => Effect.Effect<Node, never, Scope.Scope>
  /** Statements of an operation so far, on one node or all. */
  readonly statements: (operation: MemoryDatabase.Operation, node?: string) => Effect.Effect<number>
  /** How many statements of an operation an effect causes. */
  readonly cost: <A, E, R>(
    operation: MemoryDatabase.Operation,
    node: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<number, E, R>
  /** Everything that is notified from now on, without beats; reading empties it. */
  readonly notices: Effect.Effect<Effect.Effect<ReadonlyArray<Exclude<Notice, { readonly _tag: "Beat" }>>>>
}

/** A database without nodes; `observe` may look at everything that is done to it. */
export const makeCluster = (
  shared: SessionOptions = {},
  memory?: MemoryDatabase.Options,
  observe: (database: MemoryDatabase.Database) => MemoryDatabase.Database = (database) => database
): Effect.Effect<Cluster> =>
  Effect.sync(() => {
    const database = observe(MemoryDatabase.make(memory))
    const { controls } = database

    // What `SessionStore.layer` does, with a clock of the node's own and a look at its cache.
    const node: Cluster["node"] = Effect.fnUntraced(function* (name, options) {
      const { clock = yield* Clock.Clock, storage: wrap = (storage: Storage) => storage, ...rest } = options ?? {}
      const { board = new Board(), ...own } = rest
      const settings = yield* Effect.orDie(makeSettings({ ...shared, ...own }))
      const cache = new Cache(settings, new NodeClock(clock))
      const storage = wrap(MemoryStorage.make(database, name))
      const notifier = MemoryNotifier.make(database, name)
      const sessions = yield* Store.make(cache, storage, notifier, settings, board)
      yield* settle
      return { ...sessions, name, cache }
    })

    const statements: Cluster["statements"] = (operation, node) =>
      Effect.map(controls.count(operation, node), (count) => count.statements)

    return {
      database,
      controls,
      node,
      statements,
      cost: (operation, node, effect) =>
        Effect.gen(function* () {
          const before = yield* statements(operation, node)
          yield* effect
          return (yield* statements(operation, node)) - before
        }),
      notices: Effect.gen(function* () {
        const link = database.listen("spy")
        const seen: Array<Exclude<Notice, { readonly _tag: "Beat" }>> = []
        yield* link.take.pipe(
          Effect.map((notices) => {
            for (const notice of notices) if (notice._tag !== "Beat") seen.push(notice)
          }),
          Effect.forever,
          Effect.ignore,
          Effect.forkDetach
        )
        return Effect.as(settle, seen).pipe(Effect.map((all) => all.splice(0)))
      })
    }
  })

/** Lets everybody who can go on do so, without time passing. */
export const settle: Effect.Effect<void> = Effect.asVoid(Effect.repeat(Effect.yieldNow, { times: 40 }))

/** `adjust` waits for those whom it wakes; this is for those whom they wake. */
const settleBriefly = Effect.repeat(Effect.yieldNow, { times: 12 })

/** Moves the clock in steps, so that what is due in between happens in its time. */
export const pass = (duration: Duration.Input, step = 100): Effect.Effect<void> =>
  Effect.gen(function* () {
    let left = Duration.toMillis(Duration.fromInputUnsafe(duration))
    while (left > 0) {
      yield* TestClock.adjust(Math.min(step, left))
      yield* settleBriefly
      left -= step
    }
    yield* settle
  })

/** Starts something that is expected to be held up, and lets everything else go on. */
export const begin = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), settle)

/** Not finished. */
export const isHeldUp = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() === undefined

/** Does not count as activity, so that a read is one statement at most. */
export const quiet = { touch: false } as const

/** The note that a node answers; `undefined` where it answers no session. */
export const noteOn = (node: Sessions, id: SessionId, options: { readonly refresh?: boolean } = {}) =>
  Effect.flatMap(node.find(id, { ...quiet, ...options }), (found) =>
    Option.isNone(found) ? Effect.undefined : Session.get(found.value, Note)
  )

/** The version that a node answers; `undefined` where it answers no session. */
export const versionOn = (
  node: Sessions,
  id: SessionId,
  options: { readonly refresh?: boolean; readonly minVersion?: bigint } = {}
) => Effect.map(node.find(id, { ...quiet, ...options }), (found) => Option.getOrUndefined(found)?.version)

/** Writes a note, whatever stands there. */
export const writeNote = (node: Sessions, id: SessionId, text: string) =>
  node.modify(id, Session.set(Note, text), { check: "none" })

/** A session with the note "old". */
export const createNoted = (node: Sessions, text = "old") =>
  node.create(alice, { attributes: [SessionAttribute.value(Note, text)] })
