/** Optimistic locking of a whole session: a form that was filled in from an old state is refused, and says so in its type. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"

const Theme = SessionAttribute.make("theme", Schema.Literals(["light", "dark"]), { initial: () => "light" as const })
const Language = SessionAttribute.make("language", Schema.String, { initial: () => "en" })

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const form = yield* sessions.create(UserId.make("alice"))
  yield* Console.log(`Two tabs show the preferences of version ${form.version}.`)

  const first = yield* sessions.update(Session.set(form, Theme, "dark"), { check: "session" })
  yield* Console.log(`Tab 1 saves theme = dark, and the session is at version ${first.version}.`)

  // Another attribute, so the default check would let it pass; "session" insists that nothing at all has changed.
  const second = yield* sessions
    .update(Session.set(form, Language, "fr"), { check: "session" })
    .pipe(
      Effect.catchTag("VersionMismatch", (error) =>
        Console.log(`Tab 2 saves language = fr, and is refused:\n  ${error._tag}: ${error.message}`).pipe(
          Effect.andThen(sessions.update(Session.set(error.current, Language, "fr"), { check: "session" }))
        )
      )
    )
  yield* Console.log(
    `Applied again to error.current it is saved as version ${second.version}, and tab 1's choice stands:`
  )
  yield* Console.log(
    `  theme = ${yield* Session.get(second, Theme)}, language = ${yield* Session.get(second, Language)}`
  )
  yield* sessions.delete(second.id)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
