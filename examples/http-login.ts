/** Login and logout over HTTP: a guarded route, and a session that is over. */
import { UserId } from "@effect-pg-session/core"
import { Authenticated, CurrentSession, requireSession } from "@effect-pg-session/http"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { deepStrictEqual } from "node:assert/strict"
import { serve, session } from "./serve.ts"

const login = Effect.as(CurrentSession.login(UserId.make("alice")), HttpServerResponse.text("welcome"))
const logout = Effect.as(CurrentSession.logout, HttpServerResponse.text("goodbye"))
const me = Effect.map(Authenticated.userId, (user) => HttpServerResponse.text(`you are ${user}`))
const routes = Layer.mergeAll(
  Layer.provide(HttpRouter.add("GET", "/me", me), requireSession.combine(session).layer),
  Layer.provide(HttpRouter.add("POST", "/login", login), session.layer),
  Layer.provide(HttpRouter.add("POST", "/logout", logout), session.layer)
)

const program = Effect.gen(function* () {
  const ask = yield* serve(routes)
  const requests = ["GET /me", "POST /login", "GET /me", "POST /logout", "GET /me"].map((line) => line.split(" "))
  const answers = yield* Effect.forEach(requests, ([method = "", path = ""]) => ask(method, path))
  for (const { status, text } of answers) yield* Console.log(status, text)
  deepStrictEqual(
    answers.map(({ status }) => status),
    [401, 200, 200, 200, 401]
  )
})
program.pipe(Effect.scoped, NodeRuntime.runMain)
