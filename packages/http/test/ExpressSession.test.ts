/**
 * What people who use express-session rely on, whatever the store: the behaviours of its own test suite that a store
 * has a part in, on this one.
 */
import { type Sessions, SessionStore, SessionStoreUnavailable, UserId } from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Express, NextFunction, Request, Response } from "express"
import session from "express-session"
import { toExpressStore } from "../src/index.ts"
import { assertMaxAge, browser, clocked, managed, memory, serve, test } from "./support/Express.ts"

const done = (response: Response, next: NextFunction) => (error?: unknown) =>
  error === undefined || error === null ? void response.json({}) : next(error)

/** Until the answer has arrived as a whole: its head leaves before the session is saved. */
const ask = (url: string, headers: Readonly<Record<string, string>>) =>
  fetch(url, { headers }).then((response) => response.text())

const nameOf = (setCookie: ReadonlyArray<string>) => setCookie[0]?.split("=")[0]

/** The store, some of its operations failing. */
const failing = (...operations: ReadonlyArray<"find" | "update" | "createAnonymous" | "delete">) =>
  Effect.gen(function* () {
    const broken = { isBroken: false }
    const failure = Effect.fail(
      new SessionStoreUnavailable({
        operation: "do anything",
        reason: "Unreachable",
        outcome: "NotApplied",
        detail: "as a test has it"
      })
    )
    const wrapped = Effect.map(SessionStore, (sessions) => {
      const instead = operations.map((operation) => {
        const works = sessions[operation] as (...parameters: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
        const fails = (...parameters: ReadonlyArray<unknown>) => (broken.isBroken ? failure : works(...parameters))
        return [operation, fails] as const
      })
      return Object.assign({}, sessions, Object.fromEntries(instead)) satisfies Sessions
    })
    const runtime = yield* managed(
      Layer.effect(SessionStore, wrapped).pipe(Layer.provide(Layer.fresh(SessionStore.layerMemory())))
    )
    return { runtime, broken }
  })

/** How often the session of the store's only user was written. */
const versions = (sessions: Sessions) =>
  Effect.map(sessions.listForUser(UserId.make("alice")), (all) => all.map(({ version }) => version))

describe("the cookie is sent", () => {
  test(
    "for a new session, and not again while it lasts as long as the browser",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory)
      const { get } = browser()
      const first = yield* get(`${url}/count`)
      assert.lengthOf(first.setCookie, 1)
      assert.notMatch(first.setCookie[0] ?? "", /Expires|Max-Age/i)
      assert.match(first.setCookie[0] ?? "", /Path=\/; HttpOnly/)
      for (const path of ["count", "look", "nothing"])
        assert.lengthOf((yield* get(`${url}/${path}`)).setCookie, 0, path)
    })
  )

  test(
    "again where it has an end and the session was changed",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, { session: { cookie: { maxAge: 60_000 } } })
      const { get } = browser()
      assert.match((yield* get(`${url}/count`)).setCookie[0] ?? "", /Expires=/)
      assert.lengthOf((yield* get(`${url}/look`)).setCookie, 0)
      assert.match((yield* get(`${url}/count`)).setCookie[0] ?? "", /Expires=/)
    })
  )

  test(
    "with every response where it is rolling, except to visitors without a session",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, { session: { rolling: true } })
      const { get } = browser()
      assert.lengthOf((yield* get(`${url}/nothing`)).setCookie, 0)
      yield* get(`${url}/count`)
      for (const path of ["look", "nothing"]) assert.lengthOf((yield* get(`${url}/${path}`)).setCookie, 1, path)
      const eager = yield* serve(yield* memory, { session: { rolling: true, saveUninitialized: true } })
      assert.lengthOf((yield* browser().get(`${eager.url}/nothing`)).setCookie, 1)
    })
  )

  test(
    "in clear only where it may be: behind a proxy that is trusted, or as the connection is",
    Effect.gen(function* () {
      const forwarded = (protocol: string) => browser(undefined, { "x-forwarded-proto": protocol })
      const secure = yield* serve(yield* memory, { session: { proxy: true, cookie: { secure: true } } })
      assert.match((yield* forwarded("https").get(`${secure.url}/count`)).setCookie[0] ?? "", /; Secure/)
      assert.lengthOf((yield* forwarded("http").get(`${secure.url}/count`)).setCookie, 0)
      assert.lengthOf((yield* browser().get(`${secure.url}/count`)).setCookie, 0)
      const untrusting = yield* serve(yield* memory, { session: { proxy: false, cookie: { secure: true } } })
      assert.lengthOf((yield* forwarded("https").get(`${untrusting.url}/count`)).setCookie, 0)
      const cookie: session.CookieOptions = { secure: "auto" }
      // The published types do not know this one.
      Reflect.set(cookie, "sameSite", "auto")
      const auto = yield* serve(yield* memory, { session: { proxy: true, cookie } })
      const encrypted = forwarded("https")
      assert.match((yield* encrypted.get(`${auto.url}/count`)).setCookie[0] ?? "", /; Secure; SameSite=None/)
      assert.strictEqual((yield* encrypted.get(`${auto.url}/count`)).body["count"], 2)
      const plain = yield* browser().get(`${auto.url}/count`)
      assert.notMatch(plain.setCookie[0] ?? "", /Secure/)
      assert.match(plain.setCookie[0] ?? "", /SameSite=Lax/)
    })
  )

  test(
    "with the attributes, the name and for the path that are configured, which the store keeps",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        session: {
          name: "shop",
          cookie: {
            path: "/cart",
            httpOnly: false,
            sameSite: "strict",
            priority: "high",
            partitioned: true,
            maxAge: 60_000
          }
        },
        routes: (app) => {
          app.get("/cart/count", (request, response) => {
            request.session.count = (request.session.count ?? 0) + 1
            response.json(request.session)
          })
          app.get("/elsewhere", (request, response) => void response.json({ session: typeof request.session }))
        }
      })
      const { get } = browser()
      const expected = ["Path=/cart", "Priority=High", "Partitioned", "SameSite=Strict"]
      for (const count of [1, 2]) {
        const { body, setCookie } = yield* get(`${url}/cart/count`)
        assert.strictEqual(body["count"], count)
        assert.strictEqual(nameOf(setCookie), "shop")
        for (const part of expected) assert.include(setCookie[0], part)
        assert.notInclude(setCookie[0], "HttpOnly")
        assert.deepInclude(body["cookie"], { path: "/cart", httpOnly: false, sameSite: "strict", partitioned: true })
      }
      assert.strictEqual((yield* get(`${url}/elsewhere`)).body["session"], "undefined")
    })
  )

  test(
    "as a function makes it for the request",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        session: { cookie: (request: Request) => ({ path: "/", maxAge: request.url === "/count" ? 60_000 : 5_000 }) }
      })
      const { get } = browser()
      assert.lengthOf((yield* get(`${url}/set/color/red`)).setCookie, 1)
      assertMaxAge((yield* get(`${url}/look`)).body["cookie"], 5_000)
    })
  )
})

describe("an id", () => {
  test(
    "that is nobody's, has expired or is not signed is replaced; one that an older secret signed is not",
    Effect.gen(function* () {
      const { pass, runtime } = yield* clocked
      const settings = { cookie: { maxAge: 60_000 } }
      const before = yield* serve(runtime, { session: { ...settings, secret: ["an old secret"] } })
      const after = yield* serve(runtime, { session: { ...settings, secret: ["a new secret", "an old secret"] } })
      const { cookie, get } = browser()
      const { body } = yield* get(`${before.url}/count`)
      const signed = cookie()
      assert.deepInclude((yield* get(`${after.url}/count`)).body, { count: 2, id: body["id"] })
      const stranger = yield* browser(signed).get(
        `${(yield* serve(yield* memory, { session: { secret: "an old secret" } })).url}/count`
      )
      assert.strictEqual(stranger.body["count"], 1)
      assert.notStrictEqual(stranger.body["id"], body["id"])
      const unsigned = yield* browser(`connect.sid=${String(body["id"])}`).get(`${before.url}/count`)
      assert.strictEqual(unsigned.body["count"], 1)
      assert.notStrictEqual(unsigned.body["id"], body["id"])
      yield* pass(61_000)
      const expired = yield* browser(signed).get(`${before.url}/count`)
      assert.strictEqual(expired.body["count"], 1)
      assert.notStrictEqual(expired.body["id"], body["id"])
    })
  )

  test(
    "may be any text, short or long",
    Effect.gen(function* () {
      let last = 0
      for (const text of ["%/ ;=", "é🐘", "x".repeat(1_000), "0"]) {
        const { url } = yield* serve(yield* memory, { session: { genid: () => `${text}${last++}` } })
        const { get } = browser()
        for (const count of [1, 2, 3]) assert.strictEqual((yield* get(`${url}/count`)).body["count"], count, text)
      }
    })
  )
})

describe("a save", () => {
  test(
    "has happened when the response has arrived, however that is written",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app: Express) => {
          const visit = (path: string, answer: (response: Response) => void) =>
            app.get(path, (request, response) => {
              request.session.count = (request.session.count ?? 0) + 1
              answer(response)
            })
          visit("/empty", (response) => response.end())
          visit("/null", (response) => response.status(204).end(null))
          visit("/parts", (response) => {
            response.write("{")
            response.end("}")
          })
          visit("/length", (response) => response.setHeader("content-length", "2").end("{}"))
          visit("/twice", (response) => {
            response.end("{}")
            response.end("again")
          })
        }
      })
      const { get } = browser()
      for (const [index, path] of ["empty", "null", "parts", "length", "twice"].entries()) {
        yield* get(`${url}/${path}`)
        assert.strictEqual((yield* get(`${url}/look`)).body["count"], index + 1, path)
      }
    })
  )

  test(
    "by hand is the only one of its request; one that changes nothing writes nothing; changes after it are saved",
    Effect.gen(function* () {
      const runtime = yield* memory
      const sessions = yield* Effect.promise(() => runtime.runPromise(SessionStore))
      const { url } = yield* serve(runtime, {
        store: { userId: () => "alice" },
        routes: (app) => {
          app.get("/save", (request, response, next) => {
            request.session.count = (request.session.count ?? 0) + 1
            request.session.save(done(response, next))
          })
          app.get("/save-more", (request, response, next) => {
            request.session.count = 100
            request.session.save((error: unknown) => {
              request.session["more"] = true
              done(response, next)(error)
            })
          })
          app.get("/reload-save", (request, response, next) => {
            request.session.reload((error: unknown) => {
              if (error !== undefined && error !== null) return next(error)
              request.session["reloaded"] = true
              request.session.save(done(response, next))
            })
          })
        }
      })
      const { get } = browser()
      yield* get(`${url}/save`)
      const [first = 0n] = yield* versions(sessions)
      yield* get(`${url}/save`)
      assert.deepEqual(yield* versions(sessions), [first + 1n])
      for (const path of ["look", "nothing", "look"]) yield* get(`${url}/${path}`)
      assert.deepEqual(yield* versions(sessions), [first + 1n])
      yield* get(`${url}/reload-save`)
      assert.deepEqual(yield* versions(sessions), [first + 2n])
      yield* get(`${url}/save-more`)
      assert.deepEqual(yield* versions(sessions), [first + 4n])
      assert.deepInclude((yield* get(`${url}/look`)).body, { count: 100, more: true, reloaded: true })
    })
  )

  test(
    "keeps names that the session's own methods have, and they stay methods",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/import/:id", (request, response, next) => {
            const data = Object.assign({ cookie: request.session.cookie, count: 1 }, { regenerate: "me", save: 1 })
            request.sessionStore.set(request.params.id, data, (error: unknown) => {
              if (error !== undefined && error !== null) return next(error)
              request.sessionStore.load(request.params.id, (error: unknown, loaded) =>
                error === null
                  ? void response.json({
                      regenerate: typeof loaded?.regenerate,
                      save: typeof loaded?.save,
                      count: loaded?.count
                    })
                  : next(error)
              )
            })
          })
      })
      const { body } = yield* browser().get(`${url}/import/mine`)
      assert.deepEqual(body, { regenerate: "function", save: "function", count: 1 })
    })
  )
})

describe("a session", () => {
  test(
    "is loaded again with what others have written; one that has ended cannot be",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) => {
          app.get("/reload", (request, response, next) => {
            const headers = { cookie: request.headers.cookie ?? "" }
            request.session.count = 100
            void ask(`${url}/set/color/blue`, headers).then(() => {
              request.session.reload((error: unknown) =>
                error === undefined || error === null ? void response.json(request.session) : next(error)
              )
            })
          })
          app.get("/too-late", (request, response) => {
            const headers = { cookie: request.headers.cookie ?? "" }
            void ask(`${url}/logout`, headers).then(() => {
              request.session.reload((error: unknown) =>
                response.json({ message: error instanceof Error && error.message })
              )
            })
          })
        }
      })
      const { get } = browser()
      yield* get(`${url}/count`)
      assert.deepInclude((yield* get(`${url}/reload`)).body, { count: 1, color: "blue" })
      assert.deepInclude((yield* get(`${url}/look`)).body, { count: 1, color: "blue" })
      assert.deepEqual((yield* get(`${url}/too-late`)).body, { message: "failed to load session" })
    })
  )

  test(
    "that is set to null is ended where that is configured, and left alone otherwise; a visitor's null is nothing",
    Effect.gen(function* () {
      const routes = (app: Express) =>
        app.get("/null", (request, response) => {
          Reflect.set(request, "session", null)
          response.json({})
        })
      const runtime = yield* memory
      const remaining = Effect.promise(() => runtime.runPromise(Effect.flatMap(SessionStore, (s) => s.deleteAll)))
      const keep = yield* serve(runtime, { routes })
      const one = browser()
      yield* one.get(`${keep.url}/count`)
      yield* one.get(`${keep.url}/null`)
      assert.strictEqual((yield* one.get(`${keep.url}/count`)).body["count"], 2)
      assert.strictEqual(yield* remaining, 1)
      const destroy = yield* serve(runtime, { routes, session: { unset: "destroy" } })
      assert.lengthOf((yield* browser().get(`${destroy.url}/null`)).setCookie, 0)
      const two = browser()
      yield* two.get(`${destroy.url}/count`)
      assert.lengthOf((yield* two.get(`${destroy.url}/null`)).setCookie, 0)
      assert.strictEqual(yield* remaining, 0)
    })
  )

  test(
    "keeps its maxAge from request to request, moves its end when it is touched, and can be one of the browser's",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        session: { cookie: { maxAge: 60_000 } },
        routes: (app) => {
          app.get("/touch", (request, response) => {
            request.session.cookie.maxAge = 1_000
            request.session.resetMaxAge()
            request.session.touch()
            response.json(request.session.cookie)
          })
          app.get("/date", (request, response) => {
            request.session.cookie.expires = new Date(Date.UTC(2099, 0, 1))
            request.session["date"] = true
            response.json({})
          })
          app.get("/browser", (request, response) => {
            request.session.cookie.expires = null
            response.json({})
          })
        }
      })
      const { get } = browser()
      yield* get(`${url}/count`)
      const first = assertMaxAge((yield* get(`${url}/look`)).body["cookie"], 60_000)
      for (const _ of [1, 2, 3]) {
        assert.deepInclude((yield* get(`${url}/look`)).body["cookie"], { originalMaxAge: first })
      }
      assertMaxAge((yield* get(`${url}/touch`)).body, 1_000)
      assertMaxAge((yield* get(`${url}/look`)).body["cookie"], 1_000)
      assert.match((yield* get(`${url}/date`)).setCookie[0] ?? "", /Expires=\w+, (31 Dec 2098|01 Jan 2099)/)
      yield* get(`${url}/browser`)
      const { body, setCookie } = yield* get(`${url}/count`)
      assert.strictEqual(body["count"], 2)
      assert.lengthOf(setCookie, 0)
      assert.deepInclude((yield* get(`${url}/look`)).body["cookie"], { originalMaxAge: null })
    })
  )

  test(
    "belongs to the first of two middlewares",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        routes: (app) => {
          const store = toExpressStore(session.Store, runtime)
          app.use(session({ secret: "another", resave: false, saveUninitialized: true, store, name: "second" }))
          app.get("/after", (_request, response) => void response.json({}))
        }
      })
      assert.lengthOf((yield* browser().get(`${url}/after`)).setCookie, 0)
    })
  )
})

describe("a store that fails", () => {
  const routes = (app: Express) => {
    app.get("/save", (request, response, next) => {
      request.session.count = 1
      request.session.save(done(response, next))
    })
    app.get("/regenerate", (request, response, next) => {
      request.session.regenerate(done(response, next))
    })
  }

  for (const [operation, path, begins] of [
    ["find", "look", true],
    ["update", "save", true],
    ["createAnonymous", "save", false],
    ["delete", "logout", true],
    ["delete", "regenerate", true]
  ] as const) {
    test(
      `is an error of the request: ${operation} at /${path}`,
      Effect.gen(function* () {
        const { broken, runtime } = yield* failing(operation)
        const { url } = yield* serve(runtime, { routes })
        const { get } = browser()
        if (begins) yield* get(`${url}/set/count/0`)
        broken.isBroken = true
        assert.deepInclude(yield* get(`${url}/${path}`), { status: 500, body: { error: "SessionStoreUnavailable" } })
        broken.isBroken = false
        assert.strictEqual((yield* get(`${url}/save`)).status, 200)
      })
    )
  }

  test(
    "goes on with a session, and never announces that it is disconnected; what the application announces counts",
    Effect.gen(function* () {
      const { broken, runtime } = yield* failing("find")
      const store = toExpressStore(session.Store, runtime)
      const heard: Array<string> = []
      store.on("disconnect", () => heard.push("disconnect"))
      const { url } = yield* serve(runtime, {
        session: { store },
        routes: (app) => app.get("/kind", (request, response) => void response.json({ kind: typeof request.session }))
      })
      const { get } = browser()
      yield* get(`${url}/count`)
      broken.isBroken = true
      assert.strictEqual((yield* get(`${url}/kind`)).status, 500)
      assert.deepEqual(heard, [])
      broken.isBroken = false
      store.emit("disconnect")
      assert.strictEqual((yield* get(`${url}/kind`)).body["kind"], "undefined")
      store.emit("connect")
      assert.strictEqual((yield* get(`${url}/kind`)).body["kind"], "object")
    })
  )
})
