/** The same service without a database, for tests: its time is Effect's `Clock`, so `TestClock` makes two days pass at once. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option, Schema } from "effect"
import { TestClock } from "effect/testing"

const Theme = SessionAttribute.make("theme", Schema.String)

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { id } = yield* sessions.create(UserId.make("alice"), { attributes: [SessionAttribute.value(Theme, "dark")] })
  const ask = Effect.gen(function* () {
    const session = yield* sessions.find(id)
    return Option.isSome(session) ? `${session.value}, theme ${yield* Session.get(session.value, Theme)}` : "no session"
  })
  yield* Console.log("No database, and an idle timeout of 30 minutes:")
  yield* Console.log(`  at login           ${yield* ask}`)
  yield* TestClock.adjust("29 minutes")
  yield* Console.log(`  29 minutes later   ${yield* ask}`)
  yield* TestClock.adjust("29 minutes")
  yield* Console.log(`  29 minutes later   ${yield* ask}`)
  yield* TestClock.adjust("30 minutes")
  yield* Console.log(`  30 minutes later   ${yield* ask}`)
})

program.pipe(
  Effect.provide(SessionStore.layerMemory({ idleTimeout: "30 minutes" })),
  Effect.provide(TestClock.layer()),
  NodeRuntime.runMain
)
