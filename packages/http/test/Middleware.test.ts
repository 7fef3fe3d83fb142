/** What the middleware does to requests and responses, through a real server and a real cookie jar. */
import { Session, SessionAttribute, SessionId, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { CurrentSession, SessionCookie, SessionMiddleware, type SessionCookieOptions } from "../src/index.ts"
import { Cart, cookieLayer, keys, loggedIn, shop } from "./support/Shop.ts"

const alice = UserId.make("alice")
const ok = HttpServerResponse.text("ok")
const route = (
  method: "GET" | "POST",
  path: `/${string}`,
  handler: Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, CurrentSession>
) => HttpRouter.add(method, path, Effect.orDie(handler))

/** The id in a cookie. */
const idOf = (cookie: string | undefined): SessionId =>
  Option.getOrThrow(SessionId.fromString((cookie ?? "").slice(0, 65)))

const cookieValue = (line: string | undefined): string => /^__Host-session=([^;]*)/.exec(line ?? "")?.[1] ?? ""

/** The header with a cookie as an application with these settings would have set it. */
const signed = Effect.fnUntraced(function* (session: Session, options: Partial<SessionCookieOptions>) {
  const cookies = Context.get(yield* Layer.build(cookieLayer(options)), SessionCookie)
  return `${cookies.settings.name}=${Redacted.value(cookies.encode(session, 0))}`
})

describe("what a request costs", () => {
  it.effect(
    "a route that never asks reads nothing, says nothing, and does not look at the cookie",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      server.watched.calls.length = 0
      for (const cookie of [yield* browser.cookie, "__Host-session=forged", ""]) {
        const answer = yield* server.request("GET", "/silent", { headers: { cookie } })
        assert.strictEqual(answer.status, 200)
        assert.isUndefined(answer.headers["vary"])
        assert.isUndefined(answer.headers["cache-control"])
        assert.deepStrictEqual(answer.setCookie, [])
      }
      assert.deepStrictEqual(server.watched.calls, [])
    }, Effect.scoped)
  )

  it.effect(
    "the session is read once, however many ask at the same time or later",
    Effect.fnUntraced(function* () {
      const many = Effect.all([CurrentSession.get, CurrentSession.require, CurrentSession.get], {
        concurrency: "unbounded"
      })
      const server = yield* shop({
        more: (session) =>
          route("GET", "/many", Effect.as(Effect.andThen(many, many), ok)).pipe(Layer.provide(session.layer))
      })
      const browser = yield* loggedIn(server)
      server.watched.calls.length = 0
      assert.strictEqual((yield* browser.get("/many")).status, 200)
      assert.deepStrictEqual(server.watched.calls, ["find"])
    }, Effect.scoped)
  )

  it.effect(
    "somebody else reads it when the first to ask is interrupted",
    Effect.fnUntraced(function* () {
      const interrupt = Latch.makeUnsafe()
      const server = yield* shop({
        more: (session) =>
          route(
            "GET",
            "/interrupted",
            Effect.gen(function* () {
              const first = yield* Effect.forkChild(CurrentSession.get, { startImmediately: true })
              const second = yield* Effect.forkChild(CurrentSession.require, { startImmediately: true })
              yield* interrupt.await
              yield* Fiber.interrupt(first)
              const { userId } = yield* Fiber.join(second)
              return HttpServerResponse.text(Option.getOrElse(userId, () => "?"))
            })
          ).pipe(Layer.provide(session.layer))
      })
      const browser = yield* loggedIn(server)
      const pause = yield* server.watched.pause("before", "find")
      server.watched.calls.length = 0
      const answer = yield* Effect.forkChild(browser.get("/interrupted"))
      yield* Effect.andThen(pause.arrived, interrupt.open)
      assert.strictEqual((yield* Fiber.join(answer)).body, "alice")
      assert.deepStrictEqual(server.watched.calls, ["find", "find"])
    }, Effect.scoped)
  )
})

describe("what a response says", () => {
  it.effect(
    "reading the session sets no cookie, and says that the response depends on it",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      const me = yield* browser.get("/me")
      assert.deepInclude(me.json, { session: true, user: "alice" })
      assert.deepStrictEqual(me.setCookie, [])
      assert.strictEqual(me.headers["vary"], "Cookie")
      assert.isUndefined(me.headers["cache-control"])
      assert.strictEqual((yield* server.request("GET", "/me")).headers["vary"], "Cookie")
    }, Effect.scoped)
  )

  it.effect(
    "what the application says of caches is added to, and overruled where the cookie is set",
    Effect.fnUntraced(function* () {
      const caching = (vary: string) =>
        HttpServerResponse.text("ok", { headers: { vary, "cache-control": "public, max-age=60" } })
      const server = yield* shop({
        more: (session) =>
          Layer.mergeAll(
            route("GET", "/read", Effect.as(CurrentSession.get, caching("Accept-Encoding"))),
            route("GET", "/any", Effect.as(CurrentSession.get, caching("*"))),
            route("GET", "/same", Effect.as(CurrentSession.get, caching("accept, cookie"))),
            route("POST", "/set", Effect.as(CurrentSession.login(alice), caching("Accept-Encoding")))
          ).pipe(Layer.provide(session.layer))
      })
      const read = yield* server.request("GET", "/read")
      assert.strictEqual(read.headers["vary"], "Accept-Encoding, Cookie")
      assert.strictEqual(read.headers["cache-control"], "public, max-age=60")
      assert.strictEqual((yield* server.request("GET", "/any")).headers["vary"], "*")
      assert.strictEqual((yield* server.request("GET", "/same")).headers["vary"], "accept, cookie")
      const set = yield* server.request("POST", "/set")
      assert.strictEqual(set.headers["vary"], "Accept-Encoding, Cookie")
      assert.strictEqual(set.headers["cache-control"], "no-store")
    }, Effect.scoped)
  )

  it.effect(
    "logout clears the cookie with the attributes that it was set with",
    Effect.fnUntraced(function* () {
      const options = {
        name: "__Secure-sid",
        domain: "example.com",
        path: "/shop",
        sameSite: "strict",
        partitioned: true
      } as const
      const server = yield* shop({ cookie: options })
      const login = yield* server.request("POST", "/login")
      assert.match(
        login.setCookie.join(),
        /^__Secure-sid=[^;]{109}; Domain=example\.com; Path=\/shop; HttpOnly; Secure; Partitioned; SameSite=Strict$/
      )
      const cookie = login.setCookie[0]?.split(";")[0] ?? ""
      const logout = yield* server.request("POST", "/logout", { headers: { cookie } })
      assert.deepStrictEqual(logout.setCookie, [
        "__Secure-sid=; Max-Age=0; Domain=example.com; Path=/shop; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; Partitioned; SameSite=Strict"
      ])
      assert.strictEqual(logout.headers["cache-control"], "no-store")
      assert.isUndefined(logout.headers["clear-site-data"])
    }, Effect.scoped)
  )

  it.effect(
    "logout makes the browser forget the site where that is configured",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { clearSiteData: true } })
      const browser = yield* loggedIn(server)
      assert.strictEqual((yield* browser.post("/logout")).headers["clear-site-data"], `"cache", "cookies", "storage"`)
    }, Effect.scoped)
  )

  it.effect(
    "only logout clears a cookie: the answer to a request that a login overtook must not log the user out",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      yield* server.sessions.deleteAll
      const headers = { cookie: yield* browser.cookie }
      assert.deepStrictEqual((yield* server.request("GET", "/me", { headers })).setCookie, [])
      assert.deepStrictEqual((yield* server.request("GET", "/guarded/session", { headers })).setCookie, [])
      assert.strictEqual((yield* server.request("POST", "/logout", { headers })).setCookie.length, 1)
      assert.deepStrictEqual((yield* server.request("POST", "/logout")).setCookie, [])
      const forged = { cookie: "__Host-session=forged" }
      assert.deepStrictEqual((yield* server.request("GET", "/me", { headers: forged })).setCookie, [])
      assert.strictEqual((yield* server.request("POST", "/logout", { headers: forged })).setCookie.length, 1)
    }, Effect.scoped)
  )

  it.effect(
    "HEAD and 304 carry the cookie, too, and a redirect does",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          Layer.mergeAll(
            route("GET", "/head", Effect.as(CurrentSession.login(alice), ok)),
            route(
              "GET",
              "/unchanged",
              Effect.as(CurrentSession.login(alice), HttpServerResponse.empty({ status: 304 }))
            ),
            route("GET", "/elsewhere", Effect.as(CurrentSession.login(alice), HttpServerResponse.redirect("/")))
          ).pipe(Layer.provide(session.layer))
      })
      const head = yield* server.request("HEAD", "/head")
      assert.deepStrictEqual([head.status, head.setCookie.length, head.body], [200, 1, ""])
      const unchanged = yield* server.request("GET", "/unchanged")
      assert.deepStrictEqual([unchanged.status, unchanged.setCookie.length], [304, 1])
      const elsewhere = yield* server.request("GET", "/elsewhere")
      assert.deepStrictEqual([elsewhere.status, elsewhere.setCookie.length], [302, 1])
    }, Effect.scoped)
  )

  it.effect(
    "a cookie of that name that the handler sets itself is replaced, never doubled",
    Effect.fnUntraced(function* () {
      const own = HttpServerResponse.setCookieUnsafe(ok, "__Host-session", "own", { path: "/", secure: true })
      const server = yield* shop({
        more: (session) =>
          route("POST", "/own", Effect.as(CurrentSession.login(alice), own)).pipe(Layer.provide(session.layer))
      })
      const { setCookie } = yield* server.request("POST", "/own")
      assert.strictEqual(setCookie.length, 1)
      assert.notInclude(setCookie.join(), "own")
    }, Effect.scoped)
  )
})

describe("beside other things", () => {
  it.effect(
    "other cookies that the handler sets are kept",
    Effect.fnUntraced(function* () {
      const own = HttpServerResponse.setCookieUnsafe(ok, "theme", "dark")
      const server = yield* shop({
        more: (session) =>
          route("POST", "/theme", Effect.as(CurrentSession.login(alice), own)).pipe(Layer.provide(session.layer))
      })
      const { setCookie } = yield* server.request("POST", "/theme")
      assert.deepStrictEqual(setCookie.map((line) => line.split("=")[0] ?? "").toSorted(), ["__Host-session", "theme"])
    }, Effect.scoped)
  )

  it.effect(
    "reading, guards and forms that are only shown begin no session",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = server.browser()
      for (const path of ["/me", "/user", "/flash", "/guarded/session", "/teaser"]) yield* browser.get(path)
      yield* browser.post("/logout")
      assert.deepStrictEqual(server.watched.calls, [])
      assert.isUndefined(yield* browser.session)
    }, Effect.scoped)
  )

  it.effect(
    "two applications with cookies of their own do not mix, even where one is nested in the other",
    Effect.fnUntraced(function* () {
      const inner = SessionMiddleware.make()
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add("POST", "/admin/login", Effect.as(CurrentSession.login(UserId.make("root")), ok)).pipe(
            Layer.provide(inner.layer),
            Layer.provide(Layer.fresh(cookieLayer({ name: "__Host-admin" }))),
            Layer.provide(session.layer)
          )
      })
      const browser = yield* loggedIn(server)
      const admin = yield* browser.post("/admin/login")
      assert.deepStrictEqual(
        admin.setCookie.map((line) => line.split("=")[0]),
        ["__Host-admin"]
      )
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice" })
    }, Effect.scoped)
  )
})

describe("login", () => {
  it.effect(
    "gives a new id, keeps what the guest had, and makes the guest's id worthless at once",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = server.browser()
      const guest = yield* browser.post("/cart?item=pen")
      const before = yield* browser.session
      yield* browser.post("/login?user=alice")
      const after = yield* browser.session
      assert.notStrictEqual(before, after)
      const me = yield* browser.get("/me")
      assert.deepInclude(me.json, { user: "alice", cart: ["pen"], key: guest.json["key"] })
      const old = yield* server.request("GET", "/me", { headers: { cookie: `__Host-session=${before}` } })
      assert.deepStrictEqual(old.json, { session: false })
    }, Effect.scoped)
  )

  it.effect(
    "as somebody else drops what the other one had",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server, "alice")
      yield* browser.post("/cart?item=secret")
      const before = yield* browser.session
      yield* browser.post("/login?user=bob")
      assert.deepInclude((yield* browser.get("/me")).json, { user: "bob", cart: [] })
      const old = yield* server.request("GET", "/me", { headers: { cookie: `__Host-session=${before}` } })
      assert.deepStrictEqual(old.json, { session: false })
    }, Effect.scoped)
  )

  it.effect(
    "of a session that has ended begins a new one",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      yield* server.sessions.deleteAll
      yield* browser.post("/login?user=alice")
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice" })
    }, Effect.scoped)
  )

  it.effect(
    "sends the cookie although the handler fails, dies or interrupts itself afterwards",
    Effect.fnUntraced(function* () {
      const then = (rest: Effect.Effect<never, unknown>) => Effect.andThen(CurrentSession.login(alice), rest)
      const server = yield* shop({
        more: (session) =>
          Layer.mergeAll(
            route("POST", "/fail", then(Effect.fail("no"))),
            route("POST", "/die", then(Effect.die(new Error("no")))),
            route("POST", "/interrupt", then(Effect.interrupt)),
            HttpRouter.add(
              "POST",
              "/unauthenticated",
              Effect.andThen(
                CurrentSession.login(alice),
                Effect.andThen(CurrentSession.logout, Effect.as(CurrentSession.require, ok))
              )
            )
          ).pipe(Layer.provide(session.layer))
      })
      for (const [path, status] of [
        ["/fail", 500],
        ["/die", 500],
        ["/interrupt", 503]
      ] as const) {
        const browser = server.browser()
        const answer = yield* browser.post(path)
        assert.strictEqual(answer.status, status, path)
        assert.strictEqual(answer.headers["cache-control"], "no-store", path)
        assert.deepInclude((yield* browser.get("/me")).json, { user: "alice" }, path)
      }
      const out = yield* server.request("POST", "/unauthenticated")
      assert.deepStrictEqual([out.status, out.setCookie], [401, []])
    }, Effect.scoped)
  )

  it.effect(
    "after the response's head dies and says what to do; reading still works",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "GET",
            "/stream",
            Effect.gen(function* () {
              const current = yield* CurrentSession
              const attempt = (operation: Effect.Effect<unknown, unknown>) =>
                Effect.match(Effect.sandbox(operation), { onFailure: Cause.pretty, onSuccess: () => "worked" })
              const parts = [
                Effect.map(Effect.orDie(current.get), (found) => String(Option.isSome(found))),
                attempt(current.modify(Session.set(Cart, ["late"]))),
                attempt(current.login(alice)),
                attempt(current.rotate()),
                attempt(current.logout)
              ]
              return HttpServerResponse.stream(
                Stream.fromIterable(parts).pipe(
                  Stream.mapEffect((part) => part),
                  Stream.map((line) => `${line.split("\n")[0]}\n`),
                  Stream.encodeText
                )
              )
            })
          ).pipe(Layer.provide(session.layer))
      })
      const browser = yield* loggedIn(server)
      const { body, headers, setCookie } = yield* browser.get("/stream")
      const [found, modified, ...late] = body.trim().split("\n")
      assert.deepStrictEqual([found, modified], ["true", "worked"])
      for (const [index, operation] of ["login", "rotate", "logout"].entries()) {
        assert.include(late[index], `CurrentSession.${operation} came after the response's headers`)
        assert.include(late[index], "call it before the handler answers")
      }
      assert.deepStrictEqual(setCookie, [])
      assert.isUndefined(headers["cache-control"])
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice", cart: ["late"] })
    }, Effect.scoped)
  )

  it.effect(
    "on the opening of a WebSocket dies, because its handshake carries no cookie; a session that is there can be read",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          Layer.mergeAll(
            HttpRouter.add("GET", "/socket-login", Effect.as(CurrentSession.login(alice), ok)),
            HttpRouter.add("GET", "/socket", Effect.as(CurrentSession.require, ok))
          ).pipe(Layer.provide(session.layer))
      })
      const browser = yield* loggedIn(server)
      const headers = { upgrade: "WebSocket", connection: "upgrade", cookie: yield* browser.cookie }
      server.watched.calls.length = 0
      assert.strictEqual((yield* server.request("GET", "/socket-login", { headers })).status, 500)
      assert.strictEqual((yield* server.request("GET", "/socket", { headers })).status, 200)
      assert.deepStrictEqual(server.watched.calls, ["find"])
    }, Effect.scoped)
  )

  it.effect(
    "before a stream begins sends the cookie before its body",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          route(
            "GET",
            "/events",
            Effect.as(
              CurrentSession.login(alice),
              HttpServerResponse.stream(
                Stream.concat(Stream.make("data: 1\n\n").pipe(Stream.encodeText), Stream.never),
                {
                  contentType: "text/event-stream"
                }
              )
            )
          ).pipe(Layer.provide(session.layer))
      })
      const response = yield* server.open("GET", "/events")
      assert.match(response.headers["set-cookie"]?.[0] ?? "", /^__Host-session=/)
      assert.strictEqual(response.headers["content-type"], "text/event-stream")
      response.destroy()
    }, Effect.scoped)
  )

  it.effect(
    "with too much to keep, or too many sessions, is refused and changes nothing",
    Effect.fnUntraced(function* () {
      const Blob = SessionAttribute.make("blob", Schema.String)
      const server = yield* shop({
        store: { maxSessionsPerUser: 1, onSessionLimit: "reject" },
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/large",
            Effect.as(
              CurrentSession.login(UserId.make("carol"), {
                attributes: [SessionAttribute.value(Blob, "x".repeat(17_000))]
              }),
              ok
            )
          ).pipe(Layer.provide(session.layer))
      })
      const browser = server.browser()
      yield* browser.post("/cart?item=pen")
      const guest = yield* browser.session
      const large = yield* browser.post("/large")
      assert.deepStrictEqual([large.status, large.json], [413, { _tag: "SessionDataTooLarge" }])
      yield* loggedIn(server, "bob")
      const many = yield* browser.post("/login?user=bob")
      assert.deepStrictEqual([many.status, many.json], [409, { _tag: "SessionLimitReached" }])
      assert.strictEqual(yield* browser.session, guest)
      assert.deepInclude((yield* browser.get("/me")).json, { user: null, cart: ["pen"] })
    }, Effect.scoped)
  )
})

describe("when the cookie is sent again", () => {
  it.effect(
    "a cookie of an old key is signed with the new one, for the same id, and the old key may then go",
    Effect.fnUntraced(function* () {
      const renewed = [Redacted.make("another key of thirty-two characters!"), ...keys]
      const first = yield* shop()
      const second = yield* shop({ cookie: { keys: renewed } })
      const third = yield* shop({ cookie: { keys: renewed.slice(0, 1) } })
      const session = yield* second.sessions.create(alice)
      // Signed by the first application for a session of the second one.
      const cookies = yield* signed(session, {})
      const headers = { cookie: cookies }
      assert.deepStrictEqual((yield* second.request("GET", "/silent", { headers })).setCookie, [])
      const me = yield* second.request("GET", "/me", { headers })
      assert.deepInclude(me.json, { user: "alice" })
      assert.strictEqual(me.headers["cache-control"], "no-store")
      const value = cookieValue(me.setCookie[0])
      assert.strictEqual(Redacted.value(idOf(value)), Redacted.value(session.id))
      assert.notStrictEqual(`__Host-session=${value}`, cookies)
      const again = yield* second.request("GET", "/me", { headers: { cookie: `__Host-session=${value}` } })
      assert.deepStrictEqual([again.json["user"], again.setCookie], ["alice", []])
      assert.deepStrictEqual(
        (yield* first.request("GET", "/me", { headers: { cookie: `__Host-session=${value}` } })).json,
        { session: false }
      )
      third.watched.calls.length = 0
      yield* third.request("GET", "/me", { headers })
      assert.deepStrictEqual(third.watched.calls, [])
    }, Effect.scoped)
  )

  it.effect(
    "with a maximum age, once half of it has passed and the session is used",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { maxAge: "10 hours" } })
      const login = yield* server.request("POST", "/login")
      assert.include(login.setCookie.join(), "; Max-Age=36000; ")
      const headers = { cookie: login.setCookie[0]?.split(";")[0] ?? "" }
      yield* TestClock.adjust("4 hours")
      assert.deepStrictEqual((yield* server.request("GET", "/me", { headers })).setCookie, [])
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual((yield* server.request("GET", "/silent", { headers })).setCookie, [])
      const renewed = yield* server.request("GET", "/me", { headers })
      assert.include(renewed.setCookie.join(), "; Max-Age=36000; ")
      assert.strictEqual(renewed.headers["cache-control"], "no-store")
      const next = { cookie: renewed.setCookie[0]?.split(";")[0] ?? "" }
      assert.deepStrictEqual((yield* server.request("GET", "/me", { headers: next })).setCookie, [])
    }, Effect.scoped)
  )

  it.effect(
    "not for a session that has ended",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { maxAge: "10 hours" }, store: { idleTimeout: "5 hours" } })
      const login = yield* server.request("POST", "/login")
      yield* TestClock.adjust("6 hours")
      const headers = { cookie: login.setCookie[0]?.split(";")[0] ?? "" }
      const answer = yield* server.request("GET", "/me", { headers })
      assert.deepStrictEqual([answer.json, answer.setCookie], [{ session: false }, []])
    }, Effect.scoped)
  )

  it.effect(
    "with readYourWrites, after a write: the cookie then demands at least that version",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { readYourWrites: true } })
      const browser = yield* loggedIn(server)
      assert.match((yield* browser.session) ?? "", /^.{65}\.v1\./)
      assert.deepStrictEqual((yield* browser.get("/me")).setCookie, [])
      const cart = yield* browser.post("/cart?item=pen")
      assert.strictEqual(cart.headers["cache-control"], "no-store")
      assert.match((yield* browser.session) ?? "", /^.{65}\.v2\./)
      server.watched.versions.length = 0
      yield* browser.get("/me")
      assert.deepStrictEqual(server.watched.versions, [2n])
      const stripped = ((yield* browser.session) ?? "").replace(".v2", "")
      const answer = yield* server.request("GET", "/me", { headers: { cookie: `__Host-session=${stripped}` } })
      assert.deepStrictEqual(answer.json, { session: false })
    }, Effect.scoped)
  )

  it.effect(
    "without readYourWrites a write does not touch the cookie, and a version in it is not asked for",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      assert.deepStrictEqual((yield* browser.post("/cart?item=pen")).setCookie, [])
      const session = yield* server.sessions.create(alice)
      const answer = yield* server.request("GET", "/me", {
        headers: { cookie: yield* signed(session, { readYourWrites: true }) }
      })
      assert.deepStrictEqual([answer.json["user"], answer.setCookie], ["alice", []])
      assert.deepStrictEqual(server.watched.versions.at(-1), undefined)
    }, Effect.scoped)
  )

  it.effect(
    "a cookie from before readYourWrites or maxAge is accepted and completed",
    Effect.fnUntraced(function* () {
      const server = yield* shop({ cookie: { readYourWrites: true, maxAge: Duration.hours(1) } })
      const session = yield* server.sessions.create(alice)
      const answer = yield* server.request("GET", "/me", { headers: { cookie: yield* signed(session, {}) } })
      assert.deepInclude(answer.json, { user: "alice" })
      assert.match(cookieValue(answer.setCookie[0]), /^.{65}\.v1\.t\d+\./)
    }, Effect.scoped)
  )
})

describe("behind a proxy", () => {
  const secureOnly = Effect.fnUntraced(function* (headers: Record<string, string>, forwardedProto?: "trust") {
    const server = yield* shop({ cookie: { forwardedProto } })
    const { setCookie, status } = yield* server.request("POST", "/login", { headers })
    assert.strictEqual(status, 200)
    return setCookie.length
  }, Effect.scoped)

  it.effect(
    "X-Forwarded-Proto is believed only where it is configured",
    Effect.fnUntraced(function* () {
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "http" }), 1)
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "https" }, "trust"), 1)
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "HTTPS, https" }, "trust"), 1)
    })
  )

  it.effect(
    "a new id is not sent in the clear: not where the proxy says so, nor where it says nothing",
    Effect.fnUntraced(function* () {
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "http" }, "trust"), 0)
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "https, http" }, "trust"), 0)
      assert.strictEqual(yield* secureOnly({ "x-forwarded-proto": "https,evil" }, "trust"), 0)
      assert.strictEqual(yield* secureOnly({}, "trust"), 0)
    })
  )

  it.effect(
    "what the application has decided about the request counts",
    Effect.fnUntraced(function* () {
      const plain = Effect.updateService(HttpServerRequest.HttpServerRequest, (request) =>
        request.modify({ protocol: "http" })
      )
      const server = yield* shop({
        more: (session) => {
          const decide = HttpRouter.middleware((handler) => plain(handler))
          return route("POST", "/plain", Effect.as(CurrentSession.login(alice), ok)).pipe(
            Layer.provide(session.combine(decide).layer)
          )
        }
      })
      const { setCookie, status } = yield* server.request("POST", "/plain")
      assert.deepStrictEqual([status, setCookie], [200, []])
    }, Effect.scoped)
  )
})
