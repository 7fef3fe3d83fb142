/**
 * What a security review will check (OWASP ASVS 5, chapters V3 and V7, and the cheat sheet on session management), one
 * test per line, through real servers over a real PostgreSQL.
 */
import { Session, SessionId, type SessionOptions, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { inspect } from "node:util"
import { inject } from "vitest"
import { CurrentSession, type SessionCookieOptions, SessionCookie, SessionMiddleware } from "../src/index.ts"
import { type Browser, serve } from "./support/Server.ts"
import { cookieLayer, Elevated, keys, loggedIn, routes } from "./support/Shop.ts"
import { Watched } from "./support/Store.ts"

const databaseUrl = Redacted.make(inject("databaseUrl"))
const maxStaleness = 1_000

/** A schema of its own, and nodes of one application on it. */
const application = Effect.gen(function* () {
  const schemaName = `http_${randomBytes(6).toString("hex")}`
  const sql = Context.get(
    yield* Layer.build(PgClient.layer({ url: databaseUrl, maxConnections: 2 })),
    PgClient.PgClient
  )
  yield* Effect.acquireRelease(sql`create schema ${sql(schemaName)}`, () =>
    Effect.ignore(sql`drop schema ${sql(schemaName)} cascade`)
  )
  const node = Effect.fnUntraced(function* (options?: {
    readonly session?: SessionOptions
    readonly cookie?: Partial<SessionCookieOptions>
  }) {
    const store = PgSession.layer({
      url: databaseUrl,
      schemaName,
      maxConnections: 3,
      maxStaleness,
      ...options?.session
    })
    const context = yield* Layer.build(Watched.layer(Layer.fresh(store)))
    const session = SessionMiddleware.make()
    const devices = HttpRouter.add(
      "GET",
      "/devices",
      Effect.gen(function* () {
        const current = yield* CurrentSession.require
        const sessions = yield* SessionStore
        const all = yield* Effect.orDie(sessions.listForUser(Option.getOrThrow(current.userId)))
        return HttpServerResponse.jsonUnsafe({ keys: all.map(({ key }) => key), current: current.key })
      })
    ).pipe(Layer.provide(session.layer), HttpRouter.provideRequest(Layer.effect(SessionStore, SessionStore)))
    const server = yield* serve(
      Layer.mergeAll(routes(session), devices).pipe(
        Layer.provide(cookieLayer(options?.cookie)),
        Layer.provide(Layer.succeedContext(context))
      )
    )
    return { ...server, sessions: Context.get(context, SessionStore), watched: Context.get(context, Watched) }
  })
  const rows = Effect.map(
    sql<{ readonly row: unknown }>`select to_jsonb(s) as row from ${sql(schemaName)}.sessions s`,
    (all) => all.map(({ row }) => JSON.stringify(row))
  )
  return { node, rows }
})

/** Asks until the answer is what it has to become. */
const eventually = Effect.fnUntraced(function* <E>(condition: Effect.Effect<boolean, E>) {
  yield* Effect.repeat(Effect.delay(condition, 5), { until: (holds) => holds })
})

const idOf = (cookie: string | undefined): SessionId =>
  Option.getOrThrow(SessionId.fromString((cookie ?? "").slice(0, 65)))

const status = (browser: Browser, path: string) => Effect.map(browser.get(path), (answer) => answer.status)

/** A test on real time: the servers and the database have no other. */
const line = (text: string, test: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(text, () => Effect.scoped(Effect.provide(test, Logger.layer([]))))

describe("a security review checks that", () => {
  line(
    "1. ids have at least 128 random bits, and are accepted from the configured cookie only",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node()
      const values = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.flatMap(loggedIn(server), (browser) => Effect.map(browser.session, (value) => value ?? ""))
      )
      // 256 bits of secret after the key, all of them different in every place that can differ.
      const secrets = values.map((value) => value.slice(22, 65))
      assert.strictEqual(new Set(secrets).size, 20)
      assert.isTrue(secrets.every((secret) => Buffer.from(secret, "base64url").length * 8 === 256))
      const differs = Array.from({ length: 42 }, (_, at) => new Set(secrets.map((secret) => secret[at])).size)
      assert.isTrue(differs.every((count) => count > 1))
      // The latest one: a user has five sessions at most.
      const value = values.at(-1) ?? ""
      const id = value.slice(0, 65)
      const elsewhere = [
        server.request("GET", `/user?__Host-session=${value}&session=${id}`),
        server.request("GET", `/user;__Host-session=${value}`),
        ...["authorization", "x-session-id", "__host-session", "set-cookie"].map((name) =>
          server.request("GET", "/user", { headers: { [name]: name === "authorization" ? `Bearer ${value}` : value } })
        ),
        ...["session", "sid", "connect.sid", "__host-session"].map((name) =>
          server.request("GET", "/user", { headers: { cookie: `${name}=${value}` } })
        )
      ]
      for (const request of elsewhere) assert.include([401, 404], (yield* request).status)
      assert.strictEqual(
        (yield* server.request("GET", "/user", { headers: { cookie: `__Host-session=${value}` } })).status,
        200
      )
    })
  )

  line(
    "2. an unknown or malformed id creates no row, and malformed and oversized cookies never reach SQL",
    Effect.gen(function* () {
      const { node, rows } = yield* application
      const server = yield* node()
      const cookies = Context.get(yield* Layer.build(cookieLayer()), SessionCookie)
      const stranger = yield* node()
      const session = yield* stranger.sessions.createAnonymous()
      const unknown = Redacted.value(cookies.encode(session, 0))
      yield* stranger.sessions.deleteAll
      server.watched.calls.length = 0
      const refused = [
        "",
        "x",
        "' or 1=1 --",
        unknown.slice(0, 65),
        `${unknown}x`,
        "x".repeat(5_000),
        "x".repeat(12_000),
        `${unknown.slice(0, -1)}~`
      ]
      for (const value of refused) {
        for (const path of ["/me", "/user", "/flash", "/guarded/authoritative", "/teaser"]) {
          yield* server.request("GET", path, { headers: { cookie: `__Host-session=${value}` } })
        }
        yield* server.request("POST", "/logout", { headers: { cookie: `__Host-session=${value}` } })
      }
      assert.deepStrictEqual(server.watched.calls, [])
      const signed = yield* server.request("GET", "/user", { headers: { cookie: `__Host-session=${unknown}` } })
      assert.strictEqual(signed.status, 401)
      assert.deepStrictEqual(server.watched.calls, ["find"])
      assert.deepStrictEqual(yield* rows, [])
    })
  )

  line(
    "3. login and re-authentication issue a new id, and the old one is refused",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node()
      const browser = server.browser()
      yield* browser.post("/cart?item=pen")
      const guest = yield* browser.cookie
      yield* browser.post("/login?user=alice")
      const first = yield* browser.cookie
      const as = (cookie: string) =>
        Effect.map(server.request("GET", "/user", { headers: { cookie } }), (answer) => answer.status)
      assert.notStrictEqual(first, guest)
      assert.strictEqual(yield* as(guest), 401)
      yield* browser.post("/login?user=alice")
      const second = yield* browser.cookie
      assert.notStrictEqual(second, first)
      assert.strictEqual(yield* as(second), 200)
      yield* browser.post("/login?user=bob")
      assert.strictEqual(yield* as(second), 401)
      // A step-up changes the id as well; the grace of the old one is for requests under way, and is the application's to choose.
      const third = idOf(yield* browser.session)
      yield* browser.post("/elevate")
      const fourth = idOf(yield* browser.session)
      assert.notStrictEqual(Redacted.value(fourth), Redacted.value(third))
      yield* server.sessions.rotate(fourth, { grace: 0 })
      assert.strictEqual(yield* status(browser, "/user"), 401)
    })
  )

  line(
    "4. after logout, revocation or expiry the id fails on every node within the bound",
    Effect.gen(function* () {
      const { node } = yield* application
      const one = yield* node()
      const two = yield* node()
      const everywhere = Effect.fnUntraced(function* (
        end: (browser: Browser, id: SessionId) => Effect.Effect<unknown, unknown>
      ) {
        const browser = yield* loggedIn(one)
        const cookie = yield* browser.cookie
        const id = idOf(yield* browser.session)
        const alive = (server: typeof one) =>
          Effect.map(server.request("GET", "/user", { headers: { cookie } }), (answer) => answer.status === 200)
        assert.deepStrictEqual([yield* alive(one), yield* alive(two)], [true, true])
        yield* end(browser, id)
        const since = performance.now()
        assert.isFalse(yield* alive(one))
        yield* eventually(Effect.map(alive(two), (is) => !is))
        // The bound, and the time that the requests themselves take.
        assert.isBelow(performance.now() - since, maxStaleness + 1_000)
        assert.strictEqual((yield* two.request("GET", "/guarded/alive", { headers: { cookie } })).status, 401)
      })
      yield* everywhere((browser) => browser.post("/logout"))
      yield* everywhere((browser) => browser.post("/logout-everywhere"))
      yield* everywhere((_, id) => one.sessions.deleteByKey(SessionId.key(id)))
      const brief = yield* node({ session: { idleTimeout: "1 second" } })
      const browser = yield* loggedIn(brief)
      const headers = { cookie: yield* browser.cookie }
      const dead = (server: typeof one) =>
        Effect.map(server.sessions.find(idOf(headers.cookie.split("=")[1]), { touch: false }), Option.isNone)
      yield* Effect.forEach([brief, one, two], (server) => eventually(dead(server)))
      for (const server of [brief, one, two])
        assert.strictEqual((yield* server.request("GET", "/user", { headers })).status, 401)
    })
  )

  line(
    "5. idle and absolute limits both hold, and activity cannot pass the absolute one",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node({ session: { idleTimeout: "1 second", sessionLifetime: "2500 millis" } })
      const since = performance.now()
      const idle = yield* loggedIn(server)
      const active = yield* loggedIn(server, "bob")
      const id = idOf(yield* idle.session)
      yield* eventually(
        Effect.gen(function* () {
          assert.strictEqual(yield* status(active, "/user"), 200)
          return Option.isNone(yield* server.sessions.find(id, { touch: false }))
        })
      )
      assert.isAtLeast(performance.now() - since, 900)
      assert.strictEqual(yield* status(idle, "/user"), 401)
      yield* eventually(Effect.map(status(active, "/user"), (code) => code === 401))
      assert.isBelow(performance.now() - since, 4_500)
      assert.isAtLeast(performance.now() - since, 2_400)
    })
  )

  line(
    "6. users can list and end their own sessions, ending all others keeps this one, and an administrator can end one user's or all",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node()
      const [phone, laptop] = [yield* loggedIn(server), yield* loggedIn(server)]
      const bob = yield* loggedIn(server, "bob")
      const listed = yield* phone.get("/devices")
      assert.strictEqual((listed.json["keys"] as ReadonlyArray<string>).length, 2)
      assert.notInclude(listed.body, ((yield* laptop.session) ?? "").slice(22, 65))
      assert.deepStrictEqual((yield* phone.post("/logout-others")).json, { ended: 1 })
      assert.deepStrictEqual(
        [yield* status(phone, "/user"), yield* status(laptop, "/user"), yield* status(bob, "/user")],
        [200, 401, 200]
      )
      yield* server.sessions.deleteAllForUser(UserId.make("alice"))
      assert.deepStrictEqual([yield* status(phone, "/user"), yield* status(bob, "/user")], [401, 200])
      yield* server.sessions.deleteAll
      assert.strictEqual(yield* status(bob, "/user"), 401)
    })
  )

  line(
    "7. sensitive routes can demand a recent login and an authoritative read",
    Effect.gen(function* () {
      const { node } = yield* application
      const one = yield* node()
      const two = yield* node()
      const browser = yield* loggedIn(one)
      assert.strictEqual(yield* status(browser, "/guarded/fresh"), 200)
      yield* browser.post("/elevate")
      const headers = { cookie: yield* browser.cookie }
      const on = (path: string) => Effect.map(two.request("GET", path, { headers }), (answer) => answer.status)
      assert.deepStrictEqual([yield* on("/guarded/elevated"), yield* on("/guarded/authoritative")], [200, 200])
      // A change that is not announced: the other node may believe its memory, but not where a route asks the database.
      yield* one.sessions.modify(idOf(yield* browser.session), Session.remove(Elevated), { notify: false })
      assert.deepStrictEqual([yield* on("/guarded/elevated"), yield* on("/guarded/authoritative")], [200, 403])
      yield* one.sessions.deleteAll
      assert.strictEqual(yield* on("/guarded/alive"), 401)
    })
  )

  line(
    "8. the cookie is Secure, HttpOnly, SameSite and __Host- unless shared, and settings that browsers reject fail at start",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node()
      const [set = ""] = (yield* server.request("POST", "/login")).setCookie
      assert.match(set, /^__Host-session=[A-Za-z0-9_.-]+; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
      assert.isBelow(set.length, 4_096)
      const settings: ReadonlyArray<Partial<SessionCookieOptions>> = [
        { secure: false },
        { path: "/shop" },
        { domain: "example.com" },
        { name: "__Secure-session", secure: false },
        { name: "session", secure: false, sameSite: "none" },
        { name: "session", secure: false, partitioned: true }
      ]
      for (const cookie of settings) {
        const error = yield* Effect.flip(Layer.build(SessionCookie.layer({ keys, ...cookie })))
        assert.strictEqual(error._tag, "InvalidSessionConfig")
      }
    })
  )

  line(
    "9. a response that sets the cookie is neither stored nor shared, and expiring the cookie repeats its attributes",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node({ cookie: { readYourWrites: true } })
      const browser = server.browser()
      for (const path of ["/cart?item=pen", "/login", "/rotate", "/cart?item=book", "/logout"]) {
        const answer = yield* browser.post(path)
        assert.deepStrictEqual(
          [answer.setCookie.length, answer.headers["cache-control"], answer.headers["vary"]],
          [1, "no-store", "Cookie"],
          path
        )
        assert.match(answer.setCookie[0] ?? "", /; Path=\/;.* HttpOnly; Secure; SameSite=Lax$/)
      }
      assert.strictEqual((yield* browser.get("/me")).headers["vary"], "Cookie")
    })
  )

  line(
    "10. creation, rotation and destruction are logged with the session's key, never the secret",
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make((options) => {
        lines.push(
          inspect([options.message, options.cause, options.fiber.getRef(References.CurrentLogAnnotations)], {
            depth: 9
          })
        )
      })
      const { node } = yield* application
      const values = yield* Effect.gen(function* () {
        const server = yield* node()
        const browser = yield* loggedIn(server)
        const before = (yield* browser.session) ?? ""
        yield* browser.post("/rotate")
        const after = (yield* browser.session) ?? ""
        yield* browser.get("/me")
        yield* browser.post("/logout")
        return [before, after]
      }).pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(References.MinimumLogLevel, "Trace"))
      for (const event of ["A user logged in", "A session got a new id", "A user logged out"]) {
        const entry = lines.find((text) => text.includes(event))
        assert.include(entry, `${values[0]?.slice(0, 8)}…`)
      }
      for (const value of values)
        assert.deepStrictEqual(
          lines.filter((text) => text.includes(value.slice(22, 65))),
          []
        )
    })
  )

  line(
    "11. requests of other sites are refused, and the token that stands in for the browser's word is bound to the session",
    Effect.gen(function* () {
      const { node } = yield* application
      const server = yield* node()
      const alice = yield* loggedIn(server)
      const bob = yield* loggedIn(server, "bob")
      const send = Effect.fnUntraced(function* (browser: Browser, headers: Record<string, string>) {
        return (yield* server.request("POST", "/guarded/csrf", {
          headers: { cookie: yield* browser.cookie, ...headers }
        })).status
      })
      const token = String((yield* alice.get("/token")).json["token"])
      assert.strictEqual(yield* send(alice, { "sec-fetch-site": "same-origin" }), 200)
      assert.strictEqual(yield* send(alice, { "sec-fetch-site": "cross-site" }), 403)
      assert.strictEqual(yield* send(alice, { origin: "https://evil.example" }), 403)
      assert.strictEqual(yield* send(alice, { origin: `http://${server.host}` }), 200)
      assert.strictEqual(yield* send(alice, {}), 403)
      assert.strictEqual(yield* send(alice, { "x-csrf-token": token }), 200)
      assert.strictEqual(yield* send(bob, { "x-csrf-token": token }), 403)
    })
  )
})
