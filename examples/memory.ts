/** The same service without a database, for tests: its time is Effect's `Clock`, so `TestClock` makes half an hour pass at once. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"

const Theme = SessionAttribute.make("theme", Schema.String)

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { id } = yield* sessions.create(UserId.make("alice"), { attributes: [SessionAttribute.value(Theme, "dark")] })
  const show = (when: string) =>
    Effect.gen(function* () {
      const session = yield* sessions.find(id)
      const found = Option.isSome(session) ? `theme ${yield* Session.get(session.value, Theme)}` : "no session"
      yield* Console.log(`  ${when.padEnd(27)}${found}`)
    })
  yield* Console.log("No database, and an idle timeout of 30 minutes:")
  yield* show("at login")
  yield* TestClock.adjust("29 minutes")
  yield* show("29 minutes later")
  yield* TestClock.adjust("29 minutes")
  yield* show("another 29 minutes later")
  yield* TestClock.adjust("30 minutes")
  yield* show("30 idle minutes later")
})

program.pipe(
  Effect.provide(SessionStore.layerMemory({ idleTimeout: "30 minutes" }).pipe(Layer.provideMerge(TestClock.layer()))),
  NodeRuntime.runMain
)
