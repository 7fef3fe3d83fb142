/** What is answered while the store is down: 503 unless the route has named another choice, and never anything of the reason. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { CurrentSession, SessionMiddleware } from "../src/index.ts"
import { loggedIn, shop } from "./support/Shop.ts"
import { detail } from "./support/Store.ts"

describe("while the store is down", () => {
  it.effect(
    "whoever asks for the session gets 503, without the reason, and the cookie is kept",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { readYourWrites: true, maxAge: "1 hour" } })
      const browser = yield* loggedIn(server)
      const cookie = yield* browser.cookie
      yield* server.watched.down(true)
      const paths = [
        "/me",
        "/user",
        "/flash",
        "/token",
        "/guarded/session",
        "/guarded/fresh",
        "/guarded/elevated",
        "/guarded/authoritative"
      ]
      const reads = yield* Effect.forEach(paths, (path) => browser.get(path))
      const changes = ["/login", "/logout", "/rotate", "/cart?item=x", "/flash", "/logout-everywhere", "/elevate"]
      const writes = yield* Effect.forEach(changes, (path) => browser.post(path))
      for (const answer of [...reads, ...writes]) {
        assert.deepStrictEqual([answer.status, answer.body], [503, `{"_tag":"SessionUnavailable"}`])
        assert.deepStrictEqual(answer.setCookie, [])
        assert.notInclude(JSON.stringify(answer.headers), detail)
      }
      assert.strictEqual((yield* browser.get("/silent")).status, 200)
      yield* server.watched.down(false)
      assert.strictEqual(yield* browser.cookie, cookie)
      assert.strictEqual((yield* browser.get("/user")).status, 200)
    }, Effect.scoped)
  )

  it.effect(
    "strangers and forged cookies cost it nothing",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      yield* server.watched.down(true)
      assert.strictEqual((yield* server.request("GET", "/me")).status, 200)
      assert.strictEqual((yield* server.request("GET", "/user")).status, 401)
      const headers = { cookie: "__Host-session=forged" }
      assert.strictEqual((yield* server.request("GET", "/me", { headers })).status, 200)
      assert.deepStrictEqual(server.watched.calls, [])
    }, Effect.scoped)
  )

  it.effect(
    "a route that has named it goes on with nobody, and the cookie is kept",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      assert.deepInclude((yield* browser.get("/teaser")).json, { user: "alice" })
      yield* server.watched.down(true)
      const down = yield* browser.get("/teaser")
      assert.deepStrictEqual([down.status, down.json, down.setCookie], [200, { session: false }, []])
      yield* server.watched.down(false)
      assert.deepInclude((yield* browser.get("/teaser")).json, { user: "alice" })
    }, Effect.scoped)
  )

  it.effect(
    "a middleware can name it for all of its routes; login still fails",
    Effect.fnUntraced(function* () {
      const lenient = SessionMiddleware.make({ whenUnavailable: "anonymous" })
      const known = Effect.map(CurrentSession.getOrAnonymous, (found) =>
        HttpServerResponse.text(String(Option.isSome(found)))
      )
      const login = Effect.andThen(
        CurrentSession.getOrAnonymous,
        Effect.as(Effect.andThen(CurrentSession.guest(), CurrentSession.logout), HttpServerResponse.text("never"))
      )
      const server = yield* shop({
        more: () =>
          Layer.mergeAll(HttpRouter.add("GET", "/known", known), HttpRouter.add("POST", "/try", login)).pipe(
            Layer.provide(lenient.layer)
          )
      })
      const browser = yield* loggedIn(server)
      yield* server.watched.down(true)
      assert.strictEqual((yield* browser.get("/known")).body, "false")
      const tried = yield* browser.post("/try")
      assert.deepStrictEqual([tried.status, tried.setCookie], [503, []])
    }, Effect.scoped)
  )

  it.effect(
    "a new id is still handed out when the store goes down before the response leaves",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { readYourWrites: true } })
      const browser = yield* loggedIn(server)
      const overtaken = Effect.fnUntraced(function* (operation: "rotate" | "modify", path: string) {
        const headers = { cookie: yield* browser.cookie }
        const pause = yield* server.watched.pause("after", operation)
        const change = yield* Effect.forkChild(server.request("POST", path, { headers }))
        yield* pause.arrived
        yield* server.watched.down(true)
        yield* pause.resume
        const answer = yield* Fiber.join(change)
        yield* server.watched.down(false)
        return [answer.status, answer.setCookie.length]
      })
      // A renewal can wait, a new id cannot: the old one is as good as gone.
      assert.deepStrictEqual(yield* overtaken("modify", "/cart?item=pen"), [200, 0])
      assert.deepStrictEqual(yield* overtaken("rotate", "/rotate"), [200, 1])
    }, Effect.scoped)
  )
})
