/** Twenty requests put something into one cart at once: `modify` starts over where it lost a race, and nothing is lost. */
import { Session, SessionAttribute } from "@effect-pg-session/core"
import { CurrentSession } from "@effect-pg-session/http"
import { NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { strictEqual } from "node:assert/strict"
import { serve, session } from "./serve.ts"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const add = Effect.gen(function* () {
  const addPen = Session.modify(Cart, (items) => [...items, "pen"])
  const session = yield* CurrentSession.modify(addPen, { whenAbsent: "createGuest" })
  const cart = yield* Session.get(session, Cart)
  return HttpServerResponse.text(String(cart.length))
}).pipe(Effect.catchTag("AttributeInvalid", Effect.die))

const program = Effect.gen(function* () {
  const ask = yield* serve(Layer.provide(HttpRouter.add("POST", "/cart", add), session.layer))
  yield* ask("POST", "/cart") // begins a guest's session
  yield* Effect.forEach(Array.range(1, 20), () => ask("POST", "/cart"), { concurrency: "unbounded" })
  const { text } = yield* ask("POST", "/cart")
  yield* Console.log(`22 requests, 20 of them at once: the cart holds ${text} pens.`)
  strictEqual(text, "22")
})
program.pipe(Effect.scoped, NodeRuntime.runMain)
