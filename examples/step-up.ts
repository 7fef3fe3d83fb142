/** Elevated access after a second factor: an attribute that runs out by itself while the session goes on. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option, Schema } from "effect"

const Elevated = SessionAttribute.make("elevated_access", Schema.Struct({ factor: Schema.String }), {
  timeToLive: "1 second" // 15 minutes, say, in a real application
})

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { id } = yield* sessions.create(UserId.make("alice"))

  const transferMoney = Effect.gen(function* () {
    const elevated = yield* Session.getOption(yield* sessions.get(id), Elevated)
    return Option.match(elevated, {
      onNone: () => "asks for the second factor",
      onSome: ({ factor }) => `goes through, thanks to ${factor}`
    })
  })
  yield* Console.log(`Logged in;      a transfer ${yield* transferMoney}`)

  yield* sessions.modify(id, Session.set(Elevated, { factor: "passkey" }))
  yield* Console.log(`Stepped up;     a transfer ${yield* transferMoney}`)

  yield* Effect.sleep("1 second")
  yield* Console.log(`A second later; a transfer ${yield* transferMoney}`)
  yield* Console.log(`The session itself is still there: version ${(yield* sessions.get(id)).version}`)
  yield* sessions.delete(id)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
