/** A typed session: created, changed, read from memory, ended. Reads DATABASE_URL; creates its tables by itself. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const addPen = Session.modify(Cart, (items) => [...items, "pen"])

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { id } = yield* sessions.create(UserId.make("alice")) // the id is the secret that goes into the cookie
  yield* sessions.modify(id, addPen) // starts over by itself if somebody else was faster
  const session = yield* sessions.get(id) // from this node's memory
  const cart = yield* Session.get(session, Cart)
  yield* Console.log(`Session ${session.key}, version ${session.version}, has in its cart: ${cart.join(", ")}`)
  yield* sessions.delete(id) // on every node
  const gone = yield* Effect.flip(sessions.get(id)) // SessionNotFound | SessionStoreUnavailable
  yield* Console.log(gone.message)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
