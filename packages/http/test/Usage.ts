/** The examples of the documentation: they compile. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import {
  AnonymousSessionApi,
  anonymousWhenUnavailable,
  Authenticated,
  authoritative,
  csrf,
  CsrfApi,
  CurrentSession,
  OptionalSessionApi,
  requireAttribute,
  requireFresh,
  requireSession,
  SessionApi,
  SessionApiService,
  SessionCookie,
  SessionGuardApi,
  SessionMetrics,
  SessionMiddleware
} from "@effect-pg-session/http"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const Elevated = SessionAttribute.make("elevated_access", Schema.Boolean, { timeToLive: "15 minutes" })

// ------------------------------------------------------------------ routes of an HttpRouter

const Public = Layer.mergeAll(
  HttpRouter.add(
    "POST",
    "/login",
    Effect.gen(function* () {
      yield* CurrentSession.login(UserId.make("alice")) // new id; a guest's cart is kept
      yield* CurrentSession.flash("success", "Welcome back")
      return HttpServerResponse.redirect("/")
    })
  ),
  HttpRouter.add(
    "GET",
    "/",
    Effect.gen(function* () {
      const found = yield* CurrentSession.get // Option<Session>; 503 while the store is down
      const messages = yield* CurrentSession.takeFlash
      const token = yield* CurrentSession.csrfToken // for <input type="hidden" name="_csrf">; begins a guest's session
      return HttpServerResponse.jsonUnsafe({ known: Option.isSome(found), messages, token })
    })
  ),
  HttpRouter.add(
    "POST",
    "/cart",
    Effect.gen(function* () {
      yield* CurrentSession.modify(
        Session.modify(Cart, (items) => [...items, "pen"]),
        { whenAbsent: "createGuest" }
      )
      return HttpServerResponse.empty()
    })
  ),
  HttpRouter.add("POST", "/logout", Effect.as(CurrentSession.logout, HttpServerResponse.redirect("/")))
)
const Account = Layer.mergeAll(
  HttpRouter.add(
    "GET",
    "/me",
    Effect.gen(function* () {
      const session = yield* Authenticated // a Session; guarded routes need no check of their own
      const userId = yield* Authenticated.userId
      return HttpServerResponse.jsonUnsafe({ userId, cart: yield* Effect.orDie(Session.get(session, Cart)) })
    })
  ),
  HttpRouter.add(
    "POST",
    "/logout-others",
    Effect.gen(function* () {
      const ended = yield* CurrentSession.logoutEverywhere({ except: "current" })
      return HttpServerResponse.jsonUnsafe({ ended })
    })
  ),
  HttpRouter.add(
    "POST",
    "/step-up",
    Effect.gen(function* () {
      yield* CurrentSession.rotate({ attributes: [SessionAttribute.value(Elevated, true)] }) // new id, more rights
      return HttpServerResponse.empty()
    })
  )
)
const Admin = HttpRouter.add("POST", "/transfer", HttpServerResponse.text("done"))
const Teaser = HttpRouter.add(
  "GET",
  "/teaser",
  Effect.gen(function* () {
    const found = yield* CurrentSession.getOrAnonymous // None while the store is down; compiles only where the route says so
    return HttpServerResponse.text(Option.isSome(found) ? "hello again" : "hello")
  })
)

const session = SessionMiddleware.make({
  // optional: how Unauthenticated, StepUpRequired, ... are answered; default: status and {"_tag":"..."}
  respond: (error) =>
    error._tag === "Unauthenticated"
      ? Effect.succeed(HttpServerResponse.redirect("/login"))
      : Effect.succeed(HttpServerResponse.text(error.message, { status: 403 }))
})
const guarded = csrf().combine(session) // the session is the outermost
const Routes = Layer.mergeAll(
  Public.pipe(Layer.provide(guarded.layer)),
  Account.pipe(Layer.provide(requireSession.combine(guarded).layer)),
  Admin.pipe(
    Layer.provide(
      requireAttribute(Elevated)
        .combine(requireFresh({ within: "5 minutes" }))
        .combine(authoritative)
        .combine(guarded).layer
    )
  ),
  Teaser.pipe(Layer.provide(anonymousWhenUnavailable.combine(session).layer))
)

// ------------------------------------------------------------------ groups of an HttpApi

class ElevatedApi extends SessionGuardApi<ElevatedApi>()("ElevatedApi", requireAttribute(Elevated)) {}

class Items extends HttpApiGroup.make("items")
  .add(HttpApiEndpoint.get("list", "/api/items", { success: Schema.Array(Schema.String) }))
  .add(HttpApiEndpoint.post("clear", "/api/items/clear").middleware(ElevatedApi)) // guard on the endpoint
  .middleware(CsrfApi)
  .middleware(SessionApi) // after .add, last: the outermost. OpenAPI shows the cookie
{}
class Visitors extends HttpApiGroup.make("visitors")
  .add(HttpApiEndpoint.get("greet", "/api/greet", { success: Schema.String }))
  .middleware(OptionalSessionApi) // or AnonymousSessionApi
{}
class Api extends HttpApi.make("api").add(Items).add(Visitors) {}

const ApiLive = HttpApiBuilder.layer(Api, { openapiPath: "/openapi.json" }).pipe(
  Layer.provide(
    HttpApiBuilder.group(Api, "items", (handlers) =>
      handlers
        .handle("list", () => Effect.flatMap(Authenticated, (session) => Effect.orDie(Session.get(session, Cart))))
        .handle("clear", () => Effect.asVoid(CurrentSession.modify(Session.set(Cart, []))))
    )
  ),
  Layer.provide(
    HttpApiBuilder.group(Api, "visitors", (handlers) =>
      handlers.handle("greet", () =>
        Effect.map(CurrentSession.get, Option.match({ onNone: () => "hello", onSome: () => "hello again" }))
      )
    )
  ),
  Layer.provide([SessionApi.layer, OptionalSessionApi.layer, ElevatedApi.layer, CsrfApi.layer()])
)
// another cookie name: the class shows it; a start with a differing SessionCookie fails with InvalidSessionConfig
export class ShopApi extends SessionApiService<ShopApi>()("ShopApi", { cookieName: "__Secure-shop" }) {}
export const unused = AnonymousSessionApi

// ------------------------------------------------------------------ a node server, and a web handler

const Cookie = SessionCookie.layer({ keys: [Redacted.make("k".repeat(44))], maxAge: "30 days", readYourWrites: true })
// or SessionCookie.layerConfig: SESSION_COOKIE_KEYS (required), SESSION_COOKIE_NAME, SESSION_COOKIE_MAX_AGE, ...
const App = Layer.mergeAll(Routes, ApiLive, PrometheusMetrics.layerHttp()).pipe(
  Layer.provide(SessionMetrics.layer),
  Layer.provide(Cookie),
  Layer.provide(SessionStore.layerMemory()) // or PgSessionLive
)
export const Server = HttpRouter.serve(App).pipe(Layer.provide(NodeHttpServer.layer(createServer, { port: 3000 })))
export const { handler, dispose } = HttpRouter.toWebHandler(App.pipe(Layer.provide(HttpServer.layerServices)))

// ------------------------------------------------------------------ a handler's test, without a server
export const test = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const alice = yield* sessions.create(UserId.make("alice"))
  yield* Effect.provide(CurrentSession.modify(Session.set(Cart, ["pen"])), CurrentSession.layerTest(alice))
}).pipe(Effect.provide(SessionStore.layerMemory()))
