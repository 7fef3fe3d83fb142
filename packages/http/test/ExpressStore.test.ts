/**
 * Real Express applications with real express-session on the store, and small
 * browsers that keep the cookie. Some on PostgreSQL, with two nodes.
 */
import { type Sessions, SessionStore, SessionStoreUnavailable, UserId } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Request, Response } from "express"
import type session from "express-session"
import { ExpressSessionConflict } from "../src/index.ts"
import {
  type AppOptions,
  assertMaxAge,
  browser,
  clocked,
  gate,
  managed,
  memory,
  nodes,
  serve,
  test
} from "./support/Express.ts"

describe("an application on the store", () => {
  test(
    "keeps what it is told, and what JSON keeps of it",
    Effect.gen(function* () {
      const value = { text: "ünï 🐘 \u0000", list: [1, { deep: null }], when: new Date(0), not: undefined, zero: -0 }
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/values", (request, response) => {
            request.session["value"] = value
            request.session["nothing"] = undefined
            response.json({})
          })
      })
      const { get } = browser()
      yield* get(`${url}/values`)
      const { body } = yield* get(`${url}/look`)
      assert.deepEqual(body["value"], JSON.parse(JSON.stringify(value)))
      assert.notProperty(body, "nothing")
    })
  )

  test(
    "counts, per browser, and removes what was deleted",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory)
      const [one, two] = [browser(), browser()]
      for (const count of [1, 2, 3]) assert.strictEqual((yield* one.get(`${url}/count`)).body["count"], count)
      assert.strictEqual((yield* two.get(`${url}/count`)).body["count"], 1)
      yield* one.get(`${url}/set/color/red`)
      assert.strictEqual((yield* one.get(`${url}/look`)).body["color"], "red")
      yield* one.get(`${url}/unset/color`)
      assert.notProperty((yield* one.get(`${url}/look`)).body, "color")
    })
  )

  test(
    "stores nothing for visitors who do nothing, unless it is told to; hostile ids are nobody's",
    Effect.gen(function* () {
      const runtime = yield* memory
      const sessions = yield* Effect.promise(() => runtime.runPromise(SessionStore))
      const quiet = yield* serve(runtime)
      assert.lengthOf((yield* browser().get(`${quiet.url}/nothing`)).setCookie, 0)
      const eager = yield* serve(runtime, { session: { saveUninitialized: true, resave: true } })
      assert.lengthOf((yield* browser().get(`${eager.url}/nothing`)).setCookie, 1)
      assert.strictEqual((yield* sessions.health).cache.size, 1)
      for (const cookie of ["connect.sid=s%3A", "connect.sid=s%3Aabc.def", `connect.sid=${"x".repeat(3_000)}`]) {
        assert.strictEqual((yield* browser(cookie).get(`${quiet.url}/look`)).status, 200)
      }
      assert.strictEqual((yield* sessions.health).cache.size, 1)
    })
  )

  test(
    "requests that run at once do not undo each other's changes",
    Effect.gen(function* () {
      const { open, opened } = gate()
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/slow/:name", (request, response) => {
            void opened.then(() => {
              request.session[request.params.name] = "kept"
              response.json({})
            })
          })
      })
      const { cookie, get } = browser()
      yield* get(`${url}/count`)
      const all = Effect.all(
        ["a", "b", "c"].map((name) => browser(cookie()).get(`${url}/slow/${name}`)),
        { concurrency: "unbounded" }
      )
      yield* Effect.all([all, Effect.andThen(get(`${url}/set/d/kept`), Effect.sync(open))], { concurrency: 2 })
      const { body } = yield* get(`${url}/look`)
      assert.deepInclude(body, { count: 1, a: "kept", b: "kept", c: "kept", d: "kept" })
    })
  )

  test(
    "a logout is not undone by a request that was still running",
    Effect.gen(function* () {
      const { open, opened } = gate()
      const begun = gate()
      const { url } = yield* serve(yield* memory, {
        session: { resave: true },
        routes: (app) =>
          app.get("/slow", (request, response) => {
            begun.open()
            void opened.then(() => {
              request.session.count = 100
              response.json({})
            })
          })
      })
      const { cookie, get } = browser()
      yield* get(`${url}/count`)
      const stolen = cookie()
      const [slow] = yield* Effect.all(
        [
          browser(stolen).get(`${url}/slow`),
          Effect.andThen(
            Effect.promise(() => begun.opened),
            Effect.andThen(get(`${url}/logout`), Effect.sync(open))
          )
        ],
        { concurrency: 2 }
      )
      assert.strictEqual(slow.status, 200)
      const { body } = yield* browser(stolen).get(`${url}/look`)
      assert.notProperty(body, "count")
    })
  )

  test(
    "a login by regenerate has a new id, the old one is nobody's, and the user's sessions can be ended together",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        store: { userId: ({ user }) => (typeof user === "string" ? user : undefined) }
      })
      const { cookie, get } = browser()
      const before = yield* get(`${url}/count`)
      const old = cookie()
      const after = yield* get(`${url}/login/alice`)
      assert.notStrictEqual(after.body["id"], before.body["id"])
      assert.notProperty((yield* browser(old).get(`${url}/look`)).body, "count")
      assert.strictEqual((yield* get(`${url}/look`)).body["user"], "alice")
      const ended = yield* Effect.promise(() =>
        runtime.runPromise(Effect.flatMap(SessionStore, (sessions) => sessions.deleteAllForUser(UserId.make("alice"))))
      )
      assert.strictEqual(ended, 1)
      assert.notProperty((yield* get(`${url}/look`)).body, "user")
    })
  )

  test(
    "saving by hand, again and again, at once, and after a destroy",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) => {
          app.get("/twice", (request, response, next) => {
            request.session["first"] = true
            const saves = [1, 2].map(
              () =>
                new Promise<void>((resolve, reject) =>
                  request.session.save((error) => (error ? reject(error) : resolve()))
                )
            )
            Promise.all(saves).then(() => {
              request.session["second"] = true
              response.json({ id: request.sessionID })
            }, next)
          })
          app.get("/after", (request, response, next) => {
            const { session, sessionID, sessionStore } = request
            session.destroy((error) => {
              if (error) return next(error)
              // As code does that holds on to what it had.
              sessionStore.set(sessionID, Object.assign({ cookie: session.cookie, count: 1 }, session), (failure) =>
                failure ? next(failure) : void response.json({})
              )
            })
          })
        }
      })
      const { cookie, get } = browser()
      assert.strictEqual((yield* get(`${url}/twice`)).status, 200)
      assert.deepInclude((yield* get(`${url}/look`)).body, { first: true, second: true })
      const old = cookie()
      assert.strictEqual((yield* get(`${url}/after`)).status, 200)
      assert.notProperty((yield* browser(old).get(`${url}/look`)).body, "first")
    })
  )

  test(
    "what a request saves without awaiting it, it saves in order, and a destroy wins",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        routes: (app) => {
          app.get("/back", (request, response) => {
            request.session["state"] = "working"
            request.session.save()
            request.session["state"] = "idle"
            response.json({})
          })
          app.get("/end", (request, response, next) => {
            request.session["state"] = "working"
            request.session.save()
            request.session.destroy((error) => (error ? next(error) : void response.json({})))
          })
        }
      })
      const { get } = browser()
      yield* get(`${url}/set/state/idle`)
      yield* get(`${url}/back`)
      assert.strictEqual((yield* get(`${url}/look`)).body["state"], "idle")
      yield* browser().get(`${url}/end`)
      const remaining = Effect.flatMap(SessionStore, (sessions) => sessions.deleteAll)
      assert.strictEqual(yield* Effect.promise(() => runtime.runPromise(remaining)), 1)
    })
  )

  test(
    "a destroy that overtakes the first save wins",
    Effect.gen(function* () {
      const { open, opened } = gate()
      const begun = gate()
      const ended = gate()
      const slow = Effect.map(SessionStore, (sessions) => ({
        ...sessions,
        createAnonymous: (options: Parameters<Sessions["createAnonymous"]>[0]) =>
          Effect.andThen(
            Effect.promise(() => {
              begun.open()
              return opened
            }),
            sessions.createAnonymous(options)
          )
      }))
      const runtime = yield* managed(
        Layer.effect(SessionStore, slow).pipe(Layer.provide(Layer.fresh(SessionStore.layerMemory())))
      )
      const { url } = yield* serve(runtime, {
        routes: (app) =>
          app.get("/end", (request, response, next) => {
            request.session.count = 1
            request.session.save((error) => (error ? next(error) : void response.json({})))
            void begun.opened.then(() => {
              request.session.destroy((error) => (error ? next(error) : ended.open()))
              open()
            })
          })
      })
      assert.strictEqual((yield* browser().get(`${url}/end`)).status, 200)
      yield* Effect.promise(() => ended.opened)
      const remaining = Effect.flatMap(SessionStore, (sessions) => sessions.deleteAll)
      assert.strictEqual(yield* Effect.promise(() => runtime.runPromise(remaining)), 0)
    })
  )

  test(
    "a reload does not undo what the request has saved without awaiting it",
    Effect.gen(function* () {
      const { open, opened } = gate()
      const slow = Effect.map(SessionStore, (sessions) => ({
        ...sessions,
        update: ((...parameters: Parameters<Sessions["update"]>) =>
          Effect.andThen(
            Effect.promise(() => opened),
            sessions.update(...parameters)
          )) as Sessions["update"]
      }))
      const runtime = yield* managed(
        Layer.effect(SessionStore, slow).pipe(Layer.provide(Layer.fresh(SessionStore.layerMemory())))
      )
      const { url } = yield* serve(runtime, {
        routes: (app) =>
          app.get("/reload", (request, response, next) => {
            request.session["color"] = "red"
            const saved = new Promise((resolve) => request.session.save(resolve))
            request.session.reload((error) => {
              open()
              void saved.then(() => (error ? next(error) : void response.json({})))
            })
          })
      })
      const { get } = browser()
      yield* get(`${url}/count`)
      yield* get(`${url}/reload`)
      assert.deepInclude((yield* get(`${url}/look`)).body, { count: 1, color: "red" })
    })
  )

  test(
    "a login that the limit of sessions refuses is stored nowhere",
    Effect.gen(function* () {
      const layer = SessionStore.layerMemory({ maxSessionsPerUser: 1, onSessionLimit: "reject" })
      const runtime = yield* managed(layer)
      const { url } = yield* serve(runtime, {
        store: { userId: ({ user }) => (typeof user === "string" ? user : undefined) },
        routes: (app) =>
          app.get("/login-here/:user", (request, response, next) => {
            request.session["user"] = request.params.user
            request.session.save((error) => (error ? next(error) : void response.json({})))
          })
      })
      const [first, second, third] = [browser(), browser(), browser()]
      assert.strictEqual((yield* first.get(`${url}/login-here/alice`)).status, 200)
      yield* second.get(`${url}/count`)
      assert.deepInclude(yield* second.get(`${url}/login-here/alice`), {
        status: 500,
        body: { error: "TooManySessions" }
      })
      const { body } = yield* second.get(`${url}/look`)
      assert.strictEqual(body["count"], 1)
      assert.notProperty(body, "user")
      assert.strictEqual((yield* third.get(`${url}/login-here/bob`)).status, 200)
      assert.strictEqual((yield* third.get(`${url}/login-here/alice`)).status, 500)
      assert.strictEqual((yield* third.get(`${url}/look`)).body["user"], "bob")
    })
  )

  test(
    "a login keeps what another request has written meanwhile",
    Effect.gen(function* () {
      const { open, opened } = gate()
      const begun = gate()
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        store: { userId: ({ user }) => (typeof user === "string" ? user : undefined) },
        routes: (app) =>
          app.get("/slow", (request, response) => {
            begun.open()
            void opened.then(() => {
              request.session["user"] = "alice"
              response.json({})
            })
          })
      })
      const { cookie, get } = browser()
      yield* get(`${url}/set/color/red`)
      const other = Effect.gen(function* () {
        yield* Effect.promise(() => begun.opened)
        yield* get(`${url}/set/color/blue`)
        open()
      })
      yield* Effect.all([browser(cookie()).get(`${url}/slow`), other], { concurrency: 2 })
      assert.deepInclude((yield* get(`${url}/look`)).body, { color: "blue", user: "alice" })
    })
  )

  test(
    "after a first save of which nobody knows the outcome, the next one finds the session or fails, too",
    Effect.gen(function* () {
      const outcome = { isApplied: false }
      const lost = Effect.map(SessionStore, (sessions) => ({
        ...sessions,
        createAnonymous: (options: Parameters<Sessions["createAnonymous"]>[0]) =>
          Effect.andThen(
            outcome.isApplied ? sessions.createAnonymous(options) : Effect.void,
            Effect.fail(
              new SessionStoreUnavailable({
                operation: "create the session",
                reason: "Unreachable",
                outcome: "Unknown",
                detail: "as a test has it"
              })
            )
          )
      }))
      const runtime = yield* managed(
        Layer.effect(SessionStore, lost).pipe(Layer.provide(Layer.fresh(SessionStore.layerMemory())))
      )
      const { url } = yield* serve(runtime, {
        routes: (app) =>
          app.get("/twice", (request, response) => {
            request.session["tries"] = 1
            request.session.save((first: unknown) => {
              request.session["tries"] = 2
              request.session.save(
                (second: unknown) => void response.json({ first: first ?? null, second: second ?? null })
              )
            })
          })
      })
      const failed = yield* browser().get(`${url}/twice`)
      assert.propertyVal(failed.body["first"], "_tag", "SessionStoreUnavailable")
      assert.propertyVal(failed.body["second"], "_tag", "SessionStoreUnavailable")
      outcome.isApplied = true
      const { get } = browser()
      const found = yield* get(`${url}/twice`)
      assert.propertyVal(found.body["first"], "_tag", "SessionStoreUnavailable")
      assert.isNull(found.body["second"])
      assert.strictEqual((yield* get(`${url}/look`)).body["tries"], 2)
    })
  )

  for (const [name, store] of [
    ["memory", memory],
    ["PostgreSQL", Effect.map(nodes, ([node]) => node)]
  ] as const) {
    test(
      `a maxAge of nothing ends the session, any other is a limit, and none leaves the limit as it is (${name})`,
      Effect.gen(function* () {
        const runtime = yield* store
        const sessions = yield* Effect.promise(() => runtime.runPromise(SessionStore))
        const { url } = yield* serve(runtime, {
          store: { userId: () => "alice" },
          session: { cookie: { maxAge: 60_000 } },
          routes: (app) =>
            app.get("/max-age/:millis", (request, response, next) => {
              const { cookie } = request.session
              if (request.params.millis === "none") cookie.expires = null
              else cookie.maxAge = Number(request.params.millis)
              request.session.count ??= 1
              request.session.save((error) => (error ? next(error) : void response.json({})))
            })
        })
        for (const ending of [0, -1]) {
          const { cookie, get } = browser()
          yield* get(`${url}/count`)
          const old = cookie()
          assert.strictEqual((yield* get(`${url}/max-age/${ending}`)).status, 200)
          assert.notProperty((yield* browser(old).get(`${url}/look`)).body, "count")
          const begun = browser()
          assert.strictEqual((yield* begun.get(`${url}/max-age/${ending}`)).status, 200)
          assert.notProperty((yield* begun.get(`${url}/look`)).body, "count")
        }
        const { get } = browser()
        yield* get(`${url}/count`)
        const idle = Effect.map(sessions.listForUser(UserId.make("alice")), ([device]) =>
          device === undefined ? undefined : Duration.toMillis(device.idleTimeout)
        )
        const first = yield* idle
        assertMaxAge({ originalMaxAge: first }, 60_000)
        yield* get(`${url}/max-age/none`)
        assert.strictEqual(yield* idle, first)
        for (const large of [10 * 365 * 86_400_000, 8_000_000_000_000]) {
          assert.strictEqual((yield* get(`${url}/max-age/${large}`)).status, 200)
          assert.strictEqual((yield* get(`${url}/look`)).body["count"], 1)
        }
      })
    )
  }

  for (const resave of [true, false]) {
    test(
      `maxAge is the idle limit: reading keeps the session, and without it it ends (resave: ${resave})`,
      Effect.gen(function* () {
        const { pass, runtime } = yield* clocked
        const { url } = yield* serve(runtime, { session: { resave, rolling: true, cookie: { maxAge: 60_000 } } })
        const { get } = browser()
        yield* get(`${url}/count`)
        for (const _ of [1, 2]) {
          yield* pass(40_000)
          const { body, setCookie } = yield* get(`${url}/look`)
          assert.strictEqual(body["count"], 1)
          assert.match(setCookie[0] ?? "", /Expires=/)
        }
        yield* pass(61_000)
        assert.strictEqual((yield* get(`${url}/count`)).body["count"], 1)
      })
    )

    test(
      `a request that changes maxAge only moves the limit (resave: ${resave})`,
      Effect.gen(function* () {
        const { pass, runtime } = yield* clocked
        const { url } = yield* serve(runtime, {
          session: { resave, cookie: { maxAge: 60_000 } },
          routes: (app) =>
            app.get("/remember", (request, response) => {
              request.session.cookie.maxAge = 600_000
              response.json({})
            })
        })
        const { get } = browser()
        yield* get(`${url}/count`)
        yield* get(`${url}/remember`)
        yield* pass(300_000)
        const { body } = yield* get(`${url}/look`)
        assert.strictEqual(body["count"], 1)
        assertMaxAge(body["cookie"], 600_000)
      })
    )
  }

  test(
    "a property called __proto__ gives nobody anything",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) => {
          app.get("/pollute", (request, response) => {
            const value = { admin: true }
            Object.defineProperty(request.session, "__proto__", { value, enumerable: true, configurable: true })
            response.json({})
          })
          app.get("/admin", (request, response) => void response.json({ admin: request.session["admin"] ?? null }))
        }
      })
      const { get } = browser()
      yield* get(`${url}/count`)
      yield* get(`${url}/pollute`)
      assert.deepEqual((yield* get(`${url}/admin`)).body, { admin: null })
    })
  )

  test(
    "what other code stores by its bare id, even without a cookie, is there",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/import", (request, response, next) => {
            const data = { count: 41 } as session.SessionData
            request.sessionStore.set("imported", data, (error) => {
              if (error) return next(error)
              request.sessionStore.get("imported", (error, found) =>
                error ? next(error) : void response.json({ found })
              )
            })
          })
      })
      const { body } = yield* browser().get(`${url}/import`)
      assert.deepEqual(body["found"], { count: 41, cookie: {} })
    })
  )

  test(
    "clear ends everybody's",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/clear", (request, response, next) => {
            request.sessionStore.clear?.((error) => (error ? next(error) : void response.json({})))
          })
      })
      const [one, two] = [browser(), browser()]
      yield* one.get(`${url}/count`)
      yield* two.get(`${url}/count`)
      yield* one.get(`${url}/clear`)
      assert.strictEqual((yield* two.get(`${url}/count`)).body["count"], 1)
    })
  )

  test(
    "a user who appears without a new id has logged in all the same; another one finds nothing of the first",
    Effect.gen(function* () {
      const runtime = yield* memory
      const sessions = yield* Effect.promise(() => runtime.runPromise(SessionStore))
      const { url } = yield* serve(runtime, {
        store: { userId: ({ user }) => (typeof user === "string" ? user : undefined) }
      })
      const { get } = browser()
      yield* get(`${url}/set/color/red`)
      yield* get(`${url}/set/user/alice`)
      assert.deepInclude((yield* get(`${url}/look`)).body, { color: "red", user: "alice" })
      const [device] = yield* sessions.listForUser(UserId.make("alice"))
      assert.isDefined(device)
      yield* get(`${url}/set/user/bob`)
      assert.lengthOf(yield* sessions.listForUser(UserId.make("alice")), 0)
      assert.lengthOf(yield* sessions.listForUser(UserId.make("bob")), 1)
      assert.deepInclude((yield* get(`${url}/look`)).body, { color: "red", user: "bob" })
      yield* get(`${url}/unset/user`)
      assert.lengthOf(yield* sessions.listForUser(UserId.make("bob")), 1)
      assert.strictEqual((yield* get(`${url}/set/user/${"x".repeat(2_000)}`)).status, 200)
      assert.strictEqual((yield* get(`${url}/look`)).body["user"], undefined)
    })
  )

  test(
    "a user who is none is an error of the save, and nothing is stored",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        store: { userId: () => "" },
        routes: (app) =>
          app.get("/save", (request, response, next) => {
            request.session.count = 1
            request.session.save((error) => (error ? next(error) : void response.json({})))
          })
      })
      assert.strictEqual((yield* browser().get(`${url}/save`)).status, 500)
      const remaining = Effect.flatMap(SessionStore, (sessions) => sessions.deleteAll)
      assert.strictEqual(yield* Effect.promise(() => runtime.runPromise(remaining)), 0)
    })
  )

  for (const concurrency of ["merge", "refuse"] as const) {
    test(
      `one property that two requests change at once: concurrency "${concurrency}"`,
      Effect.gen(function* () {
        const { open, opened } = gate()
        const begun = gate()
        const { url } = yield* serve(yield* memory, {
          store: { concurrency },
          routes: (app) => {
            const save = (request: Request, response: Response) =>
              request.session.save((error: unknown) =>
                response.json(
                  error instanceof ExpressSessionConflict ? { conflict: error.property } : { error: error ?? null }
                )
              )
            app.get("/slow/:name/:value", (request, response) => {
              begun.open()
              void opened.then(() => {
                request.session[request.params.name] = request.params.value
                save(request, response)
              })
            })
            app.get("/late/:value", (request, response) => {
              request.session["own"] = 1
              request.session.save(() => {
                const headers = { cookie: request.headers.cookie ?? "" }
                const answer = fetch(`${url}/set/color/green`, { headers }).then((response) => response.text())
                void answer.then(() => {
                  request.session["own"] = 2
                  request.session.save(() => {
                    request.session["color"] = request.params.value
                    save(request, response)
                  })
                })
              })
            })
          }
        })
        const { cookie, get } = browser()
        yield* get(`${url}/set/color/red`)
        const slow = Effect.all(
          ["color/blue", "size/large", "color/white"].map((path) => browser(cookie()).get(`${url}/slow/${path}`)),
          { concurrency: "unbounded" }
        )
        const fast = Effect.gen(function* () {
          yield* Effect.promise(() => begun.opened)
          yield* get(`${url}/set/color/white`)
          open()
        })
        const [[blue, size, white]] = yield* Effect.all([slow, fast], { concurrency: 2 })
        assert.deepEqual(size?.body, { error: null })
        const { body } = yield* get(`${url}/look`)
        assert.strictEqual(body["size"], "large")
        if (concurrency === "merge") {
          assert.deepEqual(blue?.body, { error: null })
        } else {
          assert.deepEqual(blue?.body, { conflict: "color" })
          // What says the same is no conflict.
          assert.deepEqual(white?.body, { error: null })
          assert.strictEqual(body["color"], "white")
        }
        // Its own saves in between do not let a request overwrite what it has never seen.
        const late = yield* get(`${url}/late/black`)
        const last = yield* get(`${url}/look`)
        assert.strictEqual(last.body["own"], 2)
        assert.deepEqual(late.body, concurrency === "merge" ? { error: null } : { conflict: "color" })
        assert.strictEqual(last.body["color"], concurrency === "merge" ? "black" : "green")
      })
    )
  }

  test(
    "an id that this node has met is never begun anew, whoever saves it",
    Effect.gen(function* () {
      const { pass, runtime } = yield* clocked
      const { url } = yield* serve(runtime, {
        session: { cookie: { maxAge: 60_000 } },
        routes: (app) =>
          app.get("/revive/:id", (request, response, next) => {
            const { cookie } = request.session
            request.sessionStore.set(request.params.id, { cookie, count: 100 }, (error) => {
              if (error) return next(error)
              request.sessionStore.get(request.params.id, (error, found) =>
                error ? next(error) : void response.json({ found: found ?? null })
              )
            })
          })
      })
      const { body } = yield* browser().get(`${url}/count`)
      yield* pass(61_000)
      const revived = yield* browser().get(`${url}/revive/${String(body["id"])}`)
      assert.deepEqual(revived.body, { found: null })
    })
  )

  test(
    "an id that was destroyed before its first save is not begun by it",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime, {
        routes: (app) =>
          app.get("/late/:id", (request, response, next) => {
            const { params, session, sessionStore } = request
            sessionStore.destroy(params.id, (error) => {
              if (error) return next(error)
              sessionStore.set(params.id, { cookie: session.cookie, count: 1 }, (error) => {
                if (error) return next(error)
                sessionStore.get(params.id, (error, found) =>
                  error ? next(error) : void response.json({ found: found ?? null })
                )
              })
            })
          })
      })
      const late = yield* browser().get(`${url}/late/${"an-id-that-nobody-has-saved-".repeat(2)}`)
      assert.deepEqual(late.body, { found: null })
    })
  )

  test(
    "the absolute limit is 30 days, or maxAge where that is longer, or what is set",
    Effect.gen(function* () {
      const day = 86_400_000
      const limitOf = Effect.fnUntraced(function* (maxAge: number, store: AppOptions["store"], later: number = maxAge) {
        const runtime = yield* memory
        const sessions = yield* Effect.promise(() => runtime.runPromise(SessionStore))
        const { url } = yield* serve(runtime, {
          store: { userId: () => "alice", ...store },
          session: { cookie: { maxAge } },
          routes: (app) =>
            app.get("/later", (request, response) => {
              request.session.cookie.maxAge = later
              response.json({})
            })
        })
        const { get } = browser()
        yield* get(`${url}/count`)
        if (later !== maxAge) yield* get(`${url}/later`)
        const [device] = yield* sessions.listForUser(UserId.make("alice"))
        assert.isDefined(device)
        return Math.round((DateTime.toEpochMillis(device.expiresAt) - DateTime.toEpochMillis(device.createdAt)) / day)
      })
      assert.strictEqual(yield* limitOf(day, {}), 30)
      assert.strictEqual(yield* limitOf(60 * day, {}), 60)
      assert.strictEqual(yield* limitOf(day, {}, 90 * day), 90)
      assert.strictEqual(yield* limitOf(60 * day, { lifetime: "7 days" }, 90 * day), 7)
    })
  )

  test(
    "it has no list of all, and says so",
    Effect.gen(function* () {
      const { url } = yield* serve(yield* memory, {
        routes: (app) =>
          app.get("/all", ({ sessionStore }, response) => {
            sessionStore.all?.((all) => {
              sessionStore.length?.((length) => response.json([all, length].map((error) => (error as Error).message)))
            })
          })
      })
      const { body } = yield* browser().get(`${url}/all`)
      assert.lengthOf(Object.values(body), 2)
      for (const message of Object.values(body)) assert.include(String(message), "listForUser")
    })
  )

  test(
    "a database that cannot be reached is an error of the request, in time",
    Effect.gen(function* () {
      const runtime = yield* managed(PgSession.layer({ url: Redacted.make("postgres://nobody@127.0.0.1:1/nothing") }))
      const { url } = yield* serve(runtime)
      const working = yield* serve(yield* memory)
      const { cookie, get } = browser()
      yield* get(`${working.url}/count`)
      assert.strictEqual((yield* browser(cookie()).get(`${url}/look`)).status, 500)
      const byHand = yield* serve(runtime, {
        routes: (app) =>
          app.get("/save", (request, response, next) => {
            request.session.count = 1
            request.session.save((error) => (error ? next(error) : void response.json({})))
          })
      })
      const answered = yield* browser().get(`${byHand.url}/save`)
      assert.strictEqual(answered.status, 500)
    })
  )

  test(
    "a runtime that was disposed of is an error of the request",
    Effect.gen(function* () {
      const runtime = yield* memory
      const { url } = yield* serve(runtime)
      const { get } = browser()
      yield* get(`${url}/count`)
      yield* Effect.promise(() => runtime.dispose())
      assert.strictEqual((yield* get(`${url}/look`)).status, 500)
    })
  )
})

describe("on PostgreSQL, with two nodes", () => {
  const withNodes = <A, E>(
    use: (one: string, two: string, sessions: Sessions) => Effect.Effect<A, E, Scope.Scope>,
    settings?: AppOptions
  ): Effect.Effect<A, E, Scope.Scope> =>
    Effect.gen(function* () {
      const [a, b] = yield* nodes
      const sessions = yield* Effect.promise(() => a.runPromise(SessionStore))
      const [one, two] = [yield* serve(a, settings), yield* serve(b, settings)]
      return yield* use(one.url, two.url, sessions)
    })

  test(
    "both serve the session; a logout on one is one on the other; a visit writes nothing",
    withNodes((one, two, sessions) =>
      Effect.gen(function* () {
        const { cookie, get } = browser()
        yield* get(`${one}/count`)
        assert.strictEqual((yield* get(`${two}/count`)).body["count"], 2)
        // Another node's change is seen when its notification has arrived.
        while ((yield* get(`${one}/look`)).body["count"] !== 2) yield* Effect.yieldNow
        assert.strictEqual((yield* get(`${one}/count`)).body["count"], 3)
        const before = yield* sessions.health
        for (let visit = 0; visit < 10; visit++) yield* get(`${one}/nothing`)
        const after = yield* sessions.health
        assert.strictEqual(after.activity.written, before.activity.written)
        assert.isAtLeast(after.cache.hits - before.cache.hits, 10)
        const stolen = cookie()
        yield* get(`${two}/logout`)
        yield* browser(stolen).get(`${two}/count`)
        // It is at most `maxStaleness` later; here notifications are heard.
        let status: unknown = 3
        while (status !== undefined) status = (yield* browser(stolen).get(`${one}/look`)).body["count"]
      })
    )
  )

  const begun = gate()
  const loggedOut = gate()
  test(
    "a logout on one is not undone by a request that still runs on the other",
    withNodes(
      (one, two, sessions) =>
        Effect.gen(function* () {
          const { cookie, get } = browser()
          yield* get(`${one}/count`)
          const stolen = cookie()
          const logout = Effect.gen(function* () {
            yield* Effect.promise(() => begun.opened)
            yield* get(`${two}/logout`)
            loggedOut.open()
          })
          const [slow] = yield* Effect.all([browser(stolen).get(`${one}/slow`), logout], { concurrency: 2 })
          assert.strictEqual(slow.status, 200)
          for (const url of [one, two]) {
            assert.notProperty((yield* browser(stolen).get(`${url}/look`)).body, "count")
          }
          assert.strictEqual(yield* sessions.deleteAll, 0)
        }),
      {
        session: { resave: true },
        routes: (app) =>
          app.get("/slow", (request, response) => {
            begun.open()
            void loggedOut.opened.then(() => {
              request.session.count = 100
              response.json({})
            })
          })
      }
    )
  )

  const strings = { nul: "a\u0000b", lone: "\ud800", elephant: "🐘" }
  test(
    "saving by a bare id that both know; strings that text cannot hold; reading with resave writes nothing",
    withNodes(
      (one, two, sessions) =>
        Effect.gen(function* () {
          for (const url of [one, two, one]) assert.strictEqual((yield* browser().get(`${url}/import`)).status, 200)
          assert.strictEqual(yield* sessions.deleteAll, 1)
          const { get } = browser()
          yield* get(`${one}/strings`)
          assert.deepEqual((yield* get(`${one}/look`)).body["strings"], strings)
          const version = Effect.map(sessions.listForUser(UserId.make("alice")), (all) => all.map((s) => s.version))
          const before = yield* version
          for (let visit = 0; visit < 10; visit++) yield* get(`${one}/look`)
          assert.deepEqual(yield* version, before)
          assert.lengthOf(before, 1)
        }),
      {
        store: { userId: (data) => (data["strings"] === undefined ? undefined : "alice") },
        session: { resave: true, cookie: { maxAge: 60_000 } },
        routes: (app) => {
          app.get("/strings", (request, response) => {
            request.session["strings"] = strings
            response.json({})
          })
          app.get("/import", (request, response, next) => {
            const { cookie } = request.session
            request.sessionStore.set("imported", { cookie, count: 41 }, (error) =>
              error ? next(error) : void response.json({})
            )
          })
        }
      }
    )
  )
})
