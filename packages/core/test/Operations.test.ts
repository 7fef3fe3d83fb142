import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import type { Operation } from "../src/internal/memory/MemoryDatabase.ts"
import { Session } from "../src/Session.ts"
import type { SessionOptions } from "../src/SessionConfig.ts"
import { SessionStoreUnavailable } from "../src/SessionError.ts"
import { generate, GroupId, SessionId } from "../src/SessionId.ts"
import type { Storage } from "../src/SessionStorage.ts"
import {
  alice,
  begin,
  bob,
  createNoted,
  isHeldUp,
  makeCluster,
  type Node,
  Note,
  pass,
  quiet,
  settle
} from "./support/Coherence.ts"

/** A node that ends when told to. */
const setUp = Effect.fnUntraced(function* (options?: SessionOptions, storage?: (storage: Storage) => Storage) {
  const cluster = yield* makeCluster({ maxSessionsPerUser: 10_000, ...options })
  const scope = yield* Scope.make()
  const a = yield* Scope.provide(cluster.node("a", { storage }), scope)
  return { ...cluster, a, close: Scope.close(scope, Exit.void) }
})

type Attempt = Effect.Effect<unknown, { readonly _tag: string }>

/** Everything that changes the database in a fiber of the layer, by the statement that it sends. */
const changes = (a: Node, session: Session): ReadonlyArray<readonly [Operation, Attempt]> => [
  ["create", a.create(alice)],
  ["create", a.createAnonymous()],
  ["rotate", a.rotate(session.id)],
  ["delete", a.delete(session.id)],
  ["delete", a.deleteByKey(session.key)],
  ["delete", a.deleteAllForUser(alice)],
  ["delete", a.deleteAllForGroup(GroupId.make("g"))],
  ["delete", a.deleteAll],
  ["deleteAttribute", a.deleteAttributeForUser(alice, Note)],
  ["announceClear", a.clearCache],
  ["announceClear", a.clearCacheForUser(alice)],
  ["sweep", a.sweep],
  ["touch", a.flushActivity],
  ["write", a.update(Session.set(session, Note, "new"))]
]

const changeCount = 14

/** The same with each of them, on a node of its own. */
const withEach = <A, E, R>(
  use: (
    world: Effect.Success<ReturnType<typeof setUp>>,
    operation: Operation,
    attempt: Attempt
  ) => Effect.Effect<A, E, R>,
  options?: SessionOptions
) =>
  Effect.gen(function* () {
    for (let index = 0; index < changeCount; index++) {
      const world = yield* setUp(options)
      const session = yield* createNoted(world.a)
      yield* world.a.get(session.id)
      const all = changes(world.a, session)
      assert.lengthOf(all, changeCount)
      const [operation, attempt] = all[index] ?? assert.fail()
      yield* use(world, operation, attempt)
    }
  })

describe("the end of a store", () => {
  it.effect("waits for a change that is under way, whose caller gets the answer", () =>
    withEach(({ close, controls }, operation, attempt) =>
      Effect.gen(function* () {
        const pause = yield* controls.pauseBefore(operation)
        const running = yield* begin(attempt)
        yield* pause.arrived
        const closing = yield* begin(close)
        assert.isTrue(isHeldUp(closing), operation)
        assert.isTrue(isHeldUp(running), operation)
        yield* pause.resume
        const exit = yield* Fiber.await(running)
        assert.isTrue(Exit.isSuccess(exit), `${operation}: ${String(exit)}`)
        yield* Fiber.join(closing)
      })
    )
  )

  it.effect("waits for a change whose caller has gone", () =>
    withEach(({ close, controls }, operation, attempt) =>
      Effect.gen(function* () {
        const pause = yield* controls.pauseAfter(operation)
        const running = yield* begin(attempt)
        yield* pause.arrived
        yield* Fiber.interrupt(running)
        const closing = yield* begin(close)
        assert.isTrue(isHeldUp(closing), operation)
        yield* pause.resume
        yield* Fiber.join(closing)
      })
    )
  )

  it.effect("cuts off a change that takes too long; its caller is told that the outcome is unknown", () =>
    withEach(
      ({ close, controls }, operation, attempt) =>
        Effect.gen(function* () {
          const pause = yield* controls.pauseBefore(operation)
          const running = yield* begin(attempt)
          yield* pause.arrived
          const closing = yield* begin(close)
          yield* pass(900)
          assert.isTrue(isHeldUp(running), operation)
          yield* pass("2 seconds")
          yield* Fiber.join(closing)
          const exit = yield* Fiber.await(running)
          if (!Exit.isFailure(exit)) return assert.fail(`${operation} cannot have been answered`)
          assert.isFalse(Cause.hasInterrupts(exit.cause), `${operation}: ${String(exit.cause)}`)
          const error = Option.getOrUndefined(Exit.findErrorOption(exit))
          assert.instanceOf(error, SessionStoreUnavailable, operation)
          assert.deepInclude(error, { reason: "Closed", outcome: "Unknown" }, operation)
        }),
      { shutdownTimeout: "2 seconds" }
    )
  )

  it.effect("writes last accesses although something that was begun before it does not end", () =>
    Effect.gen(function* () {
      const { a, close, controls } = yield* setUp({ shutdownTimeout: "2 seconds" })
      const session = yield* createNoted(a)
      yield* pass(500)
      yield* a.get(session.id)
      yield* controls.pauseBefore("create")
      const creating = yield* begin(Effect.exit(a.create(bob)))
      const closing = yield* begin(close)
      yield* pass(2_100)
      yield* Fiber.join(closing)
      yield* Fiber.join(creating)
      const [row] = yield* controls.rows
      assert.strictEqual(row?.lastAccessedAt, 500)
    })
  )

  it.effect("does not wait for a sweep of very many rows, of which each part is done by itself", () =>
    Effect.gen(function* () {
      let parts = 0
      const next = SessionId.key(generate())
      const endless = (storage: Storage): Storage => ({
        ...storage,
        sweep: (request) =>
          Effect.suspend(() => {
            parts++
            return Effect.map(Effect.andThen(Effect.sleep(50), storage.sweep(request)), (outcome) => ({
              ...outcome,
              next
            }))
          })
      })
      const { close } = yield* setUp({}, endless)
      yield* pass(1_000, 50)
      assert.isAbove(parts, 5)
      const closing = yield* begin(close)
      yield* pass(100, 50)
      assert.isFalse(isHeldUp(closing))
    })
  )

  it.effect("comes at once, at whatever point of their run callers were interrupted before", () =>
    Effect.gen(function* () {
      const { a, close, statements } = yield* setUp()
      const session = yield* createNoted(a)
      const absent = SessionId.key(generate())
      const attempts: ReadonlyArray<Attempt> = [
        a.deleteByKey(absent),
        a.createAnonymous(),
        a.rotate(session.id, { grace: "1 hour" }),
        a.update(Session.set(session, Note, "new"), { check: "none" }),
        a.modify(session.id, Session.set(Note, "newer")),
        a.deleteAllForUser(bob),
        a.clearCache,
        a.flushActivity,
        a.find(session.id, { refresh: true }),
        a.find(session.id)
      ]
      // A fiber that is allowed few steps in a row stops, and is interrupted, at each of its steps in turn.
      for (const attempt of attempts) {
        for (let steps = 2; steps < 40; steps++) {
          for (let turns = 0; turns < 3; turns++) {
            const fiber = yield* Effect.forkChild(Effect.provideService(attempt, References.MaxOpsBeforeYield, steps))
            for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
            yield* Fiber.interrupt(fiber)
          }
        }
      }
      yield* settle
      assert.isAbove(yield* statements("delete"), 0)
      const closing = yield* begin(close)
      assert.isFalse(isHeldUp(closing), "no time has passed")
      assert.strictEqual((yield* a.health).pendingUpdates, 0)
    })
  )

  it.effect("comes although callers keep coming, and gets to writing last accesses", () =>
    Effect.gen(function* () {
      const { a, close, controls, statements } = yield* setUp()
      const session = yield* createNoted(a)
      yield* pass(5_000, 1_000)
      yield* a.get(session.id)
      const absent = SessionId.key(generate())
      yield* controls.reach("Hanging")
      const refused: Array<string> = []
      const caller = Effect.catch(a.deleteByKey(absent), (error) => Effect.sync(() => refused.push(error.reason)))
      const traffic = yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.forkChild(caller), Effect.yieldNow)))
      yield* Effect.repeat(Effect.yieldNow, { times: 300 })
      assert.isAbove(yield* statements("delete"), 100)
      const closing = yield* begin(close)
      assert.isTrue(isHeldUp(closing))
      yield* controls.reach("Up")
      yield* Effect.repeat(Effect.yieldNow, { times: 300 })
      assert.isFalse(isHeldUp(closing))
      yield* Fiber.interrupt(traffic)
      assert.isTrue(refused.length > 0 && refused.every((reason) => reason === "Closed"))
      const [row] = yield* controls.rows
      assert.strictEqual(row?.lastAccessedAt, 5_000)
    })
  )
})

describe("a change", () => {
  it.effect("is made to its end although its caller has gone, and the node knows what came of it", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp()
      const session = yield* createNoted(a)
      const pause = yield* controls.pauseBefore("delete")
      const running = yield* begin(a.delete(session.id))
      yield* pause.arrived
      yield* Fiber.interrupt(running)
      yield* pause.resume
      yield* settle
      assert.lengthOf(yield* controls.rows, 0)
      assert.isTrue(Option.isNone(yield* a.find(session.id, quiet)))
      assert.strictEqual(a.cache.fills.size, 0)
    })
  )
})
