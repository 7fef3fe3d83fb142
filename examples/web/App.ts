/** The routes: what a person can do, and what each of it demands. */
import {
  Session,
  SessionAttribute,
  SessionKey,
  SessionStore,
  type SessionStoreUnavailable,
  UserId
} from "@effect-pg-session/core"
import {
  Authenticated,
  csrf,
  CurrentSession,
  requireAttribute,
  requireFresh,
  requireSession,
  type SessionHttpError,
  SessionMiddleware,
  SessionUnavailable
} from "@effect-pg-session/http"
import * as Array from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { deviceOf } from "./Device.ts"
import { ListenerSwitch } from "./ListenerSwitch.ts"
import { events, fragments, health, nodeEvents } from "./Live.ts"
import { errorPage, homePage, loginPage, type NodeInfo, type Reading } from "./Page.ts"
import { Cart, Device, Elevated, elevatedFor, goods, Theme, themes, users } from "./Shop.ts"

const secure = {
  "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin"
}

const page = (text: string, status = 200) =>
  HttpServerResponse.text(text, { status, contentType: "text/html; charset=utf-8", headers: secure })

/** The page again, at a card of it: there the keyboard goes on, and a phone does not scroll back to the top. */
const back = (card: "shop" | "access" | "look" | "logins" | "node") =>
  HttpServerResponse.redirect(`/#${card}`, { status: 303 })

/** From its top, where messages are. */
const home = HttpServerResponse.redirect("/", { status: 303 })

const asset = (file: string, contentType: string) => {
  const text = readFileSync(join(import.meta.dirname, "public", file), "utf8")
  return HttpRouter.add("GET", `/${file}`, HttpServerResponse.text(text, { contentType, headers: secure }))
}

/** The fields of a form; a form that this page does not have is a bad request. */
const form = <A, I extends Readonly<Record<string, string>>>(schema: Schema.Codec<A, I>) =>
  HttpServerRequest.schemaBodyUrlParams(schema)

/** What the store itself is asked fails as what the session is asked does. */
const available = <A, R>(effect: Effect.Effect<A, SessionStoreUnavailable, R>) =>
  Effect.mapError(effect, () => new SessionUnavailable())

export const make = (node: NodeInfo) => {
  const explain = (error: SessionHttpError): HttpServerResponse.HttpServerResponse => {
    switch (error._tag) {
      case "Unauthenticated":
        return home
      case "StepUpRequired":
        return page(
          errorPage(
            node,
            "More is needed",
            "This needs a proof of a moment ago: step up first. If you logged in long ago, log out and in again.",
            "step-up"
          ),
          403
        )
      case "CsrfRejected":
        return page(errorPage(node, "Refused", "This request did not come from our own page."), 403)
      case "SessionUnavailable":
        return page(errorPage(node, "Please try again", "Sessions cannot be reached at the moment."), 503)
      default:
        return page(errorPage(node, "That did not work", error.message), 409)
    }
  }
  const session = csrf().combine(SessionMiddleware.make({ respond: (error) => Effect.succeed(explain(error)) }))
  const user = requireSession.combine(session)

  /** The session of the request, where it came from, and how long that took. */
  const read = Effect.gen(function* () {
    const sessions = yield* SessionStore
    const { misses } = (yield* sessions.health).cache
    const start = performance.now()
    const found = yield* CurrentSession.get
    const micros = (performance.now() - start) * 1_000
    const after = (yield* sessions.health).cache
    const source = Option.isNone(found) ? "nowhere" : after.misses === misses ? "memory" : "database"
    const againMicros = yield* Option.match(found, {
      onNone: () => Effect.succeed(0),
      onSome: ({ id }) =>
        Effect.gen(function* () {
          const start = performance.now()
          yield* sessions.find(id)
          return (performance.now() - start) * 1_000
        })
    })
    return { found, reading: { source, micros, againMicros } satisfies Reading }
  })

  const front = HttpRouter.add(
    "GET",
    "/",
    Effect.gen(function* () {
      const { found, reading } = yield* read
      const request = yield* HttpServerRequest.HttpServerRequest
      const ended = request.url.includes("?ended") && [
        { kind: "problem", text: "This session has been ended, here or on another device." }
      ]
      if (Option.isNone(found) || Option.isNone(found.value.userId)) {
        return page(loginPage(node, reading, ended || [], yield* health))
      }
      const messages = yield* CurrentSession.takeFlash
      const theme = yield* Effect.orDie(Session.get(found.value, Theme))
      const parts = yield* available(fragments(found.value))
      return page(homePage(node, reading, messages, found.value.userId.value, found.value, theme, parts))
    })
  )

  const login = HttpRouter.add(
    "POST",
    "/login",
    Effect.gen(function* () {
      const { user } = yield* form(Schema.Struct({ user: Schema.Literals(users.map(String)) }))
      const request = yield* HttpServerRequest.HttpServerRequest
      const device = `${deviceOf(request.headers["user-agent"])}, by ${node.name}`
      yield* CurrentSession.login(UserId.make(user), { attributes: [SessionAttribute.value(Device, device)] })
      return home
    })
  )

  const logout = HttpRouter.add("POST", "/logout", Effect.as(CurrentSession.logout, home))

  const addToCart = HttpRouter.add(
    "POST",
    "/cart",
    Effect.gen(function* () {
      const { item } = yield* form(Schema.Struct({ item: Schema.Literals(goods) }))
      yield* CurrentSession.modify(Session.modify(Cart, (items) => [...items, item]))
      return back("shop")
    })
  )

  const addMany = HttpRouter.add(
    "POST",
    "/cart/many",
    Effect.gen(function* () {
      let attempts = 0
      const add = (item: string) =>
        CurrentSession.modify((session) => {
          attempts++
          return Session.modify(session, Cart, (items) => [...items, item])
        })
      yield* Effect.forEach(Array.range(0, 9), (index) => add(goods[index % goods.length] ?? "pen"), {
        concurrency: "unbounded"
      })
      yield* CurrentSession.flash("good", `Ten additions at once took ${attempts} attempts, and nothing was lost.`)
      return home
    })
  )

  const empty = HttpRouter.add(
    "POST",
    "/cart/empty",
    Effect.as(CurrentSession.modify(Session.set(Cart, [])), back("shop"))
  )

  const theme = HttpRouter.add(
    "POST",
    "/theme",
    Effect.gen(function* () {
      const { theme } = yield* form(Schema.Struct({ theme: Schema.Literals(themes) }))
      yield* CurrentSession.modify(Session.set(Theme, theme))
      return back("look")
    })
  )

  const stepUp = HttpRouter.add(
    "POST",
    "/step-up",
    Effect.gen(function* () {
      // A real application asks for a second factor here.
      const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(elevatedFor)
      yield* CurrentSession.rotate({ attributes: [SessionAttribute.value(Elevated, until)] })
      return back("access")
    })
  )

  const transfer = HttpRouter.add(
    "POST",
    "/transfer",
    Effect.as(CurrentSession.flash("good", "Transferred: your access is elevated."), home)
  )

  const email = HttpRouter.add(
    "POST",
    "/email",
    Effect.as(CurrentSession.flash("good", "Changed: you have logged in within the last five minutes."), home)
  )

  const endDevice = HttpRouter.add(
    "POST",
    "/devices/end",
    Effect.gen(function* () {
      const sessions = yield* SessionStore
      const { key } = yield* form(Schema.Struct({ key: SessionKey }))
      const own = yield* available(sessions.listForUser(yield* Authenticated.userId))
      if (own.some((device) => device.key === key)) yield* available(sessions.deleteByKey(key))
      return back("logins")
    })
  )

  const endOthers = HttpRouter.add(
    "POST",
    "/devices/end-others",
    Effect.gen(function* () {
      const ended = yield* CurrentSession.logoutEverywhere({ except: "current" })
      yield* CurrentSession.flash("good", `Ended ${ended} other ${ended === 1 ? "device" : "devices"}.`)
      return home
    })
  )

  const live = HttpRouter.add("GET", "/live", Effect.flatMap(Authenticated, events))

  const nodeLive = HttpRouter.add("GET", "/live/node", nodeEvents)

  const elsewhere = HttpRouter.add(
    "GET",
    "/*",
    page(errorPage(node, "There is no such page", "The address leads nowhere on this node."), 404)
  )

  const listener = HttpRouter.add(
    "POST",
    "/listener",
    Effect.gen(function* () {
      const { network } = yield* form(Schema.Struct({ network: Schema.Literals(["up", "cut", "silent"]) }))
      const { cut, restore, silence } = yield* ListenerSwitch
      yield* network === "up" ? restore : network === "cut" ? cut : silence
      return back("node")
    })
  )

  return Layer.mergeAll(
    Layer.mergeAll(front, login, logout, listener, nodeLive).pipe(Layer.provide(session.layer)),
    Layer.mergeAll(addToCart, addMany, empty, theme, stepUp, endDevice, endOthers, live).pipe(
      Layer.provide(user.layer)
    ),
    transfer.pipe(Layer.provide(requireAttribute(Elevated).combine(session).layer)),
    email.pipe(Layer.provide(requireFresh({ within: "5 minutes" }).combine(session).layer)),
    asset("styles.css", "text/css; charset=utf-8"),
    asset("live.js", "text/javascript; charset=utf-8"),
    HttpRouter.add("GET", "/favicon.ico", HttpServerResponse.empty()),
    elsewhere
  )
}
