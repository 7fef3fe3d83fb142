import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import { Session } from "../src/Session.ts"
import type { SessionOptions } from "../src/SessionConfig.ts"
import type { SessionKey } from "../src/SessionId.ts"
import type { Storage } from "../src/SessionStorage.ts"
import {
  alice,
  begin,
  Color,
  createNoted,
  isHeldUp,
  makeCluster,
  type Node,
  Note,
  noteOn,
  settle
} from "./support/Coherence.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

const guests = (node: Node, count: number) => Effect.forEach(times(count), () => node.createAnonymous())

const unchecked = { check: "none" } as const

const large: SessionOptions = { maxAttributeBytes: 4 * 1024 * 1024, maxSessionBytes: 8 * 1024 * 1024 }

/** A node whose statements for changes are recorded, by the keys that they are about. */
const recorded = Effect.fnUntraced(function* (options?: SessionOptions) {
  const cluster = yield* makeCluster(options)
  const statements: Array<ReadonlyArray<SessionKey>> = []
  const a = yield* cluster.node("a", {
    storage: (storage) => ({
      ...storage,
      tryWrite: (requests) => {
        statements.push(requests.map(({ key }) => key))
        return storage.tryWrite(requests)
      }
    })
  })
  return { ...cluster, a, statements }
})

/**
 * A node in whose database somebody else has locked sessions: `tryWrite` answers `Busy` for them, and `write` waits
 * until they are free.
 */
const withLocks = Effect.fnUntraced(function* () {
  const cluster = yield* makeCluster()
  const locks = new Map<SessionKey, Latch.Latch>()
  const written: Array<readonly [statement: "tryWrite" | "write", key: SessionKey]> = []
  const locking = (storage: Storage): Storage => ({
    ...storage,
    tryWrite: (requests) =>
      Effect.suspend(() => {
        const free = requests.filter(({ key }) => !locks.has(key))
        for (const { key } of free) written.push(["tryWrite", key])
        return Effect.map(storage.tryWrite(free), ({ now, outcomes }) => {
          const answered = outcomes.values()
          return {
            now,
            outcomes: requests.map((request) =>
              free.includes(request) ? (answered.next().value ?? assert.fail()) : ({ _tag: "Busy" } as const)
            )
          }
        })
      }),
    write: (requests) =>
      Effect.suspend(() => {
        for (const { key } of requests) written.push(["write", key])
        const locked = requests.flatMap(({ key }) => locks.get(key) ?? [])
        return Effect.andThen(
          Effect.forEach(locked, (latch) => latch.await),
          storage.write(requests)
        )
      })
  })
  const scope = yield* Scope.make()
  const a = yield* Scope.provide(cluster.node("a", { storage: locking }), scope)
  const lock = ({ key }: Session) => Effect.map(Latch.make(), (latch) => void locks.set(key, latch))
  const unlock = ({ key }: Session) =>
    Effect.suspend(() => {
      const latch = locks.get(key)
      locks.delete(key)
      return Effect.andThen(latch?.open ?? assert.fail("it is not locked"), settle)
    })
  return { ...cluster, a, lock, locks, unlock, written, close: Scope.close(scope, Exit.void) }
})

describe("updates that wait for a statement", () => {
  it.effect("share statements that weigh at most a mebibyte, in order", () =>
    Effect.gen(function* () {
      const { a, controls, statements } = yield* recorded(large)
      const sessions = yield* guests(a, 11)
      const pause = yield* controls.pauseBefore("write")
      const updating = yield* Effect.forEach(sessions, (session) =>
        begin(a.update(Session.set(session, Note, "x".repeat(400_000))))
      )
      yield* pause.resume
      for (const fiber of updating) yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        statements.map((keys) => keys.length),
        [1, 2, 2, 2, 2, 2]
      )
      assert.deepStrictEqual(
        statements.flat(),
        sessions.map(({ key }) => key)
      )
    })
  )

  it.effect("that are small share them, whatever large one waits behind them; that goes alone", () =>
    Effect.gen(function* () {
      const { a, controls, statements } = yield* recorded(large)
      const sessions = yield* guests(a, 100)
      const [first] = yield* guests(a, 1)
      assert(first !== undefined)
      const pause = yield* controls.pauseBefore("write")
      const blocking = yield* begin(a.update(Session.set(first, Note, "first")))
      const updating = yield* Effect.forEach(sessions, (session, index) =>
        begin(a.update(Session.set(session, Note, index === 50 ? "x".repeat(3_000_000) : "small")))
      )
      yield* pause.resume
      for (const fiber of [blocking, ...updating]) yield* Fiber.join(fiber)
      assert.deepStrictEqual(statements.flat().length, 101)
      const alone = statements.find((keys) => keys.includes(sessions[50]?.key ?? first.key))
      assert.lengthOf(alone ?? [], 1)
      assert.isAtMost(statements.length, 12)
    })
  )

  it.effect("weigh what they set altogether", () =>
    Effect.gen(function* () {
      const { a, controls, statements } = yield* recorded(large)
      const sessions = yield* guests(a, 4)
      const half = "x".repeat(300_000)
      const pause = yield* controls.pauseBefore("write")
      const updating = yield* Effect.forEach(sessions, (session) =>
        begin(a.update(session.pipe(Session.set(Note, half), Session.set(Color, half))))
      )
      yield* pause.resume
      for (const fiber of updating) yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        statements.map((keys) => keys.length),
        [1, 1, 1, 1]
      )
    })
  )

  it.effect("are forgotten when their callers have gone", () =>
    Effect.gen(function* () {
      const { a, controls, statements } = yield* recorded()
      const session = yield* createNoted(a)
      const other = yield* createNoted(a)
      const pause = yield* controls.pauseBefore("write")
      const first = yield* begin(a.update(Session.set(session, Note, "first")))
      const waiting = yield* Effect.forEach(times(3_000), () =>
        Effect.forkChild(a.update(Session.set(other, Note, "late"), unchecked))
      )
      yield* settle
      assert.strictEqual((yield* a.health).pendingUpdates, 3_000)
      yield* Fiber.interruptAll(waiting)
      assert.strictEqual((yield* a.health).pendingUpdates, 0)
      yield* pause.resume
      yield* Fiber.join(first)
      yield* settle
      assert.deepStrictEqual(statements, [[session.key]])
      assert.strictEqual(yield* noteOn(a, other.id, { refresh: true }), "old")
    })
  )
})

describe("an update of a session that somebody else has locked", () => {
  it.effect("waits in a statement of its own; the others of its batch are answered first", () =>
    Effect.gen(function* () {
      const { a, controls, lock, unlock, written } = yield* withLocks()
      const sessions = yield* guests(a, 9)
      const locked = sessions[4] ?? assert.fail()
      const first = yield* createNoted(a)
      yield* lock(locked)
      const pause = yield* controls.pauseBefore("write")
      const blocking = yield* begin(a.update(Session.set(first, Note, "new")))
      const updating = yield* Effect.forEach(sessions, (session) => begin(a.update(Session.set(session, Note, "new"))))
      yield* pause.resume
      yield* Fiber.join(blocking)
      yield* settle
      assert.deepStrictEqual(
        updating.map(isHeldUp),
        sessions.map((session) => session === locked)
      )
      // Whoever comes now is not held up, either.
      const later = yield* a.update(Session.set(yield* createNoted(a), Note, "new"))
      assert.strictEqual(later.version, 2n)
      yield* unlock(locked)
      for (const fiber of updating) assert.strictEqual((yield* Fiber.join(fiber)).version, 2n)
      assert.deepStrictEqual(
        written.filter(([statement]) => statement === "write"),
        [["write", locked.key]]
      )
      assert.strictEqual(yield* noteOn(a, locked.id), "new")
      assert.strictEqual(a.cache.fills.size, 0)
    })
  )

  it.effect("is refused if somebody wrote the same meanwhile, like any other", () =>
    Effect.gen(function* () {
      const { a, lock, node, unlock } = yield* withLocks()
      const b = yield* node("b")
      const session = yield* createNoted(a)
      yield* lock(session)
      const updating = yield* begin(Effect.flip(a.update(Session.set(session, Note, "mine"))))
      yield* b.modify(session.id, Session.set(Note, "theirs"))
      yield* unlock(session)
      assert.deepInclude(yield* Fiber.join(updating), { _tag: "AttributeVersionMismatch", expected: 1n, actual: 2n })
      assert.strictEqual(yield* noteOn(a, session.id), "theirs")
    })
  )

  it.effect("waits in the database, where at most four do so at once; a fifth one waits for one of them", () =>
    Effect.gen(function* () {
      const { a, lock, unlock, written } = yield* withLocks()
      const locked = yield* Effect.forEach(times(5), () => a.createAnonymous())
      yield* Effect.forEach(locked, lock)
      const updating = yield* Effect.forEach(locked, (session) =>
        begin(Effect.result(a.update(Session.set(session, Note, "late"))))
      )
      assert.deepStrictEqual(
        written.map(([, key]) => key),
        locked.slice(0, 4).map(({ key }) => key)
      )
      for (const session of locked) yield* unlock(session)
      for (const fiber of updating) assert.strictEqual((yield* Fiber.join(fiber))._tag, "Success")
    })
  )

  it.effect("keeps its place among the changes of that session, which take one statement at a time", () =>
    Effect.gen(function* () {
      const { a, lock, unlock, written } = yield* withLocks()
      const session = yield* createNoted(a)
      const other = yield* createNoted(a)
      yield* lock(session)
      yield* lock(other)
      const change = (note: string) => begin(a.update(Session.set(session, Note, note), { check: "none" }))
      const updating = [yield* change("1"), yield* change("2"), yield* change("3")]
      const elsewhere = yield* begin(a.update(Session.set(other, Note, "new")))
      assert.deepStrictEqual(written, [
        ["write", session.key],
        ["write", other.key]
      ])
      yield* unlock(other)
      assert.strictEqual((yield* Fiber.join(elsewhere)).version, 2n)
      yield* unlock(session)
      // It is free by now, but must not overtake those that waited.
      updating.push(yield* change("4"))
      const versions = yield* Effect.forEach(updating, (fiber) =>
        Effect.map(Fiber.join(fiber), ({ version }) => version)
      )
      assert.deepStrictEqual(versions, [2n, 3n, 4n, 5n])
      assert.strictEqual(yield* noteOn(a, session.id), "4")
    })
  )

  it.effect("does not let a later change of that session overtake it once it is free", () =>
    Effect.gen(function* () {
      const { a, lock, locks, written } = yield* withLocks()
      const session = yield* createNoted(a)
      yield* lock(session)
      const first = yield* begin(a.update(Session.set(session, Note, "first"), { check: "none" }))
      const latch = locks.get(session.key) ?? assert.fail()
      // Free for whoever tries now, while the statement of the first one has not noticed.
      locks.delete(session.key)
      const second = yield* begin(a.update(Session.set(session, Note, "second"), { check: "none" }))
      assert.deepStrictEqual(written, [["write", session.key]])
      yield* latch.open
      assert.strictEqual((yield* Fiber.join(first)).version, 2n)
      assert.strictEqual((yield* Fiber.join(second)).version, 3n)
      assert.strictEqual(yield* noteOn(a, session.id), "second")
    })
  )

  it.effect("is taken back when its caller goes while it waits for a statement", () =>
    Effect.gen(function* () {
      const { a, lock, unlock, written } = yield* withLocks()
      const locked = yield* Effect.forEach(times(5), () => a.createAnonymous())
      yield* Effect.forEach(locked, lock)
      const updating = yield* Effect.forEach(locked, (session) => begin(a.update(Session.set(session, Note, "new"))))
      const [last, lastUpdate] = [locked[4] ?? assert.fail(), updating[4] ?? assert.fail()]
      assert.strictEqual((yield* a.health).pendingUpdates, 1)
      yield* Fiber.interrupt(lastUpdate)
      assert.strictEqual((yield* a.health).pendingUpdates, 0)
      for (const session of locked) yield* unlock(session)
      for (const fiber of updating.slice(0, 4)) yield* Fiber.join(fiber)
      assert.notInclude(
        written.map(([, key]) => key),
        last.key
      )
      assert.strictEqual(yield* noteOn(a, last.id, { refresh: true }), "")
    })
  )

  it.effect("is waited for at the end of the store", () =>
    Effect.gen(function* () {
      const { a, close, controls, lock, unlock } = yield* withLocks()
      const session = yield* createNoted(a)
      yield* lock(session)
      const pause = yield* controls.pauseBefore("write")
      const updating = yield* begin(a.update(Session.set(session, Note, "new")))
      const closing = yield* begin(close)
      assert.isTrue(isHeldUp(closing))
      yield* pause.resume
      yield* settle
      assert.isTrue(isHeldUp(updating))
      assert.isTrue(isHeldUp(closing))
      yield* unlock(session)
      assert.strictEqual((yield* Fiber.join(updating)).version, 2n)
      yield* Fiber.join(closing)
    })
  )
})

describe("updates of one session", () => {
  const inOrder = Effect.fnUntraced(function* (
    { a, controls }: Pick<Effect.Success<ReturnType<typeof withLocks>>, "a" | "controls">,
    session: Session,
    whenSent: Effect.Effect<void>
  ) {
    const pause = yield* controls.pauseBefore("write")
    const blocking = yield* begin(a.update(Session.set(yield* a.create(alice), Note, "new")))
    const updating = yield* Effect.forEach(times(6), (n) =>
      begin(a.update(Session.set(session, Note, String(n)), unchecked))
    )
    yield* pause.resume
    yield* Fiber.join(blocking)
    yield* settle
    yield* whenSent
    const versions = yield* Effect.forEach(updating, (fiber) => Effect.map(Fiber.join(fiber), ({ version }) => version))
    assert.deepStrictEqual(versions, [2n, 3n, 4n, 5n, 6n, 7n])
    assert.strictEqual(yield* noteOn(a, session.id, { refresh: true }), "5")
  })

  it.effect("never share a statement, whoever else does", () =>
    Effect.gen(function* () {
      const { a, controls, statements } = yield* recorded()
      const [first, second, third] = yield* guests(a, 3)
      assert(first !== undefined && second !== undefined && third !== undefined)
      const pause = yield* controls.pauseBefore("write")
      const updating = yield* Effect.forEach([third, first, first, second, first, second], (session, n) =>
        begin(a.update(Session.set(session, Note, String(n)), unchecked))
      )
      yield* pause.resume
      for (const fiber of updating) yield* Fiber.join(fiber)
      assert.deepStrictEqual(statements, [[third.key], [first.key, second.key], [first.key, second.key], [first.key]])
    })
  )

  it.effect("are made in the order in which they came", () =>
    Effect.gen(function* () {
      const world = yield* withLocks()
      yield* inOrder(world, yield* createNoted(world.a), Effect.void)
    })
  )

  it.effect("are made in the order in which they came, also where it is locked", () =>
    Effect.gen(function* () {
      const world = yield* withLocks()
      const session = yield* createNoted(world.a)
      yield* world.lock(session)
      yield* inOrder(world, session, world.unlock(session))
    })
  )
})
