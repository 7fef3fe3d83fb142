import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import { Session } from "../src/Session.ts"
import type { SessionId } from "../src/SessionId.ts"
import {
  begin,
  Color,
  Count,
  createNoted,
  isHeldUp,
  makeCluster,
  type Node,
  Note,
  pass,
  quiet,
  settle
} from "./support/Coherence.ts"

const one = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const { id } = yield* createNoted(a)
  return { ...cluster, a, id, writes: cluster.statements("write") }
})

const increment = Session.modify(Count, (count) => count + 1)

const countOf = (node: Node, id: SessionId) =>
  Effect.flatMap(node.get(id, { refresh: true, touch: false }), Session.get(Count))

/** Makes whoever is about to write the count lose: somebody else writes it first. */
const winBefore = (node: Node, id: SessionId) =>
  node.get(id, quiet).pipe(
    Effect.flatMap(increment),
    Effect.flatMap((changed) => node.update(changed, { check: "none" }))
  )

/** Increments the count, and loses on its first attempt. In its second one it says that it has its turn, and waits. */
const takeTurn = Effect.fnUntraced(function* (
  node: Node,
  id: SessionId,
  inTurn: Effect.Effect<unknown, unknown> = Effect.void
) {
  const hasTurn = yield* Latch.make()
  const mayGoOn = yield* Latch.make()
  let attempts = 0
  const fiber = yield* begin(
    node.modify(id, (session) =>
      Effect.gen(function* () {
        attempts++
        if (attempts === 1) yield* Effect.orDie(winBefore(node, id))
        if (attempts === 2) {
          yield* hasTurn.open
          yield* mayGoOn.await
          yield* Effect.orDie(inTurn)
        }
        return yield* increment(session)
      })
    )
  )
  return { fiber, hasTurn: hasTurn.await, goOn: mayGoOn.open, attempts: () => attempts }
})

describe("modify", () => {
  it.effect("of one attribute by 400 fibers of one node: all succeed, in few attempts and statements", () =>
    Effect.gen(function* () {
      const { a, id, writes } = yield* one
      let attempts = 0
      const counted = (session: Session) => {
        attempts++
        return increment(session)
      }
      const fibers = yield* Effect.forEach(Array.from({ length: 400 }), () => Effect.forkChild(a.modify(id, counted)))
      // No clock moves: nobody may depend on a pause.
      const results = yield* Effect.forEach(fibers, Fiber.await)
      assert.deepStrictEqual([...new Set(results.map(({ _tag }) => _tag))], ["Success"])
      assert.strictEqual(yield* countOf(a, id), 400)
      assert.isAtMost(attempts, 3 * 400)
      assert.isAtMost(yield* writes, 1.1 * 400)
    })
  )

  it.effect("by 100 fibers on each of two nodes: all succeed", () =>
    Effect.gen(function* () {
      const { a, id, node } = yield* one
      const b = yield* node("b")
      let attempts = 0
      const counted = (session: Session) => {
        attempts++
        return increment(session)
      }
      const fibers = yield* Effect.forEach(Array.from({ length: 200 }), (_, index) =>
        Effect.forkChild((index % 2 === 0 ? a : b).modify(id, counted))
      )
      yield* pass("2 seconds", 4)
      const results = yield* Effect.forEach(fibers, Fiber.await)
      assert.deepStrictEqual([...new Set(results.map(({ _tag }) => _tag))], ["Success"])
      assert.strictEqual(yield* countOf(a, id), 200)
      assert.isAtMost(attempts, 4 * 200)
    })
  )

  it.effect("starts over with the session as it stands when the turn comes, so that the second attempt succeeds", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const turns = yield* Effect.forEach(Array.from({ length: 5 }), () => takeTurn(a, id))
      for (const { goOn } of turns) yield* goOn
      for (const { fiber } of turns) yield* Fiber.join(fiber)
      // While the first one had its turn, the others came for the first time.
      assert.deepStrictEqual(
        turns.map(({ attempts }) => attempts()),
        [3, 2, 2, 2, 2]
      )
      assert.strictEqual(yield* countOf(a, id), 10)
    })
  )

  it.effect("has a turn per session: who waits for one session does not wait for another", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const other = yield* createNoted(a)
      const first = yield* takeTurn(a, id)
      yield* first.hasTurn
      const waiting = yield* takeTurn(a, id)
      yield* waiting.goOn
      const elsewhere = yield* takeTurn(a, other.id)
      yield* elsewhere.goOn
      yield* settle
      assert.isTrue(isHeldUp(waiting.fiber))
      assert.isFalse(isHeldUp(elsewhere.fiber))
      yield* first.goOn
      yield* Fiber.join(first.fiber)
      yield* Fiber.join(waiting.fiber)
    })
  )

  it.effect("that did not lose waits for nobody's turn", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const slow = yield* takeTurn(a, id)
      yield* slow.hasTurn
      assert.strictEqual(yield* Effect.flatMap(a.modify(id, increment), Session.get(Count)), 2)
      yield* slow.goOn
      yield* Fiber.join(slow.fiber)
      assert.strictEqual(slow.attempts(), 3, "it has lost again meanwhile")
    })
  )

  it.effect("an interruption of one who waits for the turn, or has it, lets the others go on", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const [first, second, third] = [yield* takeTurn(a, id), yield* takeTurn(a, id), yield* takeTurn(a, id)]
      yield* first.hasTurn
      assert.deepStrictEqual([second.attempts(), third.attempts()], [1, 1])
      yield* Fiber.interrupt(second.fiber)
      yield* third.goOn
      yield* settle
      assert.isTrue(isHeldUp(third.fiber))
      yield* Fiber.interrupt(first.fiber)
      yield* Fiber.join(third.fiber)
      assert.strictEqual(third.attempts(), 2)
      const later = yield* takeTurn(a, id)
      yield* later.goOn
      yield* Fiber.join(later.fiber)
    })
  )

  it.effect("that fails or dies in its turn lets the others go on", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const dying = yield* takeTurn(a, id, Effect.die("a bug of the application"))
      const waiting = yield* takeTurn(a, id)
      yield* waiting.goOn
      yield* dying.goOn
      yield* Fiber.join(waiting.fiber)
      assert.strictEqual((yield* Fiber.await(dying.fiber))._tag, "Failure")
    })
  )
})

describe("modify within the callback of another modify", () => {
  /** Sets an attribute, and loses once against somebody else who sets it. */
  const nested = (node: Node, id: SessionId) => {
    let attempts = 0
    return node.modify(id, (session) =>
      Effect.gen(function* () {
        if (++attempts === 1) yield* Effect.orDie(node.update(Session.set(session, Color, "red"), { check: "none" }))
        return Session.set(session, Color, "blue")
      })
    )
  }

  it.effect("of the same session never waits for the other one's turn", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const outer = yield* takeTurn(a, id, nested(a, id))
      const waiting = yield* takeTurn(a, id)
      yield* waiting.goOn
      yield* outer.goOn
      yield* Fiber.join(outer.fiber)
      yield* Fiber.join(waiting.fiber)
      const session = yield* a.get(id)
      assert.strictEqual(yield* Session.get(session, Color), "blue")
      assert.strictEqual(yield* Session.get(session, Count), 4)
    })
  )

  it.effect("of another session, while somebody does the same the other way round", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const other = yield* createNoted(a)
      const first = yield* takeTurn(a, id, nested(a, other.id))
      const second = yield* takeTurn(a, other.id, nested(a, id))
      yield* first.hasTurn
      yield* second.hasTurn
      yield* first.goOn
      yield* second.goOn
      yield* Fiber.join(first.fiber)
      yield* Fiber.join(second.fiber)
      for (const one of [id, other.id]) {
        const session = yield* a.get(one)
        assert.strictEqual(yield* Session.get(session, Color), "blue")
        assert.strictEqual(yield* Session.get(session, Count), 2)
      }
    })
  )

  it.effect("by many fibers, of two sessions in both orders: all succeed", () =>
    Effect.gen(function* () {
      const { a, id } = yield* one
      const other = (yield* createNoted(a)).id
      const both = (outer: SessionId, inner: SessionId) =>
        a.modify(outer, (session) =>
          Effect.andThen(
            Effect.orDie(
              a.modify(
                inner,
                Session.modify(Note, (note) => `${note}.`)
              )
            ),
            increment(session)
          )
        )
      const fibers = yield* Effect.forEach(Array.from({ length: 40 }), (_, index) =>
        Effect.forkChild(index % 2 === 0 ? both(id, other) : both(other, id))
      )
      yield* pass("5 seconds", 10)
      for (const fiber of fibers) yield* Fiber.join(fiber)
      assert.strictEqual(yield* countOf(a, id), 20)
      assert.strictEqual(yield* countOf(a, other), 20)
    })
  )
})
