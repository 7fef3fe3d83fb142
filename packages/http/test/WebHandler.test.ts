/** Through a web handler, and in tests of handlers without any server. */
import { type InvalidSessionConfig, Session, SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { CurrentSession, type SessionCookie, SessionMiddleware } from "../src/index.ts"
import { Cart, cookieLayer, routes } from "./support/Shop.ts"

const alice = UserId.make("alice")

/** A web handler, as a platform without a server calls it. */
const web = Effect.fnUntraced(function* (
  more?: (
    session: SessionMiddleware
  ) => Layer.Layer<never, never, HttpRouter.HttpRouter | SessionStore | SessionCookie>,
  store: Layer.Layer<SessionStore, InvalidSessionConfig> = SessionStore.layerMemory()
) {
  const session = SessionMiddleware.make()
  const app = Layer.mergeAll(routes(session), more?.(session) ?? Layer.empty).pipe(
    Layer.provide(cookieLayer()),
    Layer.provide(store)
  )
  const { handler } = yield* Effect.acquireRelease(
    Effect.sync(() => HttpRouter.toWebHandler(app, { disableLogger: true })),
    ({ dispose }) => Effect.promise(dispose)
  )
  return (method: string, path: string, headers: Record<string, string> = {}) =>
    Effect.promise(() => handler(new Request(`https://shop.example${path}`, { method, headers })))
})

describe("a web handler", () => {
  it.live(
    "logs in, reads and logs out",
    Effect.fnUntraced(function* () {
      const send = yield* web()
      const login = yield* send("POST", "/login?user=alice")
      const [line] = login.headers.getSetCookie()
      assert.match(line ?? "", /^__Host-session=.*; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
      const cookie = line?.split(";")[0] ?? ""
      const me = yield* send("GET", "/me", { cookie })
      assert.deepInclude(yield* Effect.promise(() => me.json()), { user: "alice" })
      const logout = yield* send("POST", "/logout", { cookie })
      assert.include(logout.headers.getSetCookie().join(), "Max-Age=0")
    }, Effect.scoped)
  )

  it.live(
    "answers whatever the cookie header is: a failing step before the response would hang it",
    Effect.fnUntraced(function* () {
      const send = yield* web()
      for (const cookie of [
        "",
        "=",
        ";",
        "__Host-session",
        "__Host-session=",
        "__Host-session=%",
        "\u00ff__Host-session=\u00ff",
        "__Host-session=x; __Host-session=y"
      ]) {
        for (const [method, path, status] of [
          ["GET", "/me", 200],
          ["GET", "/user", 401],
          ["POST", "/logout", 200]
        ] as const) {
          assert.strictEqual((yield* send(method, path, { cookie })).status, status, cookie)
        }
      }
    }, Effect.scoped)
  )

  it.live(
    "keeps what earlier steps have put into the response",
    Effect.fnUntraced(function* () {
      const send = yield* web((session) =>
        HttpRouter.add(
          "POST",
          "/earlier",
          Effect.andThen(
            CurrentSession.login(alice),
            Effect.as(
              HttpEffect.appendPreResponseHandler((_, response) => Effect.succeed(response)),
              HttpServerResponse.text("ok", { headers: { vary: "Origin" } })
            )
          )
        ).pipe(Layer.provide(session.layer))
      )
      const answer = yield* send("POST", "/earlier")
      assert.deepStrictEqual([answer.status, answer.headers.get("vary")], [200, "Origin, Cookie"])
    }, Effect.scoped)
  )

  it.live(
    "answers, and sends the cookie, although the store dies between the handler and the response",
    Effect.fnUntraced(function* () {
      const dying = Layer.effect(
        SessionStore,
        Effect.map(SessionStore, (sessions) => ({ ...sessions, find: () => Effect.die(new Error("no more")) }))
      )
      const send = yield* web(undefined, Layer.provide(dying, SessionStore.layerMemory()))
      const login = yield* send("POST", "/login")
      const [line = ""] = login.headers.getSetCookie()
      const rotate = yield* send("POST", "/rotate", { cookie: line.split(";")[0] ?? "" })
      assert.deepStrictEqual([rotate.status, rotate.headers.getSetCookie().length], [200, 1])
    }, Effect.scoped)
  )

  it.live(
    "a request that a handler makes of its own process has its own session, not its caller's",
    Effect.fnUntraced(function* () {
      const send = yield* web((session) =>
        HttpRouter.add(
          "POST",
          "/outer",
          Effect.gen(function* () {
            yield* CurrentSession.login(alice)
            const own = yield* Effect.context<CurrentSession>()
            const inner = HttpRouter.add(
              "GET",
              "/inner",
              Effect.map(CurrentSession.get, (found) => HttpServerResponse.text(String(Option.isSome(found))))
            ).pipe(
              Layer.provide(session.layer),
              Layer.provide(cookieLayer()),
              Layer.provide(SessionStore.layerMemory())
            )
            const { handler } = HttpRouter.toWebHandler(inner, { disableLogger: true })
            const request = new Request("https://shop.example/inner")
            const answer = yield* Effect.promise(() => handler(request, Context.makeUnsafe<never>(own.mapUnsafe)))
            return HttpServerResponse.text(yield* Effect.promise(() => answer.text()))
          })
        ).pipe(Layer.provide(session.layer))
      )
      const answer = yield* send("POST", "/outer")
      assert.strictEqual(yield* Effect.promise(() => answer.text()), "false")
      assert.strictEqual(answer.headers.getSetCookie().length, 1)
    }, Effect.scoped)
  )
})

describe("layerTest", () => {
  it.effect(
    "gives handlers a session without a server, and everything works on it",
    Effect.fnUntraced(function* () {
      const sessions = yield* SessionStore
      const session = yield* sessions.create(alice)
      const handler = Effect.gen(function* () {
        assert.strictEqual((yield* CurrentSession.require).key, session.key)
        yield* CurrentSession.modify(Session.set(Cart, ["pen"]))
        yield* CurrentSession.flash("info", "Saved")
        assert.deepStrictEqual(yield* CurrentSession.takeFlash, [{ kind: "info", text: "Saved" }])
        assert.deepStrictEqual(yield* CurrentSession.takeFlash, [])
        const token = yield* CurrentSession.csrfToken
        assert.isTrue(yield* CurrentSession.verifyCsrfToken(token))
        const rotated = yield* CurrentSession.rotate()
        assert.isTrue(yield* CurrentSession.verifyCsrfToken(token))
        assert.deepStrictEqual(yield* Session.get(rotated, Cart), ["pen"])
        yield* sessions.create(alice)
        assert.strictEqual(yield* CurrentSession.logoutEverywhere({ except: "current" }), 1)
        assert.isTrue(Option.isSome(yield* CurrentSession.get))
        yield* CurrentSession.logout
        assert.isTrue(Option.isNone(yield* CurrentSession.get))
        assert.strictEqual((yield* Effect.flip(CurrentSession.require))._tag, "Unauthenticated")
      })
      yield* Effect.provide(handler, CurrentSession.layerTest(session))
    }, Effect.provide(SessionStore.layerMemory()))
  )

  it.effect(
    "an effect that was taken before a login knows of it when it runs",
    Effect.fnUntraced(function* () {
      const handler = Effect.gen(function* () {
        const { get } = yield* CurrentSession
        assert.isTrue(Option.isNone(yield* get))
        const session = yield* CurrentSession.login(alice)
        assert.strictEqual(Option.getOrThrow(yield* get).key, session.key)
      })
      yield* Effect.provide(handler, CurrentSession.layerTest())
    }, Effect.provide(SessionStore.layerMemory()))
  )

  it.effect(
    "or none: guests begin on demand, and with what they are given",
    Effect.fnUntraced(function* () {
      const handler = Effect.gen(function* () {
        assert.isTrue(Option.isNone(yield* CurrentSession.get))
        assert.deepStrictEqual(yield* CurrentSession.takeFlash, [])
        assert.isFalse(yield* CurrentSession.verifyCsrfToken(`${"A".repeat(22)}.${"A".repeat(43)}`))
        const guest = yield* CurrentSession.guest()
        assert.isTrue(Option.isNone(guest.userId))
        assert.strictEqual((yield* CurrentSession.guest()).key, guest.key)
        for (let index = 0; index < 25; index++) yield* CurrentSession.flash("info", String(index))
        const messages = yield* CurrentSession.takeFlash
        assert.deepStrictEqual([messages.length, messages[0]?.text, messages[19]?.text], [20, "5", "24"])
        const user = yield* CurrentSession.login(alice)
        assert.strictEqual(user.key, guest.key)
      })
      yield* Effect.provide(handler, CurrentSession.layerTest())
    }, Effect.provide(SessionStore.layerMemory()))
  )
})
