import { type Session, SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { makeEnvironment, RequestSession } from "../src/internal/RequestSession.ts"
import { makeCookies, type SessionCookies } from "../src/SessionCookie.ts"

const keys = [Redacted.make("a key of the tests with enough characters")]

describe("RequestSession", () => {
  for (const maxAge of ["1 hour", "Infinity"] as const) {
    it.effect(
      `an id that a wrapped cookie service has put in the place of the cookie's is what counts (${maxAge})`,
      () =>
        Effect.gen(function* () {
          const store = yield* SessionStore
          const clock = yield* Clock.Clock
          const [alice, bob] = [yield* store.create(UserId.make("alice")), yield* store.create(UserId.make("bob"))]
          const cookies = yield* makeCookies({ maxAge }, keys)
          const cookie = `${cookies.settings.name}=${Redacted.value(cookies.encode(alice, clock.currentTimeMillisUnsafe()))}`
          const ask = (cookies: SessionCookies) => {
            const request = { source: {}, headers: { cookie } }
            return Effect.map(
              new RequestSession(makeEnvironment({ store, cookies, clock }), request, constVoid).load,
              Option.map((session: Session) => session.key)
            )
          }
          const wrapped: SessionCookies = {
            ...cookies,
            decode: (header, now) =>
              Result.map(cookies.decode(header, now), (presented) => presented && { ...presented, id: bob.id })
          }
          for (const _ of [1, 2]) {
            assert.deepStrictEqual(yield* ask(cookies), Option.some(alice.key))
            assert.deepStrictEqual(yield* ask(wrapped), Option.some(bob.key))
          }
        }).pipe(Effect.provide(SessionStore.layerMemory()))
    )
  }
})
