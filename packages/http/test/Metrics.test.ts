/** What an exporter sees, and what never shows anywhere. */
import { SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { SessionMetrics } from "../src/index.ts"
import { loggedIn, shop } from "./support/Shop.ts"

const figures = Effect.map(Metric.snapshot, (snapshots) =>
  Object.fromEntries(
    snapshots.map(({ id, state }) => [
      id,
      "count" in state ? Number(state.count) : "value" in state ? Number(state.value) : NaN
    ])
  )
)

const isolated = Effect.provideService(Metric.MetricRegistry, new Map())

describe("metrics", () => {
  it.effect(
    "follow the store: what happened, and what its memory is worth",
    Effect.fnUntraced(
      function* () {
        const scope = yield* Scope.make()
        const sessions = yield* SessionStore
        yield* Layer.buildWithScope(SessionMetrics.layer, scope)
        const session = yield* sessions.create(UserId.make("alice"))
        yield* sessions.get(session.id)
        yield* sessions.get(session.id)
        const { id } = yield* sessions.rotate(session.id)
        yield* sessions.clearLocalCache
        yield* sessions.get(id)
        yield* sessions.delete(id)
        // The counting fiber takes its turn.
        yield* TestClock.adjust(1)
        const seen = yield* figures
        assert.deepInclude(seen, {
          session_created: 1,
          session_rotated: 1,
          session_deleted: 1,
          session_cache_hits: 2,
          session_cache_misses: 1,
          session_cache_size: 0,
          session_synced: 1
        })
        assert.isAtMost(seen["session_beats_missed"] ?? NaN, 1)
        assert.isAtLeast(seen["session_staleness_seconds"] ?? NaN, 0)
        yield* sessions.create(UserId.make("bob"))
        assert.strictEqual((yield* figures)["session_cache_size"], 1)
        yield* Scope.close(scope, Exit.void)
        assert.isUndefined((yield* figures)["session_cache_size"])
      },
      Effect.provide(SessionStore.layerMemory()),
      isolated
    )
  )

  it.effect(
    "count refused cookies once per request, and refused requests of other sites",
    Effect.fnUntraced(
      function* () {
        const server = yield* shop()
        const user = yield* loggedIn(server)
        const cookie = yield* user.cookie
        for (const bad of [
          "__Host-session=forged",
          `${cookie}x`,
          `${cookie}; ${cookie}`,
          `__Host-session=${"x".repeat(5_000)}`
        ]) {
          yield* server.request("GET", "/me", { headers: { cookie: bad } })
        }
        yield* server.request("POST", "/login", { headers: { cookie: "__Host-session=forged" } })
        yield* server.request("GET", "/silent", { headers: { cookie: "__Host-session=forged" } })
        yield* server.request("GET", "/me", { headers: { cookie } })
        yield* server.request("GET", "/me")
        yield* server.request("POST", "/guarded/csrf", { headers: { "sec-fetch-site": "cross-site" } })
        assert.deepInclude(yield* figures, { session_cookies_refused: 5, session_csrf_rejections: 1 })
      },
      Effect.scoped,
      isolated
    )
  )
})

describe("secrets", () => {
  it.effect(
    "no log, span or metric knows more of a session than the beginning of its key",
    Effect.fnUntraced(function* () {
      const seen: Array<string> = []
      const logger = Logger.make((options) => {
        const annotations = options.fiber.getRef(References.CurrentLogAnnotations)
        seen.push(inspect([options.message, options.cause, annotations], { depth: 9 }))
      })
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const spans: Array<Tracer.NativeSpan> = []
      const values: Array<string> = []
      const keys: Array<string> = []
      yield* Effect.gen(function* () {
        const server = yield* shop({ cookie: { readYourWrites: true, maxAge: "1 hour" } })
        const browser = server.browser()
        const visit = Effect.fnUntraced(function* (method: "get" | "post", path: string) {
          yield* browser[method](path)
          const value = yield* browser.session
          if (value !== undefined) values.push(value)
        })
        yield* visit("post", "/cart?item=pen")
        yield* visit("post", "/login?user=alice")
        yield* visit("get", "/me")
        keys.push(String((yield* browser.get("/me")).json["key"]))
        yield* visit("post", "/rotate")
        yield* visit("post", "/elevate")
        yield* visit("get", "/guarded/authoritative")
        yield* server.request("GET", "/me", { headers: { cookie: `__Host-session=${values[0]}x` } })
        yield* server.watched.down(true)
        yield* visit("get", "/me")
        yield* server.watched.down(false)
        yield* browser.post("/logout-others")
        yield* browser.post("/logout")
      }).pipe(
        Effect.scoped,
        Effect.provide(Logger.layer([logger])),
        Effect.withTracer(tracer),
        Effect.provideService(References.MinimumLogLevel, "Trace")
      )
      for (const { attributes, events, name, status } of spans) {
        // Success is the response itself, which the application wrote.
        const failure = status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause : undefined
        seen.push(inspect([name, attributes, events, failure], { depth: 12 }))
      }
      seen.push(inspect(yield* Metric.snapshot, { depth: 9 }))
      const everything = seen.join("\n")
      assert.isAtLeast(values.length, 6)
      for (const event of [
        "A guest's session began",
        "A user logged in",
        "A session got a new id",
        "A user logged out"
      ]) {
        assert.include(everything, event)
      }
      assert.include(everything, "CurrentSession.login")
      const [key = ""] = keys
      assert.include(everything, `${key.slice(0, 8)}…`)
      assert.deepStrictEqual(
        seen.filter((text) => text.includes(key)),
        []
      )
      for (const value of values) {
        assert.notInclude(everything, value.slice(22, 40))
        assert.notInclude(everything, value.slice(-43))
      }
    }, isolated)
  )
})
