import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Mailbox } from "../src/internal/Mailbox.ts"

const lost = Exit.fail("lost" as const)
const make = (limit = 1_000) => new Mailbox<"lost" | "later">(limit)
const waiting = (mailbox: ReturnType<typeof make>) => Effect.forkChild(mailbox.take, { startImmediately: true })

describe("Mailbox", () => {
  it.effect("who waits has what arrived before `deliver` returns", () =>
    Effect.gen(function* () {
      const mailbox = make()
      const taker = yield* waiting(mailbox)
      assert.isUndefined(taker.pollUnsafe())
      mailbox.put("a")
      mailbox.put("b")
      assert.isUndefined(taker.pollUnsafe())
      assert.isTrue(mailbox.deliver())
      assert.deepStrictEqual(taker.pollUnsafe(), Exit.succeed(["a", "b"]))
    })
  )

  it.effect("what nobody waits for is kept in order, and taken once", () =>
    Effect.gen(function* () {
      const mailbox = make()
      for (const payload of ["a", "b", "c"]) {
        mailbox.put(payload)
        assert.isTrue(mailbox.deliver())
      }
      assert.deepStrictEqual(yield* mailbox.take, ["a", "b", "c"])
      const taker = yield* waiting(mailbox)
      mailbox.deliver()
      assert.isUndefined(taker.pollUnsafe(), "there is nothing")
    })
  )

  it.effect("of several the first gets all, and one that was interrupted takes nothing away", () =>
    Effect.gen(function* () {
      const mailbox = make()
      const [first, second, third] = [yield* waiting(mailbox), yield* waiting(mailbox), yield* waiting(mailbox)]
      yield* Fiber.interrupt(first)
      mailbox.put("a")
      mailbox.deliver()
      assert.deepStrictEqual(second.pollUnsafe(), Exit.succeed(["a"]))
      assert.isUndefined(third.pollUnsafe())
      mailbox.put("b")
      mailbox.deliver()
      assert.deepStrictEqual(third.pollUnsafe(), Exit.succeed(["b"]))
    })
  )

  it.effect("after the end there is what is left, then the failure, for ever; the first one counts", () =>
    Effect.gen(function* () {
      const mailbox = make()
      mailbox.put("a")
      mailbox.fail(Cause.fail("lost"))
      mailbox.fail(Cause.fail("later"))
      mailbox.put("b")
      assert.deepStrictEqual(yield* mailbox.take, ["a"])
      for (const _ of [1, 2]) assert.deepStrictEqual(yield* Effect.exit(mailbox.take), lost)
    })
  )

  it.effect("the end reaches all who wait; the first of them gets what has not been delivered", () =>
    Effect.gen(function* () {
      const mailbox = make()
      const takers = [yield* waiting(mailbox), yield* waiting(mailbox)]
      mailbox.put("a")
      mailbox.fail(Cause.fail("lost"))
      assert.deepStrictEqual(
        takers.map((taker) => taker.pollUnsafe()),
        [Exit.succeed(["a"]), lost]
      )
    })
  )

  it.effect("says when more waits than may, every payload counting 64 more, whoever waits not counted", () =>
    Effect.gen(function* () {
      const mailbox = make(2 * 64 + 2)
      mailbox.put("a")
      mailbox.put("b")
      assert.isTrue(mailbox.deliver())
      mailbox.put("")
      assert.isFalse(mailbox.deliver())
      assert.lengthOf(yield* mailbox.take, 3)
      assert.isTrue(mailbox.deliver())
      const taker = yield* waiting(mailbox)
      mailbox.put("x".repeat(10_000))
      assert.isTrue(mailbox.deliver())
      assert.isDefined(taker.pollUnsafe())
    })
  )
})
