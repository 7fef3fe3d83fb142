/** Properties: whatever bytes a `Cookie` header has, the server answers, and the store hears of nothing that was not signed. */
import { SessionStore } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { SessionCookie, SessionMiddleware } from "../src/index.ts"
import * as CookieHeader from "../src/internal/CookieHeader.ts"
import { cookieLayer, loggedIn, routes, shop } from "./support/Shop.ts"
import { Watched } from "./support/Store.ts"

const Text = Schema.String.check(Schema.isMaxLength(200))
const Parts = Schema.Array(
  Schema.Union([
    Text,
    Schema.Literals(["__Host-session", "=", ";", " ", "\t", ",", '"', "%", "\u0000", "\u00a0", ".", "v1", "VALID"])
  ])
)

const paths = [
  ["GET", "/me"],
  ["GET", "/user"],
  ["POST", "/logout"],
  ["GET", "/guarded/authoritative"],
  ["POST", "/guarded/csrf"]
] as const

/** A web handler takes any string that is a header value at all; a server would refuse many before we see them. */
const web = Effect.gen(function* () {
  const context = yield* Layer.build(Watched.layerMemory())
  const app = routes(SessionMiddleware.make()).pipe(
    Layer.provide(cookieLayer()),
    Layer.provide(Layer.succeedContext(context)),
    Layer.provideMerge(Logger.layer([]))
  )
  const { handler } = yield* Effect.acquireRelease(
    Effect.sync(() => HttpRouter.toWebHandler(app, { disableLogger: true })),
    ({ dispose }) => Effect.promise(dispose)
  )
  return { handler, watched: Context.get(context, Watched) }
})

/** Header values are bytes. */
const asHeader = (text: string): string =>
  Buffer.from(text)
    .toString("latin1")
    .replaceAll(/[\0\r\n]/g, "")

describe("no header of any bytes", () => {
  it.effect.prop(
    "makes the middleware throw, hang, or reach the store unsigned",
    { parts: Arbitrary.schema(Parts), stray: Arbitrary.schema(Text) },
    ({ parts, stray }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { handler, watched } = yield* web
          const login = yield* Effect.promise(() =>
            handler(new Request("https://shop.example/login", { method: "POST" }))
          )
          const valid = login.headers.getSetCookie()[0]?.split(";")[0]?.split("=")[1] ?? ""
          const text = parts.join("").replaceAll("VALID", valid)
          const headers = [
            text,
            `__Host-session=${text}`,
            `a=b; __Host-session=${text}; ${stray}`,
            `${stray};__Host-session=${valid};${text}`
          ]
          for (const cookie of headers.map(asHeader)) {
            watched.calls.length = 0
            for (const [method, path] of paths) {
              const answer = yield* Effect.promise(() =>
                handler(new Request(`https://shop.example${path}`, { method, headers: { cookie } }))
              )
              assert.isBelow(answer.status, 500, cookie)
            }
            if (watched.calls.length > 0) assert.include(cookie, valid)
          }
        })
      )
  )

  it.effect.prop(
    "of one character changed in a valid cookie is accepted",
    {
      at: Arbitrary.schema(Schema.Int),
      character: Arbitrary.schema(Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(1)))
    },
    ({ at, character }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const server = yield* shop({ cookie: { readYourWrites: true } })
          const value = (yield* (yield* loggedIn(server)).session) ?? ""
          const index = Math.abs(at) % value.length
          const changed = value.slice(0, index) + character + value.slice(index + 1)
          const cookie = asHeader(`__Host-session=${changed}`)
          if (cookie === `__Host-session=${value}` || /[^\t\x20-\x7e\x80-\xff]/.test(cookie)) return
          server.watched.calls.length = 0
          const answer = yield* server.request("GET", "/me", { headers: { cookie } })
          // A semicolon ends the cookie, a blank at its end is cut off: what is left must still be the whole of it.
          assert.deepStrictEqual(answer.json, { session: false }, cookie)
          assert.deepStrictEqual(server.watched.calls, [])
        })
      )
  )
})

describe("a cookie header costs no more than its length", () => {
  it("in time, however it is cut into pieces", () => {
    const header = `${";".repeat(65_000)}__Host-session`
    const times = Array.from({ length: 9 }, () => {
      const start = performance.now()
      assert.strictEqual(CookieHeader.find(header, "__Host-session")._tag, "Absent")
      assert.strictEqual(CookieHeader.find(`${header}=`, "__Host-session")._tag, "Found")
      return performance.now() - start
    })
    // Quadratic, each of them takes 20 milliseconds.
    assert.isBelow(Math.min(...times), 10)
  })

  it.effect(
    "in memory nothing: a cookie that is remembered does not keep the header that it came in",
    Effect.fnUntraced(
      function* () {
        setFlagsFromString("--expose-gc")
        const collect = runInNewContext("gc") as () => void
        const heap = () => {
          collect()
          return process.memoryUsage().heapUsed
        }
        const { decode, encode, settings } = yield* SessionCookie
        const sessions = yield* SessionStore
        const values = yield* Effect.replicateEffect(sessions.createAnonymous(), 200).pipe(
          Effect.map((all) => all.map((session) => Redacted.value(encode(session, 0))))
        )
        const before = heap()
        for (const value of values) {
          // As a server gets it: one flat text.
          const header = Buffer.from(`a=${"x".repeat(60_000)}; ${settings.name}=${value}`).toString()
          assert.isTrue(Result.isSuccess(decode(header, 0)))
        }
        assert.isBelow(heap() - before, 6_000_000)
        // The headers together have 12 million characters; the decoder is still in use.
        assert.isTrue(Result.isSuccess(decode(`${settings.name}=${values[0]}`, 0)))
      },
      Effect.provide([SessionStore.layerMemory(), cookieLayer()])
    )
  )
})
