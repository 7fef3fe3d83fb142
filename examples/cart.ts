/** Twenty fibers change one attribute at once. `modify` starts over whenever it lost a race, so that nothing is lost. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect, Schema } from "effect"
import { deepStrictEqual } from "node:assert/strict"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.Int), { initial: () => [] })

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { id } = yield* sessions.create(UserId.make("alice"))
  let attempts = 0

  const add = (item: number) =>
    sessions.modify(id, (session) => {
      attempts++ // runs again with the session as it stands after a lost race
      return Session.modify(session, Cart, (items) => [...items, item])
    })
  const items = Array.range(1, 20)
  yield* Effect.forEach(items, add, { concurrency: "unbounded", discard: true })

  const session = yield* sessions.get(id)
  const cart = yield* Session.get(session, Cart)
  yield* Console.log(`${items.length} fibers put one item each into the same cart, all at once.`)
  yield* Console.log(`The cart holds ${cart.length}: ${cart.join(", ")}`)
  yield* Console.log(`That took ${attempts} attempts; the session is at version ${session.version}.`)
  deepStrictEqual(
    cart.toSorted((a, b) => a - b),
    items
  )
  yield* sessions.delete(id)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
