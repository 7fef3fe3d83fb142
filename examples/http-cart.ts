/** Twenty requests put something into one cart at once: `modify` starts over where it lost a race, and nothing is lost. */
import { Session, SessionAttribute } from "@effect-pg-session/core"
import { csrf, CurrentSession, SessionCookie, SessionMiddleware } from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect, Layer, Redacted, Schema } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { strictEqual } from "node:assert/strict"
import { serve } from "./serve.ts"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const add = CurrentSession.modify(
  Session.modify(Cart, (items) => [...items, "pen"]),
  { whenAbsent: "createGuest" }
).pipe(
  Effect.flatMap((session) => Session.get(session, Cart)),
  Effect.map((cart) => HttpServerResponse.text(String(cart.length))),
  Effect.catchTag("AttributeInvalid", Effect.die)
)
const routes = HttpRouter.add("POST", "/cart", add).pipe(
  Layer.provide(csrf().combine(SessionMiddleware.make()).layer),
  Layer.provide([SessionCookie.layer({ keys: [Redacted.make("at least 32 random characters ....")] }), PgSessionLive])
)

const program = Effect.gen(function* () {
  const ask = yield* serve(routes)
  yield* Effect.promise(() => ask("POST", "/cart")) // begins a guest's session
  yield* Effect.forEach(Array.range(1, 20), () => Effect.promise(() => ask("POST", "/cart")), {
    concurrency: "unbounded"
  })
  const count = yield* Effect.promise(() => ask("POST", "/cart").then((response) => response.text()))
  yield* Console.log(`22 requests, 20 of them at once: the cart holds ${count} pens.`)
  strictEqual(count, "22")
})
program.pipe(Effect.scoped, NodeRuntime.runMain)
