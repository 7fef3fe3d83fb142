/** Real Express applications with real express-session on the store, small browsers that keep the cookie, and stores for them. */
import { SessionStore } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import express from "express"
import session from "express-session"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { type ExpressStoreOptions, type ExpressStoreRuntime, toExpressStore } from "../../src/index.ts"

declare module "express-session" {
  interface SessionData {
    count: number
    [property: string]: unknown
  }
}

/** A gate that a handler waits at, and the test opens. */
export const gate = () => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

export interface AppOptions {
  readonly store?: ExpressStoreOptions
  readonly session?: Partial<session.SessionOptions>
  readonly routes?: ((app: express.Express) => void) | undefined
}

/** An application on a port of its own. */
export const serve = (runtime: ExpressStoreRuntime, { routes, session: settings, store }: AppOptions = {}) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const app = express()
      app.use(
        session({
          secret: "a secret of the tests",
          resave: false,
          saveUninitialized: false,
          store: toExpressStore(session.Store, runtime, store),
          ...settings
        })
      )
      app.get("/count", (request, response) => {
        request.session.count = (request.session.count ?? 0) + 1
        response.json({ count: request.session.count, id: request.sessionID })
      })
      app.get(
        "/look",
        (request, response) => void response.json(Object.assign({}, request.session, { id: request.sessionID }))
      )
      app.get("/nothing", (_request, response) => void response.json({}))
      app.get("/set/:name/:value", (request, response) => {
        request.session[request.params.name] = request.params.value
        response.json({})
      })
      app.get("/unset/:name", (request, response) => {
        delete request.session[request.params.name]
        response.json({})
      })
      app.get("/login/:user", (request, response, next) => {
        request.session.regenerate((error) => {
          if (error) return next(error)
          request.session["user"] = request.params.user
          response.json({ id: request.sessionID })
        })
      })
      app.get("/logout", (request, response, next) => {
        request.session.destroy((error) => (error ? next(error) : void response.json({})))
      })
      routes?.(app)
      app.use((error: unknown, _request: express.Request, response: express.Response, _next: express.NextFunction) => {
        response.status(500).json({ error: error instanceof Error ? error.name : String(error) })
      })
      const server = app.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close: () => server.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

/** Somebody who keeps the cookie, and sends these headers. */
export const browser = (initial?: string, headers: Readonly<Record<string, string>> = {}) => {
  let cookie = initial
  const get = (url: string) =>
    Effect.promise(async () => {
      const response = await fetch(url, { headers: cookie === undefined ? headers : { ...headers, cookie } })
      const set = response.headers.getSetCookie()
      if (set[0] !== undefined) cookie = set[0].split(";")[0]
      const text = await response.text()
      const body = (text === "" ? {} : JSON.parse(text)) as Readonly<Record<string, unknown>>
      return { status: response.status, setCookie: set, body }
    })
  return { get, cookie: () => cookie }
}

/** `originalMaxAge`, of which express-session loses a millisecond where the clock ticks between its two looks at it. */
export const assertMaxAge = (cookie: unknown, expected: number): number => {
  const { originalMaxAge } = cookie as { readonly originalMaxAge: number }
  assert.closeTo(originalMaxAge, expected, 100)
  return originalMaxAge
}

export const managed = <E>(layer: Layer.Layer<SessionStore, E>) =>
  Effect.acquireRelease(
    Effect.sync(() => ManagedRuntime.make(layer)),
    (runtime) => Effect.promise(() => runtime.dispose())
  )

export const memory = Effect.suspend(() => managed(SessionStore.layerMemory()))

/** A store in memory whose clock the test moves. */
export const clocked = Effect.gen(function* () {
  const runtime = yield* managed(SessionStore.layerMemory().pipe(Layer.provideMerge(TestClock.layer())))
  const pass = (millis: number) => Effect.promise(() => runtime.runPromise(TestClock.adjust(millis)))
  return { runtime, pass }
})

/** Two nodes on a schema of their own. */
export const nodes = Effect.gen(function* () {
  const options = {
    url: Redacted.make(inject("databaseUrl")),
    schemaName: `express_${randomBytes(6).toString("hex")}`,
    maxConnections: 2
  }
  return [yield* managed(PgSession.layer(options)), yield* managed(PgSession.layer(options))] as const
})

export const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(effect), 30_000)
