/** A small application that uses everything: what the tests send requests to. */
import { Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import {
  anonymousWhenUnavailable,
  authoritative,
  csrf,
  CurrentSession,
  requireAttribute,
  requireFresh,
  requireSession,
  SessionCookie,
  type SessionCookieOptions,
  SessionMiddleware
} from "../../src/index.ts"
import { type Browser, serve } from "./Server.ts"
import { Watched } from "./Store.ts"

export const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
export const Elevated = SessionAttribute.make("elevated_access", Schema.Boolean, { timeToLive: "15 minutes" })

export const keys = [Redacted.make("a key of thirty-two characters, at least")]

const json = (body: Readonly<Record<string, unknown>>) => HttpServerResponse.jsonUnsafe(body)

const query = Effect.map(HttpServerRequest.ParsedSearchParams, (params) => (name: string): string => {
  const value = params[name]
  return typeof value === "string" ? value : ""
})

const describeSession = (found: Option.Option<Session>) =>
  Option.match(found, {
    onNone: () => Effect.succeed(json({ session: false })),
    onSome: (session) =>
      Effect.map(Effect.orDie(Session.get(session, Cart)), (cart) =>
        json({
          session: true,
          key: session.key,
          user: Option.getOrNull(session.userId),
          version: String(session.version),
          cart
        })
      )
  })

const user = Effect.map(query, (get) => UserId.make(get("user") || "alice"))
const ok = HttpServerResponse.text("ok")

const open = Layer.mergeAll(
  HttpRouter.add("GET", "/silent", ok),
  HttpRouter.add("GET", "/me", Effect.flatMap(CurrentSession.get, describeSession)),
  HttpRouter.add(
    "GET",
    "/user",
    Effect.flatMap(CurrentSession.require, (session) => describeSession(Option.some(session)))
  ),
  HttpRouter.add(
    "POST",
    "/login",
    Effect.as(
      Effect.flatMap(user, (id) => CurrentSession.login(id)),
      ok
    )
  ),
  HttpRouter.add("POST", "/logout", Effect.as(CurrentSession.logout, ok)),
  HttpRouter.add("POST", "/rotate", Effect.as(CurrentSession.rotate(), ok)),
  HttpRouter.add(
    "POST",
    "/cart",
    Effect.gen(function* () {
      const item = (yield* query)("item")
      const changed = yield* CurrentSession.modify(
        Session.modify(Cart, (items) => [...items, item]),
        {
          whenAbsent: "createGuest"
        }
      ).pipe(Effect.catchTag("AttributeInvalid", Effect.die))
      return yield* describeSession(Option.some(changed))
    })
  ),
  HttpRouter.add("POST", "/cart-strict", Effect.as(CurrentSession.modify(Session.set(Cart, ["strict"])), ok)),
  HttpRouter.add(
    "POST",
    "/logout-everywhere",
    Effect.map(CurrentSession.logoutEverywhere(), (ended) => json({ ended }))
  ),
  HttpRouter.add(
    "POST",
    "/logout-others",
    Effect.map(CurrentSession.logoutEverywhere({ except: "current" }), (ended) => json({ ended }))
  ),
  HttpRouter.add(
    "POST",
    "/flash",
    Effect.as(
      Effect.flatMap(query, (get) => CurrentSession.flash("info", get("text"))),
      ok
    )
  ),
  HttpRouter.add(
    "GET",
    "/flash",
    Effect.map(CurrentSession.takeFlash, (messages) => json({ messages }))
  ),
  HttpRouter.add(
    "GET",
    "/token",
    Effect.map(CurrentSession.csrfToken, (token) => json({ token }))
  ),
  HttpRouter.add(
    "POST",
    "/elevate",
    Effect.as(CurrentSession.rotate({ attributes: [SessionAttribute.value(Elevated, true)] }), ok)
  ),
  HttpRouter.add("POST", "/lower", Effect.as(CurrentSession.modify(Session.set(Elevated, false)), ok))
)

/** The routes, below a middleware. */
export const routes = (session: SessionMiddleware) =>
  Layer.mergeAll(
    open.pipe(Layer.provide(session.layer)),
    HttpRouter.add("GET", "/guarded/session", ok).pipe(Layer.provide(requireSession.combine(session).layer)),
    HttpRouter.add("GET", "/guarded/fresh", ok).pipe(
      Layer.provide(requireFresh({ within: "5 minutes" }).combine(session).layer)
    ),
    HttpRouter.add("GET", "/guarded/elevated", ok).pipe(
      Layer.provide(requireAttribute(Elevated).combine(requireSession).combine(session).layer)
    ),
    HttpRouter.add("GET", "/guarded/authoritative", ok).pipe(
      Layer.provide(authoritative.combine(requireAttribute(Elevated)).combine(requireSession).combine(session).layer)
    ),
    HttpRouter.add("GET", "/guarded/alive", ok).pipe(Layer.provide(authoritative.combine(session).layer)),
    HttpRouter.add("*", "/guarded/csrf", ok).pipe(Layer.provide(csrf().combine(session).layer)),
    HttpRouter.add("GET", "/teaser", Effect.flatMap(CurrentSession.getOrAnonymous, describeSession)).pipe(
      Layer.provide(anonymousWhenUnavailable.combine(session).layer)
    )
  )

export const cookieLayer = (options?: Partial<SessionCookieOptions>) => SessionCookie.layer({ keys, ...options })

/** The shop and further routes on a store in memory; answers the server, the store, and the means to watch it. */
export const shop = Effect.fnUntraced(function* <E>(options?: {
  readonly cookie?: Partial<SessionCookieOptions> | undefined
  readonly more?: (
    session: SessionMiddleware
  ) => Layer.Layer<never, E, HttpRouter.HttpRouter | SessionStore | SessionCookie>
  readonly store?: Parameters<typeof Watched.layerMemory>[0]
}) {
  const context = yield* Layer.build(Watched.layerMemory(options?.store))
  const session = SessionMiddleware.make()
  const more = options?.more === undefined ? Layer.empty : options.more(session)
  const server = yield* serve(
    Layer.mergeAll(routes(session), more).pipe(
      Layer.provide(cookieLayer(options?.cookie)),
      Layer.provide(Layer.succeedContext(context))
    )
  )
  return { ...server, sessions: Context.get(context, SessionStore), watched: Context.get(context, Watched) }
})

/** A browser that has logged in. */
export const loggedIn = Effect.fnUntraced(function* (server: { readonly browser: () => Browser }, name = "alice") {
  const browser = server.browser()
  const answer = yield* browser.post(`/login?user=${name}`)
  assert.strictEqual(answer.status, 200)
  return browser
})
