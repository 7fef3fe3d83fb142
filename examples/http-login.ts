/** Login and logout over HTTP: the cookie, the guard, and a session that is over. */
import { UserId } from "@effect-pg-session/core"
import {
  Authenticated,
  csrf,
  CurrentSession,
  requireSession,
  SessionCookie,
  SessionMiddleware
} from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { deepStrictEqual } from "node:assert/strict"
import { serve } from "./serve.ts"

const session = csrf().combine(SessionMiddleware.make())
const login = Effect.as(CurrentSession.login(UserId.make("alice")), HttpServerResponse.empty())
const me = Effect.map(Authenticated.userId, (user) => HttpServerResponse.text(`you are ${user}`))
const logout = Effect.as(CurrentSession.logout, HttpServerResponse.empty())
const routes = Layer.mergeAll(
  HttpRouter.add("GET", "/me", me).pipe(Layer.provide(requireSession.combine(session).layer)),
  HttpRouter.addAll([HttpRouter.route("POST", "/login", login), HttpRouter.route("POST", "/logout", logout)]).pipe(
    Layer.provide(session.layer)
  )
).pipe(
  Layer.provide([SessionCookie.layer({ keys: [Redacted.make("at least 32 random characters ....")] }), PgSessionLive])
)

const program = Effect.gen(function* () {
  const ask = yield* serve(routes)
  const answers: Array<number> = []
  for (const [method, path] of [
    ["GET", "/me"],
    ["POST", "/login"],
    ["GET", "/me"],
    ["POST", "/logout"],
    ["GET", "/me"]
  ] as const) {
    const response = yield* Effect.promise(() => ask(method, path))
    answers.push(response.status)
    yield* Console.log(`${method} ${path}: ${response.status} ${yield* Effect.promise(() => response.text())}`)
  }
  deepStrictEqual(answers, [401, 204, 200, 204, 401])
})
program.pipe(Effect.scoped, NodeRuntime.runMain)
