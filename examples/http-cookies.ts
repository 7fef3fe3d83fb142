/** Signed cookies: a key is replaced without logging anybody out, and a forged one never reaches the store. */
import { SessionStore, UserId } from "@effect-pg-session/core"
import { SessionCookie } from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Redacted } from "effect"
import { deepStrictEqual } from "node:assert/strict"

const march = Redacted.make("march: 32 random characters ......")
const april = Redacted.make("april: 32 random characters ......")
const cookies = (...keys: ReadonlyArray<Redacted.Redacted>) =>
  Effect.provide(SessionCookie, SessionCookie.layer({ keys }))

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const session = yield* sessions.create(UserId.make("alice"))
  const old = yield* cookies(march)
  const now = yield* cookies(april, march) // the first signs, all verify
  const value = Redacted.value(old.encode(session, 0))
  const read = (text: string) => now.decode(`__Host-session=${text}`, 0)
  const verdicts = [read(value), read(value.replace(/.$/, (last) => (last === "A" ? "E" : "A"))), read("nonsense")]
  const shown = verdicts.map((verdict) =>
    verdict._tag === "Success" ? `accepted, renew: ${verdict.success?.renew}` : `refused: ${verdict.failure.reason}`
  )
  yield* Console.log(shown.join("\n"))
  deepStrictEqual(shown, ["accepted, renew: oldKey", "refused: Forged", "refused: Malformed"])
})
program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
