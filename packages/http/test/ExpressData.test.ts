/** What a request gets of a session that memory gives to many. */
import { Session, SessionAttribute, SessionStore } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as ExpressData from "../src/internal/ExpressData.ts"

const property = (name: string) => SessionAttribute.make(`express:${name}`, Schema.Json)
const cart = { items: ["pen"], at: { shop: 1 } }

const withCart = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const created = yield* sessions.createAnonymous()
  const saved = yield* sessions.update(
    Session.set(Session.set(created, property("cart"), cart), property("elevated"), true, { timeToLive: "1 minute" })
  )
  return { id: saved.id, read: Effect.flatMap(sessions.get(saved.id, { touch: false }), ExpressData.dataOf), sessions }
})

describe("the data of a session", () => {
  it.effect("are each request's own to change", () =>
    Effect.gen(function* () {
      const { read } = yield* withCart
      const [one, two] = [(yield* read).data, (yield* read).data]
      const changed = one["cart"] as { items: Array<string>; at: { shop: number } }
      changed.items.push("ink")
      changed.at.shop = 2
      Object.assign(one, { more: true })
      assert.deepStrictEqual(two["cart"], cart)
      assert.deepStrictEqual((yield* read).data["cart"], cart)
      assert.notProperty((yield* read).data, "more")
    }).pipe(Effect.provide(SessionStore.layerMemory()))
  )

  it.effect("are without what has expired since another request got them, and with what was written since", () =>
    Effect.gen(function* () {
      const { id, read, sessions } = yield* withCart
      assert.strictEqual((yield* read).data["elevated"], true)
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual((yield* read).data["elevated"], true)
      yield* TestClock.adjust("2 seconds")
      const later = yield* read
      assert.notProperty(later.data, "elevated")
      assert.deepStrictEqual([...later.texts.keys()], ["express:cart", "express.cookie"])
      yield* sessions.modify(id, Session.set(property("cart"), "empty"))
      assert.strictEqual((yield* read).data["cart"], "empty")
    }).pipe(Effect.provide(SessionStore.layerMemory()))
  )
})

describe("the id of one of express-session's", () => {
  it("is the same whether it is remembered or not, and another one for any other", () => {
    const tokenOf = (sid: string) => Redacted.value(ExpressData.idOf(sid))
    const sids = [
      "a",
      "b",
      "ü",
      "x".repeat(128),
      "x".repeat(129),
      "line\nfeed",
      ...Array.from({ length: 12_000 }, (_, n) => `sid ${n}`)
    ]
    const first = sids.map(tokenOf)
    assert.strictEqual(new Set(first).size, sids.length)
    assert.deepStrictEqual(sids.map(tokenOf), first)
    assert.strictEqual(tokenOf(`y${"x".repeat(128)}z`.slice(1, -1)), tokenOf("x".repeat(128)))
  })
})
