/** Guards, CSRF protection, and what is answered when something is refused. */
import { Session, SessionAttribute, SessionId, SessionStore } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import {
  Authenticated,
  csrf,
  CurrentSession,
  requireAttribute,
  requireFresh,
  requireSession,
  SessionMiddleware
} from "../src/index.ts"
import { Elevated, loggedIn, shop } from "./support/Shop.ts"

const ok = HttpServerResponse.text("ok")

const idOf = (cookie: string | undefined): SessionId =>
  Option.getOrThrow(SessionId.fromString((cookie ?? "").slice(0, 65)))

/** The store of the application, for handlers that go past the current session. */
const sameStore = Layer.effect(SessionStore, SessionStore)

describe("guards", () => {
  it.effect(
    "requireSession lets users pass, and neither strangers nor guests",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const stranger = yield* server.request("GET", "/guarded/session")
      assert.deepStrictEqual([stranger.status, stranger.json], [401, { _tag: "Unauthenticated" }])
      const guest = server.browser()
      yield* guest.post("/cart?item=pen")
      assert.strictEqual((yield* guest.get("/guarded/session")).status, 401)
      assert.strictEqual((yield* guest.get("/user")).status, 401)
      const user = yield* loggedIn(server)
      assert.strictEqual((yield* user.get("/guarded/session")).status, 200)
    }, Effect.scoped)
  )

  it.effect(
    "what a guard checks is checked when that is run, not when it is made",
    Effect.fnUntraced(function* () {
      const handler = Effect.gen(function* () {
        const current = yield* CurrentSession
        const store = yield* SessionStore
        yield* store.clearLocalCache
        // Nobody runs it, and nobody waits for it.
        assert.isTrue(Effect.isEffect(requireSession.check(current)))
        const session = yield* requireSession.check(current)
        const later = requireSession.check(current)
        yield* store.update(Session.set(session, Elevated, true))
        yield* current.authoritative
        return HttpServerResponse.jsonUnsafe([session.version, (yield* later).version].map(Number))
      }).pipe(Effect.orDie)
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add("GET", "/late", handler).pipe(
            Layer.provide(session.layer),
            HttpRouter.provideRequest(sameStore)
          )
      })
      const user = yield* loggedIn(server)
      const answer = yield* user.get("/late")
      assert(Array.isArray(answer.json))
      assert.strictEqual(answer.json[1], Number(answer.json[0]) + 1)
    }, Effect.scoped)
  )

  it.effect(
    "a guarded handler gets the session of its user",
    Effect.fnUntraced(function* () {
      const who = Effect.flatMap(Authenticated, (session) =>
        Effect.map(Authenticated.userId, (userId) => HttpServerResponse.text(`${userId} ${session.key.length}`))
      )
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add("GET", "/who", who).pipe(
            Layer.provide(requireFresh({ within: "1 hour" }).combine(session).layer)
          )
      })
      const user = yield* loggedIn(server, "bob")
      assert.strictEqual((yield* user.get("/who")).body, "bob 22")
    }, Effect.scoped)
  )

  it.effect(
    "requireFresh asks for another login after a while; activity and rotation do not count as one",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      assert.strictEqual((yield* server.request("GET", "/guarded/fresh")).status, 401)
      const user = yield* loggedIn(server)
      yield* TestClock.adjust("4 minutes")
      assert.strictEqual((yield* user.get("/guarded/fresh")).status, 200)
      yield* user.post("/rotate")
      yield* TestClock.adjust("2 minutes")
      const stale = yield* user.get("/guarded/fresh")
      assert.deepStrictEqual([stale.status, stale.json], [403, { _tag: "StepUpRequired" }])
      yield* user.post("/login?user=alice")
      assert.strictEqual((yield* user.get("/guarded/fresh")).status, 200)
    }, Effect.scoped)
  )

  it.effect(
    "requireAttribute lets pass as long as the attribute lives, and not where it is false",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      assert.strictEqual((yield* user.get("/guarded/elevated")).status, 403)
      const before = yield* user.session
      yield* user.post("/elevate")
      assert.notStrictEqual(yield* user.session, before)
      assert.strictEqual((yield* user.get("/guarded/elevated")).status, 200)
      yield* user.post("/lower")
      assert.strictEqual((yield* user.get("/guarded/elevated")).status, 403)
      yield* user.post("/elevate")
      yield* TestClock.adjust("16 minutes")
      assert.strictEqual((yield* user.get("/guarded/elevated")).status, 403)
    }, Effect.scoped)
  )

  it.effect(
    "requireAttribute refuses what does not fit the schema, and takes a condition",
    Effect.fnUntraced(function* () {
      const Level = SessionAttribute.make("level", Schema.Int)
      const Text = SessionAttribute.make("level", Schema.String)
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add("GET", "/level", ok).pipe(
            Layer.provide(requireAttribute(Level, { where: (level) => level > 3 }).combine(session).layer)
          )
      })
      const user = yield* loggedIn(server)
      const id = idOf(yield* user.session)
      const status = (change: (session: Session) => Session) =>
        Effect.andThen(
          server.sessions.modify(id, change),
          Effect.map(user.get("/level"), (answer) => answer.status)
        )
      assert.strictEqual(yield* status(Session.set(Level, 3)), 403)
      assert.strictEqual(yield* status(Session.set(Level, 4)), 200)
      assert.strictEqual(yield* status(Session.set(Text, "high")), 403)
    }, Effect.scoped)
  )

  it.effect(
    "an id that a step-up or a login has replaced is still accepted for a moment, but has no part in the new rights",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      const status = (path: string, cookie: string) =>
        Effect.map(server.request("GET", path, { headers: { cookie } }), (answer) => answer.status)
      for (const [change, guarded] of [
        ["/elevate", "/guarded/elevated"],
        ["/login?user=alice", "/guarded/fresh"]
      ] as const) {
        const stolen = yield* user.cookie
        yield* user.post(change)
        assert.strictEqual(yield* status("/guarded/session", stolen), 200)
        assert.strictEqual(yield* status(guarded, stolen), 403)
        assert.strictEqual((yield* user.get(guarded)).status, 200)
      }
    }, Effect.scoped)
  )

  it.effect(
    "authoritative reads the database whatever was read before, and repeats what other guards have demanded",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      yield* user.post("/elevate")
      server.watched.calls.length = 0
      server.watched.refreshed.length = 0
      assert.strictEqual((yield* user.get("/guarded/authoritative")).status, 200)
      assert.deepStrictEqual(server.watched.calls, ["find", "find"])
      assert.deepStrictEqual(server.watched.refreshed, [false, true])
      // The second read finds what changed after the outer guards had passed.
      const id = idOf(yield* user.session)
      const lowering = server.sessions.modify(id, Session.remove(Elevated))
      const pause = yield* server.watched.pause("after", "find")
      const request = yield* Effect.forkChild(user.get("/guarded/authoritative"))
      yield* pause.arrived
      yield* lowering
      yield* pause.resume
      const { status } = yield* Fiber.join(request)
      assert.strictEqual(status, 403)
    }, Effect.scoped)
  )

  it.effect(
    "authoritative refuses a session that was ended after the outer guards had passed",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      yield* user.post("/elevate")
      const pause = yield* server.watched.pause("after", "find")
      const request = yield* Effect.forkChild(user.get("/guarded/authoritative"))
      yield* pause.arrived
      yield* server.sessions.deleteAll
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(request)).status, 401)
      assert.strictEqual((yield* server.request("GET", "/guarded/alive")).status, 401)
    }, Effect.scoped)
  )

  it.effect(
    "errors can be answered in another way",
    Effect.fnUntraced(function* () {
      const session = SessionMiddleware.make({
        respond: (error, request) =>
          Effect.succeed(
            HttpServerResponse.redirect(`/login?from=${encodeURIComponent(request.url)}&why=${error._tag}`)
          )
      })
      const server = yield* shop({
        more: () => HttpRouter.add("GET", "/private", ok).pipe(Layer.provide(requireSession.combine(session).layer))
      })
      const { headers, status } = yield* server.request("GET", "/private?a=b")
      assert.strictEqual(status, 302)
      assert.strictEqual(headers["location"], "/login?from=%2Fprivate%3Fa%3Db&why=Unauthenticated")
      assert.strictEqual(headers["vary"], "Cookie")
    }, Effect.scoped)
  )

  it.effect(
    "a change that is too large is answered with 413, one without a session with 401",
    Effect.fnUntraced(function* () {
      const Blob = SessionAttribute.make("blob", Schema.String)
      const server = yield* shop({
        more: (session) =>
          Layer.mergeAll(
            HttpRouter.add(
              "POST",
              "/blob",
              Effect.as(CurrentSession.modify(Session.set(Blob, "x".repeat(17_000))), ok)
            ),
            HttpRouter.add(
              "POST",
              "/own-error",
              CurrentSession.modify(() => Effect.fail("mine" as const)).pipe(
                Effect.as(ok),
                Effect.catchIf(
                  (error) => error === "mine",
                  () => Effect.succeed(HttpServerResponse.text("mine"))
                )
              )
            )
          ).pipe(Layer.provide(session.layer))
      })
      const user = yield* loggedIn(server)
      const blob = yield* user.post("/blob")
      assert.deepStrictEqual([blob.status, blob.json], [413, { _tag: "SessionDataTooLarge" }])
      assert.strictEqual((yield* server.request("POST", "/cart-strict")).status, 401)
      assert.strictEqual((yield* server.request("POST", "/rotate")).status, 401)
      assert.strictEqual((yield* server.request("POST", "/logout-everywhere")).status, 401)
      assert.strictEqual((yield* user.post("/own-error")).body, "mine")
      yield* server.sessions.deleteAll
      const gone = yield* user.post("/cart-strict")
      assert.deepStrictEqual([gone.status, gone.json, gone.setCookie], [401, { _tag: "Unauthenticated" }, []])
    }, Effect.scoped)
  )
})

it.live(
  "a change that keeps losing is answered with 409",
  Effect.fnUntraced(function* () {
    const Count = SessionAttribute.make("count", Schema.Int)
    const server = yield* shop({
      more: (session) =>
        HttpRouter.add(
          "POST",
          "/lose",
          Effect.gen(function* () {
            const store = yield* SessionStore
            // Whenever it reads, somebody writes.
            const interfere = (current: Session) =>
              Effect.as(
                Effect.orDie(store.update(Session.set(current, Count, Number(current.version)), { check: "none" })),
                Session.set(current, Count, 0)
              )
            yield* CurrentSession.modify(interfere, { check: "session" })
            return ok
          })
        ).pipe(Layer.provide(session.layer), HttpRouter.provideRequest(sameStore))
    })
    const user = yield* loggedIn(server)
    const { json, status } = yield* user.post("/lose")
    assert.deepStrictEqual([status, json], [409, { _tag: "SessionConflict" }])
  }, Effect.scoped)
)

describe("csrf", () => {
  const status = Effect.fnUntraced(function* (headers: Record<string, string>, method: string = "POST") {
    const server = yield* shop()
    const given = { ...headers, ...(headers["origin"] === "own" ? { origin: `http://${server.host}` } : {}) }
    return (yield* server.request(method, "/guarded/csrf", { headers: given })).status
  }, Effect.scoped)

  it.effect(
    "what does not change anything passes from anywhere",
    Effect.fnUntraced(function* () {
      for (const method of ["GET", "HEAD", "OPTIONS"]) {
        assert.strictEqual(
          yield* status({ "sec-fetch-site": "cross-site", origin: "https://evil.example" }, method),
          200
        )
      }
    })
  )

  it.effect(
    "the opening of a WebSocket does not pass from anywhere",
    Effect.fnUntraced(function* () {
      const upgrade = { upgrade: "websocket", connection: "upgrade" }
      assert.strictEqual(yield* status({ ...upgrade, origin: "https://evil.example" }, "GET"), 403)
      assert.strictEqual(yield* status({ ...upgrade, origin: "own" }, "GET"), 200)
    })
  )

  it("origins that browsers never write are refused where they are named", () => {
    for (const origin of [
      "null",
      "*",
      "",
      "https://admin.example/",
      "https://admin.example:443",
      "HTTPS://admin.example",
      "admin.example",
      "https://*.example"
    ]) {
      assert.throws(() => csrf({ trustedOrigins: [origin] }), /trustedOrigins/)
    }
  })

  it.effect(
    "the browser's word on where a request comes from decides",
    Effect.fnUntraced(function* () {
      for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
        assert.strictEqual(yield* status({ "sec-fetch-site": "same-origin" }, method), 200)
        assert.strictEqual(yield* status({ "sec-fetch-site": "none" }, method), 200)
        assert.strictEqual(yield* status({ "sec-fetch-site": "same-site" }, method), 403)
        assert.strictEqual(yield* status({ "sec-fetch-site": "cross-site" }, method), 403)
      }
      assert.strictEqual(yield* status({ "sec-fetch-site": "Same-Origin" }), 403)
      assert.strictEqual(yield* status({ "sec-fetch-site": "" }), 403)
      assert.strictEqual(yield* status({ "sec-fetch-site": "cross-site", origin: "own" }), 403)
    })
  )

  it.effect(
    "the origin decides where that is missing: host, port and encryption count",
    Effect.fnUntraced(function* () {
      assert.strictEqual(yield* status({ origin: "own" }), 200)
      const cases = [
        ["https://shop.example", 200],
        ["https://shop.example:443", 200],
        ["http://shop.example", 403],
        ["https://shop.example:444", 403],
        ["https://evil.example", 403],
        ["https://shop.example.evil.example", 403],
        ["https://evilshop.example", 403],
        ["https://shop.example@evil.example", 403],
        ["ftp://shop.example", 403],
        ["shop.example", 403],
        ["https://", 403],
        ["", 403]
      ] as const
      for (const [origin, expected] of cases) {
        assert.strictEqual(yield* status({ origin, host: "shop.example" }), expected, origin)
      }
      assert.strictEqual(yield* status({ origin: "https://shop.example", host: "not a host" }), 403)
    })
  )

  it.effect(
    "an origin that is trusted passes, exactly as it is written",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add("POST", "/trusting", ok).pipe(
            Layer.provide(csrf({ trustedOrigins: ["https://admin.example"] }).combine(session).layer)
          )
      })
      const send = (origin: string) =>
        Effect.map(
          server.request("POST", "/trusting", { headers: { origin, "sec-fetch-site": "same-site" } }),
          ({ status }) => status
        )
      assert.strictEqual(yield* send("https://admin.example"), 200)
      assert.strictEqual(yield* send("https://admin.example.evil.example"), 403)
      assert.strictEqual(yield* send("http://admin.example"), 403)
    }, Effect.scoped)
  )

  it.effect(
    "without either a token of this session is needed, in the header or in the form",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/form",
            Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
              Effect.map(Effect.orDie(request.text), (body) => HttpServerResponse.text(body))
            )
          ).pipe(Layer.provide(csrf().combine(session).layer))
      })
      const user = yield* loggedIn(server)
      const other = yield* loggedIn(server, "bob")
      const cookie = yield* user.cookie
      const tokenOf = (browser: typeof user) => Effect.map(browser.get("/token"), ({ json }) => String(json["token"]))
      const token = yield* tokenOf(user)
      const send = (headers: Record<string, string>, body?: string) =>
        server.request("POST", "/form", { headers: { cookie, ...headers }, body })
      const form = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" }
      assert.strictEqual((yield* send({})).status, 403)
      assert.strictEqual((yield* send({ "x-csrf-token": token })).status, 200)
      assert.strictEqual((yield* send({ "x-csrf-token": token, origin: "null" })).status, 200)
      assert.strictEqual((yield* send({ origin: "null" })).status, 403)
      // The handler can still read the form.
      const sent = yield* send(form, `a=b&_csrf=${token}`)
      assert.deepStrictEqual([sent.status, sent.body], [200, `a=b&_csrf=${token}`])
      assert.strictEqual((yield* send({ "content-type": "application/json" }, `a=b&_csrf=${token}`)).status, 403)
      assert.strictEqual((yield* send(form, "a=%")).status, 403)
      // Known to come from elsewhere: a token does not help.
      assert.strictEqual((yield* send({ "x-csrf-token": token, origin: "https://evil.example" })).status, 403)
      assert.strictEqual((yield* send({ "x-csrf-token": token, "sec-fetch-site": "cross-site" })).status, 403)
      assert.strictEqual((yield* send({ "x-csrf-token": yield* tokenOf(other) })).status, 403)
      assert.notStrictEqual(yield* tokenOf(user), token)
      const wrong = [
        "",
        "x",
        token.slice(1),
        `${token}x`,
        token.replace(".", ""),
        `${"A".repeat(22)}.${token.slice(23)}`,
        "A".repeat(5_000)
      ]
      for (const text of wrong) assert.strictEqual((yield* send({ "x-csrf-token": text })).status, 403, text)
      const refused = yield* send({})
      assert.deepStrictEqual(refused.json, { _tag: "CsrfRejected" })
    }, Effect.scoped)
  )

  it.effect(
    "a stranger's form is refused before it is read",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const headers = { "content-type": "application/x-www-form-urlencoded", "content-length": "1000000" }
      // The rest never comes.
      const answer = yield* server.open("POST", "/guarded/csrf", { headers, body: "_csrf=" })
      assert.strictEqual(answer.statusCode, 403)
      answer.destroy()
    }, Effect.scoped)
  )

  it.effect(
    "a token outlives a new id, and ends with a login and with the session",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      const token = String((yield* user.get("/token")).json["token"])
      const send = Effect.gen(function* () {
        const headers = { cookie: yield* user.cookie, "x-csrf-token": token }
        return (yield* server.request("POST", "/guarded/csrf", { headers })).status
      })
      yield* user.post("/rotate")
      assert.strictEqual(yield* send, 200)
      yield* TestClock.adjust("1 second")
      yield* user.post("/login?user=alice")
      assert.strictEqual(yield* send, 403)
      const next = String((yield* user.get("/token")).json["token"])
      yield* server.sessions.deleteAll
      const headers = { cookie: yield* user.cookie, "x-csrf-token": next }
      assert.strictEqual((yield* server.request("POST", "/guarded/csrf", { headers })).status, 403)
    }, Effect.scoped)
  )

  it.effect(
    "a token of a guest protects the login form, and asking for one begins a guest's session",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = server.browser()
      const token = String((yield* browser.get("/token")).json["token"])
      assert.isDefined(yield* browser.session)
      const headers = { cookie: yield* browser.cookie, "x-csrf-token": token }
      assert.strictEqual((yield* server.request("POST", "/guarded/csrf", { headers })).status, 200)
    }, Effect.scoped)
  )

  it.effect(
    "a request whose origin is known reads no session",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const user = yield* loggedIn(server)
      server.watched.calls.length = 0
      yield* user.post("/guarded/csrf")
      yield* user.get("/guarded/csrf")
      assert.deepStrictEqual(server.watched.calls, [])
    }, Effect.scoped)
  )
})
