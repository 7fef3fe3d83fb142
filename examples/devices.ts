/** "Where you are logged in": list a user's sessions, end one of them, end all others. Keys are public; ids never show up. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, DateTime, Effect, Schema } from "effect"

const Device = SessionAttribute.make("device", Schema.String, { initial: () => "unknown" })

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const alice = UserId.make("alice")
  const login = (device: string) => sessions.create(alice, { attributes: [SessionAttribute.value(Device, device)] })
  const laptop = yield* login("laptop")
  const phone = yield* login("phone")
  yield* login("tablet")

  const show = (title: string) =>
    Effect.gen(function* () {
      yield* Console.log(title)
      for (const summary of yield* sessions.listForUser(alice)) {
        const since = DateTime.formatIsoDateUtc(summary.createdAt)
        const here = summary.key === laptop.key ? "  <- this device" : ""
        yield* Console.log(`  ${summary.key}  ${(yield* Session.get(summary, Device)).padEnd(7)} since ${since}${here}`)
      }
    })
  yield* show("Alice is logged in on these devices:")

  const ended = yield* sessions.deleteByKey(phone.key)
  yield* show(`\nShe lost her phone and ends its session (${ended ? "done" : "there was none"}):`)

  const others = yield* sessions.deleteAllForUser(alice, { except: laptop.key })
  yield* show(`\nShe logs out all other devices (${others}):`)
  yield* sessions.delete(laptop.id)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
