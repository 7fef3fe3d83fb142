import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { SessionAttribute } from "../src/SessionAttribute.ts"
import type { SessionOptions } from "../src/SessionConfig.ts"
import { SessionStoreUnavailable, TooManySessions } from "../src/SessionError.ts"
import { generate, givenId, SessionId, UserId, type WithGivenId } from "../src/SessionId.ts"
import type { Storage } from "../src/SessionStorage.ts"
import type { CreateOptions, RotateOptions } from "../src/SessionStore.ts"
import { alice, begin, bob, isHeldUp, makeCluster, Note, noteOn, pass, quiet, settle } from "./support/Coherence.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const user = (index: number) => UserId.make(`user ${index}`)

const noted = (text: string) => ({ attributes: [SessionAttribute.value(Note, text)] })

/**
 * A node whose logins are recorded. Users in `stuck` are being given a session by somebody else: `tryCreate` leaves them, and
 * `create` waits.
 */
const setUp = Effect.fnUntraced(function* (options?: SessionOptions) {
  const cluster = yield* makeCluster(options)
  const together: Array<ReadonlyArray<UserId | undefined>> = []
  const alone: Array<UserId | undefined> = []
  const stuck = new Map<UserId, Latch.Latch>()
  const latchOf = (userId: UserId | undefined) => (userId === undefined ? undefined : stuck.get(userId))
  const observe = (storage: Storage): Storage => ({
    ...storage,
    tryCreate: (requests) =>
      Effect.suspend(() => {
        together.push(requests.map(({ userId }) => userId))
        const free = requests.filter(({ userId }) => latchOf(userId) === undefined)
        return Effect.map(storage.tryCreate(free), ({ now, outcomes }) => {
          const answered = outcomes.values()
          return {
            now,
            outcomes: requests.map((request) =>
              free.includes(request) ? (answered.next().value ?? assert.fail()) : ({ _tag: "Undone" } as const)
            )
          }
        })
      }),
    create: (request) =>
      Effect.suspend(() => {
        alone.push(request.userId)
        return Effect.andThen(latchOf(request.userId)?.await ?? Effect.void, storage.create(request))
      })
  })
  const scope = yield* Scope.make()
  const a = yield* Scope.provide(cluster.node("a", { storage: observe }), scope)
  return { ...cluster, a, together, alone, stuck, close: Scope.close(scope, Exit.void) }
})

/** Logins that begin while the first one, of a guest, is held up before it reaches the database. */
const behindOne = Effect.fnUntraced(function* <A, E>(
  { a, controls }: Effect.Success<ReturnType<typeof setUp>>,
  logins: ReadonlyArray<Effect.Effect<A, E>>
) {
  const pause = yield* controls.pauseBefore("create")
  const first = yield* begin(a.createAnonymous())
  const fibers = yield* Effect.forEach(logins, (login) => begin(Effect.exit(login)))
  yield* settle
  return { first, fibers, resume: Effect.andThen(pause.resume, settle) }
})

describe("logins that come together", () => {
  it.effect("share statements, and each caller gets the own session", () =>
    Effect.gen(function* () {
      const node = yield* setUp()
      const { a, alone, together } = node
      const { fibers, resume } = yield* behindOne(
        node,
        times(100).map((index) => a.create(user(index), noted(`note ${index}`)))
      )
      yield* resume
      for (const [index, fiber] of fibers.entries()) {
        const session = yield* yield* Fiber.join(fiber)
        assert.strictEqual(Option.getOrUndefined(session.userId), user(index))
        assert.strictEqual(yield* noteOn(a, session.id), `note ${index}`)
      }
      assert.deepStrictEqual(alone, [])
      // One by one they came, so that a statement began with every 16th.
      assert.isAtMost(together.length, 8)
      assert.isAtMost(Math.max(...together.map((users) => users.length)), 50)
    })
  )

  it.effect("are in memory afterwards, and are told about", () =>
    Effect.gen(function* () {
      const node = yield* setUp({ maxSessionsPerUser: 1 })
      const { a, cost } = node
      const old = yield* a.create(alice)
      const { fibers, resume } = yield* behindOne(node, [a.create(alice), a.create(bob), a.createAnonymous()])
      yield* resume
      const sessions = yield* Effect.forEach(fibers, (fiber) => Effect.flatten(Fiber.join(fiber)))
      const loads = yield* cost(
        "load",
        "a",
        Effect.forEach(sessions, ({ id }) => a.get(id, quiet))
      )
      assert.strictEqual(loads, 0)
      assert.isTrue(Option.isNone(yield* a.find(old.id)))
    })
  )

  it.effect("do not fail with another one that is refused", () =>
    Effect.gen(function* () {
      const node = yield* setUp({ maxSessionsPerUser: 1, onSessionLimit: "reject" })
      const { a, controls } = node
      yield* a.create(alice)
      const given: CreateOptions & WithGivenId = { [givenId]: generate() }
      yield* a.createAnonymous(given)
      const { fibers, resume } = yield* behindOne(node, [
        a.create(user(1)),
        a.create(alice),
        a.createAnonymous(given),
        a.create(user(2))
      ])
      yield* resume
      const [first, refused, taken, last] = yield* Effect.forEach(fibers, Fiber.join)
      assert(first !== undefined && refused !== undefined && taken !== undefined && last !== undefined)
      yield* first
      yield* last
      assert.instanceOf(yield* Effect.flip(refused), TooManySessions)
      assert.deepInclude(yield* Effect.flip(taken), { reason: "DatabaseError", outcome: "NotApplied" })
      assert.lengthOf(yield* controls.rows, 5)
    })
  )

  it.effect("with a given id that has not the shape of one begin nothing", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* setUp()
      const session = yield* a.create(alice)
      const given: CreateOptions & RotateOptions & WithGivenId = {
        [givenId]: Redacted.make(`${session.key}${"\u0100".repeat(43)}`) as SessionId
      }
      const another: RotateOptions & WithGivenId = { [givenId]: generate() }
      for (const begun of [
        a.create(alice, given),
        a.createAnonymous(given),
        a.rotate(session.id, given),
        a.rotate(session.id, another)
      ]) {
        const exit = yield* Effect.exit(begun)
        assert(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      }
      assert.lengthOf(yield* controls.rows, 1)
      assert.strictEqual((yield* a.get(session.id)).key, session.key)
    })
  )

  it.effect("of one user take turns, and keep the limit", () =>
    Effect.gen(function* () {
      const node = yield* setUp({ maxSessionsPerUser: 3 })
      const { a, alone, together } = node
      const { fibers, resume } = yield* behindOne(
        node,
        times(10).map((index) => a.create(alice, noted(String(index))))
      )
      yield* resume
      const sessions = yield* Effect.forEach(fibers, (fiber) => Effect.flatten(Fiber.join(fiber)))
      assert.lengthOf(yield* a.listForUser(alice), 3)
      const left = yield* Effect.forEach(sessions, ({ id }) => Effect.map(a.find(id), Option.isSome))
      assert.strictEqual(left.filter((is) => is).length, 3)
      for (const users of together) assert.isAtMost(users.filter((userId) => userId === alice).length, 1)
      assert.deepStrictEqual(alone, [])
    })
  )

  it.effect("that are lost on the way have an unknown outcome, each, and are not sent again", () =>
    Effect.gen(function* () {
      const node = yield* setUp()
      const { a, alone, controls, together } = node
      const { fibers, first, resume } = yield* behindOne(
        node,
        times(10).map((index) => a.create(user(index)))
      )
      yield* controls.failNext("create", { applied: false })
      yield* controls.failNext("create", { applied: true })
      yield* resume
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      for (const fiber of fibers) {
        const error = yield* Effect.flip(yield* Fiber.join(fiber))
        assert.instanceOf(error, SessionStoreUnavailable)
        assert.deepInclude(error, { reason: "Unreachable", outcome: "Unknown" })
      }
      assert.deepStrictEqual(
        together.map((users) => users.length),
        [1, 10]
      )
      assert.deepStrictEqual(alone, [])
      assert.lengthOf(yield* controls.rows, 10)
      assert.strictEqual((yield* a.health).cache.size, 0)
    })
  )

  it.effect("and wait longer than statements may are not sent", () =>
    Effect.gen(function* () {
      const node = yield* setUp({ statementTimeout: "2 seconds" })
      const { a, controls } = node
      const { fibers, resume } = yield* behindOne(node, [a.create(alice), a.create(bob)])
      yield* pass("3 seconds")
      yield* resume
      for (const fiber of fibers) {
        const error = yield* Effect.flip(yield* Fiber.join(fiber))
        assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
      }
      assert.lengthOf(yield* controls.rows, 1)
    })
  )

  it.effect("are done although one of the callers goes away", () =>
    Effect.gen(function* () {
      const node = yield* setUp()
      const { a } = node
      const { fibers, first, resume } = yield* behindOne(
        node,
        times(6).map((index) => a.create(user(index)))
      )
      const [gone, ...others] = fibers
      assert(gone !== undefined)
      yield* Fiber.interrupt(gone)
      yield* Fiber.interrupt(first)
      yield* resume
      for (const fiber of others) yield* yield* Fiber.join(fiber)
      // What was begun is done, as ever.
      assert.lengthOf(yield* a.listForUser(user(0)), 1)
    })
  )

  it.effect("are awaited by the end of the layer, those in the backlog too", () =>
    Effect.gen(function* () {
      const node = yield* setUp()
      const { a, close, controls } = node
      const { fibers, first, resume } = yield* behindOne(
        node,
        times(5).map((index) => a.create(user(index)))
      )
      const closing = yield* begin(close)
      assert.isTrue(isHeldUp(closing))
      assert.deepInclude(yield* Effect.flip(a.create(alice)), { reason: "Closed", outcome: "NotApplied" })
      yield* resume
      yield* Fiber.join(first)
      for (const fiber of fibers) yield* yield* Fiber.join(fiber)
      yield* Fiber.join(closing)
      assert.lengthOf(yield* controls.rows, 6)
    })
  )

  it.effect("are told at the end of the layer whether they were sent", () =>
    Effect.gen(function* () {
      const node = yield* setUp({ shutdownTimeout: "2 seconds" })
      const { a, close, controls } = node
      const pause = yield* controls.pauseAfter("create")
      const sent = yield* begin(Effect.exit(a.create(alice)))
      yield* pause.arrived
      const waiting = yield* begin(Effect.exit(a.create(bob)))
      const closing = yield* begin(close)
      yield* pass("3 seconds")
      yield* Fiber.join(closing)
      assert.deepInclude(yield* Effect.flip(yield* Fiber.join(sent)), { reason: "Closed", outcome: "Unknown" })
      const error = yield* Effect.flip(yield* Fiber.join(waiting))
      assert.deepInclude(error, { reason: "Closed" })
      assert.lengthOf(yield* controls.rows, 1)
    })
  )
})

describe("a login that must wait for somebody", () => {
  it.effect("holds up nobody else, and comes when its time has come", () =>
    Effect.gen(function* () {
      const node = yield* setUp()
      const { a, alone, stuck } = node
      const latch = yield* Latch.make()
      stuck.set(alice, latch)
      const { fibers, resume } = yield* behindOne(node, [a.create(user(1)), a.create(alice), a.create(user(2))])
      yield* resume
      const [first, held, second] = fibers
      assert(first !== undefined && held !== undefined && second !== undefined)
      yield* yield* Fiber.join(first)
      yield* yield* Fiber.join(second)
      assert.isTrue(isHeldUp(held))
      for (const index of times(20)) yield* a.create(user(index))
      assert.deepStrictEqual(alone, [alice])
      yield* latch.open
      const session = yield* yield* Fiber.join(held)
      assert.deepStrictEqual(
        (yield* a.listForUser(alice)).map(({ key }) => key),
        [SessionId.key(session.id)]
      )
      assert.strictEqual((yield* a.get(session.id)).version, 1n)
    })
  )

  it.effect("takes one place for waiting, however often the user comes", () =>
    Effect.gen(function* () {
      const { a, alone, stuck } = yield* setUp({ maxSessionsPerUser: 20 })
      const latch = yield* Latch.make()
      const other = yield* Latch.make()
      stuck.set(alice, latch)
      stuck.set(bob, other)
      const held = yield* Effect.forEach(times(10), () => begin(a.create(alice)))
      const last = yield* begin(a.create(bob))
      yield* settle
      assert.deepStrictEqual(alone, [alice, bob])
      stuck.delete(bob)
      yield* other.open
      yield* Fiber.join(last)
      stuck.delete(alice)
      yield* latch.open
      for (const fiber of held) yield* Fiber.join(fiber)
      assert.lengthOf(yield* a.listForUser(alice), 10)
    })
  )

  it.effect("is awaited by the end of the layer", () =>
    Effect.gen(function* () {
      const { a, close, controls, stuck } = yield* setUp()
      const latch = yield* Latch.make()
      stuck.set(alice, latch)
      const held = yield* begin(a.create(alice))
      const closing = yield* begin(close)
      yield* settle
      assert.isTrue(isHeldUp(closing))
      yield* latch.open
      yield* Fiber.join(held)
      yield* Fiber.join(closing)
      assert.lengthOf(yield* controls.rows, 1)
    })
  )
})
