/** Endpoints of an `HttpApi`: the same session, shown in the OpenAPI document. */
import { type InvalidSessionConfig, Session, SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  AnonymousSessionApi,
  Authenticated,
  CsrfApi,
  CurrentSession,
  OptionalSessionApi,
  requireAttribute,
  requireSession,
  SessionApi,
  SessionApiService,
  type SessionCookie,
  SessionGuardApi,
  SessionMiddleware
} from "../src/index.ts"
import { Cart, cookieLayer, Elevated, loggedIn, routes } from "./support/Shop.ts"
import { serve } from "./support/Server.ts"
import { Watched } from "./support/Store.ts"

class ElevatedApi extends SessionGuardApi<ElevatedApi>()("test/ElevatedApi", requireAttribute(Elevated)) {}
class ShopApi extends SessionApiService<ShopApi>()("test/ShopApi", { cookieName: "__Secure-shop" }) {}

class Account extends HttpApiGroup.make("account")
  .add(HttpApiEndpoint.get("who", "/api/who", { success: Schema.String }))
  .add(HttpApiEndpoint.post("clear", "/api/clear"))
  .add(HttpApiEndpoint.get("secret", "/api/secret", { success: Schema.String }).middleware(ElevatedApi))
  .middleware(CsrfApi)
  .middleware(SessionApi) {}

class Visitors extends HttpApiGroup.make("visitors")
  .add(HttpApiEndpoint.get("greet", "/api/greet", { success: Schema.String }))
  .add(HttpApiEndpoint.post("login", "/api/login"))
  .add(HttpApiEndpoint.get("silent", "/api/silent", { success: Schema.String }))
  .middleware(OptionalSessionApi) {}

class Teasers extends HttpApiGroup.make("teasers")
  .add(HttpApiEndpoint.get("teaser", "/api/teaser", { success: Schema.String }))
  .middleware(AnonymousSessionApi) {}

class Api extends HttpApi.make("api").add(Account).add(Visitors).add(Teasers) {}

const known = (found: Option.Option<Session>) => (Option.isSome(found) ? "hello again" : "hello")

const handlers = Layer.mergeAll(
  HttpApiBuilder.group(Api, "account", (handlers) =>
    handlers
      .handle("who", () =>
        Effect.gen(function* () {
          // Asked twice, by two ways: one read.
          const session = yield* CurrentSession.require
          assert.strictEqual(session, yield* Authenticated)
          return yield* Authenticated.userId
        })
      )
      .handle("clear", () => Effect.asVoid(CurrentSession.modify(Session.set(Cart, []))))
      .handle("secret", () => Effect.succeed("secret"))
  ),
  HttpApiBuilder.group(Api, "visitors", (handlers) =>
    handlers
      .handle("greet", () => Effect.map(CurrentSession.get, known))
      .handle("login", () => Effect.asVoid(CurrentSession.login(UserId.make("alice"))))
      .handle("silent", () => Effect.succeed("ok"))
  ),
  HttpApiBuilder.group(Api, "teasers", (handlers) =>
    handlers.handle("teaser", () => Effect.map(CurrentSession.getOrAnonymous, known))
  )
)

const api = HttpApiBuilder.layer(Api).pipe(
  Layer.provide(handlers),
  Layer.provide([
    SessionApi.layer,
    OptionalSessionApi.layer,
    AnonymousSessionApi.layer,
    ElevatedApi.layer,
    CsrfApi.layer()
  ]),
  Layer.provide(HttpServer.layerServices)
)

/** The API, alone or nested in routes that have the session already. */
const serveApi = Effect.fnUntraced(function* (nested: "nested" | "alone") {
  const context = yield* Layer.build(Watched.layerMemory())
  const session = SessionMiddleware.make()
  const endpoints = nested === "nested" ? Layer.provide(api, session.layer) : api
  const server = yield* serve(
    Layer.mergeAll(endpoints, routes(session)).pipe(
      Layer.provide(cookieLayer()),
      Layer.provide(Layer.succeedContext(context))
    )
  )
  return { ...server, watched: Context.get(context, Watched), sessions: Context.get(context, SessionStore) }
})

describe.each(["alone", "nested"] as const)("an API %s", (nested) => {
  it.effect(
    "demands a user, and answers with the errors that it declares",
    Effect.fnUntraced(function* () {
      const server = yield* serveApi(nested)
      const stranger = yield* server.request("GET", "/api/who")
      assert.deepStrictEqual([stranger.status, stranger.json], [401, { _tag: "Unauthenticated" }])
      const guest = server.browser()
      yield* guest.post("/cart?item=pen")
      assert.strictEqual((yield* guest.get("/api/who")).status, 401)
      const user = yield* loggedIn(server)
      server.watched.calls.length = 0
      const who = yield* user.get("/api/who")
      assert.deepStrictEqual([who.status, who.body, who.headers["vary"]], [200, `"alice"`, "Cookie"])
      assert.deepStrictEqual(server.watched.calls, ["find"])
    }, Effect.scoped)
  )

  it.effect(
    "guards its endpoints, and refuses what other sites send",
    Effect.fnUntraced(function* () {
      const server = yield* serveApi(nested)
      const user = yield* loggedIn(server)
      const lowly = yield* user.get("/api/secret")
      assert.deepStrictEqual([lowly.status, lowly.json], [403, { _tag: "StepUpRequired" }])
      yield* user.post("/elevate")
      assert.strictEqual((yield* user.get("/api/secret")).body, `"secret"`)
      assert.strictEqual((yield* user.post("/api/clear")).status, 204)
      const foreign = yield* user.post("/api/clear", { headers: { "sec-fetch-site": "cross-site" } })
      assert.deepStrictEqual([foreign.status, foreign.json], [403, { _tag: "CsrfRejected" }])
    }, Effect.scoped)
  )

  it.effect(
    "works without a session where that is optional, and logs in with one cookie",
    Effect.fnUntraced(function* () {
      const server = yield* serveApi(nested)
      const browser = server.browser()
      assert.strictEqual((yield* browser.get("/api/greet")).body, `"hello"`)
      const login = yield* browser.post("/api/login")
      assert.deepStrictEqual(
        [login.status, login.setCookie.length, login.headers["cache-control"]],
        [204, 1, "no-store"]
      )
      assert.strictEqual((yield* browser.get("/api/greet")).body, `"hello again"`)
      server.watched.calls.length = 0
      yield* browser.get("/api/silent")
      assert.deepStrictEqual(server.watched.calls, [])
    }, Effect.scoped)
  )

  it.effect(
    "takes a cookie that is sent twice for none, although the API's own credential would be the first",
    Effect.fnUntraced(function* () {
      const server = yield* serveApi(nested)
      const user = yield* loggedIn(server)
      const cookie = yield* user.cookie
      server.watched.calls.length = 0
      const answer = yield* server.request("GET", "/api/who", {
        headers: { cookie: `${cookie}; __Host-session=planted` }
      })
      assert.strictEqual(answer.status, 401)
      assert.deepStrictEqual(server.watched.calls, [])
    }, Effect.scoped)
  )

  it.effect(
    "fails closed while the store is down, unless the endpoint has named another choice",
    Effect.fnUntraced(function* () {
      const server = yield* serveApi(nested)
      const user = yield* loggedIn(server)
      yield* server.watched.down(true)
      for (const path of ["/api/who", "/api/secret", "/api/greet"]) {
        const answer = yield* user.get(path)
        assert.deepStrictEqual(
          [answer.status, answer.json, answer.setCookie],
          [503, { _tag: "SessionUnavailable" }, []]
        )
      }
      assert.strictEqual((yield* user.get("/api/teaser")).body, `"hello"`)
      assert.strictEqual((yield* user.post("/api/login")).status, 503)
    }, Effect.scoped)
  )
})

it.effect(
  "an API and the routes around it read the session once, and send one cookie",
  Effect.fnUntraced(function* () {
    const context = yield* Layer.build(Watched.layerMemory())
    const session = SessionMiddleware.make()
    const server = yield* serve(
      Layer.mergeAll(Layer.provide(api, requireSession.combine(session).layer), routes(session)).pipe(
        Layer.provide(cookieLayer()),
        Layer.provide(Layer.succeedContext(context))
      )
    )
    const user = yield* loggedIn(server)
    const { calls } = Context.get(context, Watched)
    calls.length = 0
    assert.strictEqual((yield* user.get("/api/who")).body, `"alice"`)
    assert.deepStrictEqual(calls, ["find"])
    const before = yield* user.session
    const { setCookie } = yield* user.post("/api/login")
    assert.strictEqual(setCookie.length, 1)
    assert.notStrictEqual(yield* user.session, before)
    assert.strictEqual((yield* user.get("/api/who")).status, 200)
  }, Effect.scoped)
)

describe("the OpenAPI document", () => {
  it("shows the cookie where it is needed, and every status", () => {
    const document = OpenApi.fromApi(Api)
    assert.deepStrictEqual(document.components.securitySchemes, {
      session: { type: "apiKey", in: "cookie", name: "__Host-session" }
    })
    const who = document.paths["/api/who"]?.get
    assert.deepStrictEqual(who?.security, [{ session: [] }])
    assert.includeMembers(Object.keys(who?.responses ?? {}), ["200", "401", "403", "409", "413", "503"])
    assert.deepStrictEqual(document.paths["/api/greet"]?.get?.security, [])
  })

  it("shows another name where the application has one", () => {
    class Other extends HttpApi.make("other").add(
      HttpApiGroup.make("g").add(HttpApiEndpoint.get("x", "/x")).middleware(ShopApi)
    ) {}
    assert.deepStrictEqual(OpenApi.fromApi(Other).components.securitySchemes, {
      "session.__Secure-shop": { type: "apiKey", in: "cookie", name: "__Secure-shop" }
    })
  })

  it.effect(
    "is never wrong about the name: the start fails where the cookie has another one",
    Effect.fnUntraced(function* () {
      const start = <A>(
        layer: Layer.Layer<A, InvalidSessionConfig, SessionStore | SessionCookie>,
        name: string | undefined
      ) =>
        Effect.asVoid(
          Layer.build(layer.pipe(Layer.provide(cookieLayer({ name })), Layer.provide(SessionStore.layerMemory())))
        )
      yield* start(SessionApi.layer, undefined)
      yield* start(ShopApi.layer, "__Secure-shop")
      for (const failing of [start(SessionApi.layer, "__Secure-shop"), start(ShopApi.layer, undefined)]) {
        const error = yield* Effect.flip(failing)
        assert.strictEqual(error._tag, "InvalidSessionConfig")
        assert.include(error.message, "SessionApiService")
      }
    }, Effect.scoped)
  )
})
