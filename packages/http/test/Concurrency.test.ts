/** Requests that run at the same time, overtake one another, or are given up. */
import { Session, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { CurrentSession, type ModifySessionError } from "../src/index.ts"
import type { Browser } from "./support/Server.ts"
import { Cart, loggedIn, shop } from "./support/Shop.ts"
import type { Operation } from "./support/Store.ts"

const alice = UserId.make("alice")
const ok = HttpServerResponse.text("ok")

describe("requests at the same time", () => {
  it.effect(
    "parallel logins of one guest all succeed, one of them takes the cart, and the guest's id is worthless",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const guest = server.browser()
      yield* guest.post("/cart?item=pen")
      const cookie = yield* guest.cookie
      const answers = yield* Effect.all(
        Array.from({ length: 4 }, () =>
          server.request("POST", "/login?user=alice", { headers: { cookie, "sec-fetch-site": "same-origin" } })
        ),
        { concurrency: "unbounded" }
      )
      const carts = yield* Effect.forEach(
        answers,
        Effect.fnUntraced(function* (answer) {
          assert.deepStrictEqual([answer.status, answer.setCookie.length], [200, 1])
          const browser = server.browser()
          yield* browser.become(answer.setCookie[0] ?? "")
          const me = yield* browser.get("/me")
          assert.strictEqual(me.json["user"], "alice")
          return JSON.stringify(me.json["cart"])
        })
      )
      assert.deepStrictEqual(carts.toSorted(), ["[]", "[]", "[]", `["pen"]`].toSorted())
      assert.deepStrictEqual((yield* server.request("GET", "/me", { headers: { cookie } })).json, { session: false })
    }, Effect.scoped)
  )

  // Who loses a race waits for a moment of real time.
  it.live(
    "nothing that two windows put into one cart is lost",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      const items = Array.from({ length: 20 }, (_, index) => `item${index}`)
      yield* Effect.forEach(items, (item) => browser.post(`/cart?item=${item}`), { concurrency: 10 })
      const { cart } = (yield* browser.get("/me")).json
      assert.deepStrictEqual((cart as ReadonlyArray<string>).toSorted(), items.toSorted())
    }, Effect.scoped)
  )

  it.effect(
    "a flash message is given out exactly once",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      yield* browser.post("/flash?text=one")
      yield* browser.post("/flash?text=two")
      const pages = yield* Effect.all(
        Array.from({ length: 6 }, () => browser.get("/flash")),
        { concurrency: "unbounded" }
      )
      const texts = pages.flatMap((page) =>
        (page.json["messages"] as ReadonlyArray<{ readonly text: string }>).map(({ text }) => text)
      )
      assert.deepStrictEqual(texts, ["one", "two"])
    }, Effect.scoped)
  )

  it.effect(
    "flash messages that nobody has read are not in the way of the next one, however large they are",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      for (let sent = 0; sent < 15; sent++) {
        assert.strictEqual((yield* browser.post(`/flash?text=${"x".repeat(1_500)}${sent}`)).status, 200)
      }
      const { messages } = (yield* browser.get("/flash")).json
      const texts = (messages as ReadonlyArray<{ readonly text: string }>).map(({ text }) => text.replaceAll("x", ""))
      assert.deepStrictEqual(texts, ["10", "11", "12", "13", "14"])
      assert.strictEqual((yield* browser.post("/flash?text=fits")).status, 200)
    }, Effect.scoped)
  )

  it.effect(
    "one request begins one guest's session at most",
    Effect.fnUntraced(function* () {
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/greet",
            Effect.as(
              Effect.all(
                [CurrentSession.flash("info", "a"), CurrentSession.flash("info", "b"), CurrentSession.csrfToken],
                {
                  concurrency: "unbounded"
                }
              ),
              ok
            )
          ).pipe(Layer.provide(session.layer))
      })
      const browser = server.browser()
      yield* browser.post("/greet")
      assert.deepStrictEqual(
        server.watched.calls.filter((call) => call === "createAnonymous"),
        ["createAnonymous"]
      )
      const { messages } = (yield* browser.get("/flash")).json
      assert.strictEqual((messages as ReadonlyArray<unknown>).length, 2)
    }, Effect.scoped)
  )
})

describe("what one handler does at the same time", () => {
  const atOnce = Effect.fnUntraced(function* (beside: Effect.Effect<unknown, ModifySessionError, CurrentSession>) {
    const server = yield* shop({
      more: (session) =>
        HttpRouter.add(
          "POST",
          "/both",
          Effect.as(Effect.all([beside, CurrentSession.login(alice)], { concurrency: "unbounded" }), ok)
        ).pipe(Layer.provide(session.layer))
    })
    const run = Effect.fnUntraced(function* (browser: Browser, when: "before" | "after", operation: Operation) {
      const pause = yield* server.watched.pause(when, operation)
      const both = yield* Effect.forkChild(browser.post("/both"))
      yield* pause.arrived
      // What does not wait has time to overtake.
      yield* Effect.repeat(Effect.yieldNow, { times: 50 })
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(both)).status, 200)
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice" })
    })
    return { run, server }
  })

  it.effect(
    "a guest's session that begins beside a login does not replace it",
    Effect.fnUntraced(function* () {
      const { run, server } = yield* atOnce(CurrentSession.flash("info", "hello"))
      yield* run(server.browser(), "after", "createAnonymous")
      yield* run(server.browser(), "before", "createAnonymous")
    }, Effect.scoped)
  )

  it.effect(
    "a change of the guest's session that a login overtakes is made in the user's, and does not lose the cookie",
    Effect.fnUntraced(function* () {
      const { run, server } = yield* atOnce(CurrentSession.modify(Session.set(Cart, ["beside"])))
      const browser = server.browser()
      yield* browser.post("/cart?item=pen")
      yield* run(browser, "before", "modify")
      assert.deepInclude((yield* browser.get("/me")).json, { cart: ["beside"] })
    }, Effect.scoped)
  )

  it.effect(
    "an authoritative read that a login overtakes does not bring the guest back",
    Effect.fnUntraced(function* () {
      const { run, server } = yield* atOnce(Effect.ignore(CurrentSession.authoritative))
      const browser = server.browser()
      yield* browser.post("/cart?item=pen")
      yield* run(browser, "before", "find")
    }, Effect.scoped)
  )
})

describe("requests that overtake one another", () => {
  /** A route that writes, and answers when it is told to. */
  const slow = (arrived: Latch.Latch, resume: Latch.Latch) =>
    HttpRouter.add(
      "POST",
      "/slow",
      Effect.gen(function* () {
        yield* CurrentSession.modify(Session.set(Cart, ["slow"]))
        yield* arrived.open
        yield* resume.await
        return ok
      })
    )

  const overtaken = Effect.fnUntraced(function* (path: string, guest: boolean) {
    const arrived = Latch.makeUnsafe()
    const resume = Latch.makeUnsafe()
    const server = yield* shop({
      cookie: { readYourWrites: true },
      more: (session) => slow(arrived, resume).pipe(Layer.provide(session.layer))
    })
    const browser = server.browser()
    yield* browser.post(guest ? "/cart?item=pen" : "/login")
    const headers = { cookie: yield* browser.cookie }
    const late = yield* Effect.forkChild(server.request("POST", "/slow", { headers }))
    yield* arrived.await
    yield* browser.post(path)
    const after = yield* browser.cookie
    yield* resume.open
    const answer = yield* Fiber.join(late)
    assert.strictEqual(answer.status, 200)
    return { answer, after, browser, server }
  })

  it.effect(
    "a write that a login overtakes does not bring the guest's cookie back",
    Effect.fnUntraced(function* () {
      const { answer, browser } = yield* overtaken("/login", true)
      assert.deepStrictEqual(answer.setCookie, [])
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice", cart: ["slow"] })
    }, Effect.scoped)
  )

  it.effect(
    "a write that a rotation overtakes does not bring the old id back, not even within its grace",
    Effect.fnUntraced(function* () {
      const { answer } = yield* overtaken("/rotate", false)
      assert.deepStrictEqual(answer.setCookie, [])
    }, Effect.scoped)
  )

  it.effect(
    "a write that a logout overtakes does not bring the cookie back",
    Effect.fnUntraced(function* () {
      const { after, answer } = yield* overtaken("/logout", false)
      assert.strictEqual(after, "")
      assert.deepStrictEqual(answer.setCookie, [])
    }, Effect.scoped)
  )

  it.effect(
    "of two rotations only the id that is current in the end is sent",
    Effect.fnUntraced(function* () {
      const arrived = Latch.makeUnsafe()
      const resume = Latch.makeUnsafe()
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/slow-rotate",
            Effect.andThen(CurrentSession.rotate(), Effect.as(Effect.andThen(arrived.open, resume.await), ok))
          ).pipe(Layer.provide(session.layer))
      })
      const browser = yield* loggedIn(server)
      const headers = { cookie: yield* browser.cookie }
      const first = yield* Effect.forkChild(server.request("POST", "/slow-rotate", { headers }))
      yield* arrived.await
      const second = yield* browser.post("/rotate")
      yield* resume.open
      const overtaken = yield* Fiber.join(first)
      assert.deepStrictEqual([second.setCookie.length, overtaken.setCookie], [1, []])
      yield* TestClock.adjust("11 seconds")
      assert.deepInclude((yield* browser.get("/me")).json, { user: "alice" })
    }, Effect.scoped)
  )

  it.effect(
    "a session that is ended between login and response still leaves a response",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const pause = yield* server.watched.pause("after", "create")
      const login = yield* Effect.forkChild(server.request("POST", "/login"))
      yield* pause.arrived
      yield* server.sessions.deleteAll
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(login)).status, 200)
    }, Effect.scoped)
  )
})

it.effect.each(["before", "after"] as const)(
  "a change that is stopped %s it is written, and ends after a rotation of the same request, does not bring the old id back",
  Effect.fnUntraced(function* (when) {
    const go = Latch.makeUnsafe()
    const rotated = Latch.makeUnsafe()
    const server = yield* shop({
      cookie: { readYourWrites: true },
      more: (session) =>
        HttpRouter.add(
          "POST",
          "/both",
          Effect.gen(function* () {
            const change = yield* Effect.forkChild(CurrentSession.modify(Session.set(Cart, ["pen"])))
            yield* go.await
            const { id } = yield* CurrentSession.rotate()
            yield* rotated.open
            yield* Fiber.join(change)
            const { id: after } = yield* CurrentSession.require
            return HttpServerResponse.text(String(Redacted.value(id) === Redacted.value(after)))
          })
        ).pipe(Layer.provide(session.layer))
    })
    const browser = yield* loggedIn(server)
    const pause = yield* server.watched.pause(when, "modify")
    const both = yield* Effect.forkChild(browser.post("/both"))
    yield* pause.arrived
    yield* Effect.andThen(go.open, rotated.await)
    yield* pause.resume
    const answer = yield* Fiber.join(both)
    assert.deepStrictEqual([answer.status, answer.body, answer.setCookie.length], [200, "true", 1])
    yield* TestClock.adjust("11 seconds")
    assert.deepInclude((yield* browser.get("/me")).json, { user: "alice", cart: ["pen"] })
  }, Effect.scoped)
)

describe("requests that are given up", () => {
  it.effect(
    "a login whose caller hangs up is done or not done, and the next one works",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      for (const when of ["before", "after"] as const) {
        const guest = server.browser()
        yield* guest.post("/cart?item=pen")
        const headers = { cookie: yield* guest.cookie }
        const pause = yield* server.watched.pause(when, "rotate")
        const login = yield* Effect.forkChild(server.open("POST", "/login", { headers }))
        yield* pause.arrived
        yield* Fiber.interrupt(login)
        yield* pause.resume
        yield* guest.post("/login?user=alice")
        assert.deepInclude((yield* guest.get("/me")).json, { user: "alice" })
      }
    }, Effect.scoped)
  )

  it.effect(
    "a login that the handler gives up on is finished, and its cookie sent: the old id is worthless by then",
    Effect.fnUntraced(function* () {
      const giveUp = Latch.makeUnsafe()
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/impatient",
            Effect.as(Effect.race(CurrentSession.login(alice), giveUp.await), ok)
          ).pipe(Layer.provide(session.layer))
      })
      const guest = server.browser()
      yield* guest.post("/cart?item=pen")
      const pause = yield* server.watched.pause("after", "rotate")
      const answer = yield* Effect.forkChild(guest.post("/impatient"))
      yield* pause.arrived
      yield* giveUp.open
      yield* Effect.yieldNow
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(answer)).setCookie.length, 1)
      assert.deepInclude((yield* guest.get("/me")).json, { user: "alice", cart: ["pen"] })
    }, Effect.scoped)
  )

  it.effect(
    "a change in the middle of which the caller hangs up leaves nothing half done",
    Effect.fnUntraced(function* () {
      const server = yield* shop()
      const browser = yield* loggedIn(server)
      const pause = yield* server.watched.pause("before", "modify")
      const change = yield* Effect.forkChild(
        server.open("POST", "/cart?item=lost", { headers: { cookie: yield* browser.cookie } })
      )
      yield* pause.arrived
      yield* Fiber.interrupt(change)
      yield* pause.resume
      yield* browser.post("/cart?item=kept")
      assert.include(['["kept"]', '["lost","kept"]'], JSON.stringify((yield* browser.get("/me")).json["cart"]))
    }, Effect.scoped)
  )

  it.effect(
    "a login in a fiber that outlives the response dies instead of being silently lost",
    Effect.fnUntraced(function* () {
      const go = Latch.makeUnsafe()
      const exits: Array<Exit.Exit<unknown, unknown>> = []
      const done = Latch.makeUnsafe()
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/later",
            Effect.gen(function* () {
              const later = Effect.andThen(go.await, CurrentSession.login(alice))
              yield* Effect.forkDetach(
                Effect.flatMap(Effect.exit(later), (exit) => {
                  exits.push(exit)
                  return done.open
                })
              )
              return ok
            })
          ).pipe(Layer.provide(session.layer))
      })
      yield* server.request("POST", "/later")
      yield* Effect.andThen(go.open, done.await)
      const [exit] = exits
      assert.isTrue(exit !== undefined && Exit.hasDies(exit))
      assert.notInclude(server.watched.calls, "create")
    }, Effect.scoped)
  )

  it.effect(
    "a login that is overtaken by the response dies, too",
    Effect.fnUntraced(function* () {
      const exits: Array<Exit.Exit<unknown, unknown>> = []
      const done = Latch.makeUnsafe()
      const server = yield* shop({
        more: (session) =>
          HttpRouter.add(
            "POST",
            "/race",
            Effect.as(
              Effect.forkDetach(
                Effect.flatMap(Effect.exit(CurrentSession.login(alice)), (exit) => {
                  exits.push(exit)
                  return done.open
                }),
                { startImmediately: true }
              ),
              ok
            )
          ).pipe(Layer.provide(session.layer))
      })
      const pause = yield* server.watched.pause("before", "create")
      const answer = yield* server.request("POST", "/race")
      assert.deepStrictEqual(answer.setCookie, [])
      yield* Effect.andThen(pause.resume, done.await)
      assert.isTrue(exits[0] !== undefined && Exit.hasDies(exits[0]))
    }, Effect.scoped)
  )
})
