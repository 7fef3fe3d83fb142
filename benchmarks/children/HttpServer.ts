/**
 * One of the servers that are compared. Each answers `GET /value` with what the session says, and begins a session on
 * `POST /login/<i>`; the bare one has no sessions and answers the same.
 */
import { Session, SessionStore } from "@effect-pg-session/core"
import { CurrentSession, SessionCookie, SessionMiddleware, toExpressStore } from "@effect-pg-session/http"
import { PgSession } from "@effect-pg-session/pg"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import connectPgSimple from "connect-pg-simple"
import { RedisStore } from "connect-redis"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import { MinimumLogLevel } from "effect/References"
import express from "express"
import expressSession from "express-session"
import { createServer } from "node:http"
import { Pool } from "pg"
import { answering, environment } from "../Child.ts"
import * as Redis from "../Redis.ts"
import * as Workload from "../Workload.ts"

declare module "express-session" {
  interface SessionData {
    key: string
  }
}

const url = environment("BENCH_URL")
const secret = "thirty-two or more random characters"
/** Connections must not be closed while others have their turn. */
const serverOptions = { keepAliveTimeout: 600_000 }
const [attribute] = Workload.one.attributes
const month = 30 * 24 * 60 * 60 * 1_000

const routed = Effect.fnUntraced(function* <E>(routes: Layer.Layer<never, E, HttpRouter.HttpRouter>) {
  const layer = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => createServer(serverOptions), { port: 0, host: "127.0.0.1" }))
  )
  const { address } = Context.get(yield* Layer.build(layer), HttpServer.HttpServer)
  return address._tag === "UnixPathAddress" ? 0 : address.port
})

const bare = routed(
  HttpRouter.add(
    "GET",
    "/value",
    Effect.sync(() => HttpServerResponse.jsonUnsafe({ key: "value0" }))
  )
)

const value = Effect.gen(function* () {
  const session = yield* CurrentSession.require
  return HttpServerResponse.jsonUnsafe({ key: yield* Effect.orDie(Session.get(session, attribute)) })
})
const login = Effect.gen(function* () {
  const { i } = yield* HttpRouter.params
  yield* CurrentSession.login(Workload.userOf(Number(i)), {
    attributes: Workload.attributeValues(Workload.one, Number(i))
  })
  return HttpServerResponse.jsonUnsafe({})
})
const sessions = PgSession.layer({ url: Redacted.make(url) })
const ours = routed(
  Layer.mergeAll(HttpRouter.add("GET", "/value", value), HttpRouter.add("POST", "/login/:i", login)).pipe(
    Layer.provide(SessionMiddleware.make().layer),
    Layer.provide([SessionCookie.layer({ keys: [Redacted.make(secret)] }), sessions])
  )
)

const expressOn = (options: Partial<expressSession.SessionOptions>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const app = express()
        app.use(expressSession({ secret, resave: false, saveUninitialized: false, ...options }))
        app.get("/value", (request, response) => void response.json({ key: request.session.key }))
        app.post("/login/:i", (request, response) => {
          request.session.key = Workload.one.value(Number(request.params.i), 0)
          response.json({})
        })
        const server = createServer(serverOptions, app).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    ),
    (server) => {
      const address = server.address()
      return typeof address === "object" && address !== null ? address.port : 0
    }
  )

// As its README recommends.
const expressRedis = Effect.gen(function* () {
  const client = yield* Redis.connect(environment("BENCH_REDIS_URL"))
  return yield* expressOn({ store: new RedisStore({ client, prefix: "myapp:" }) })
})

// As its README recommends.
const expressPg = Effect.gen(function* () {
  const pool = new Pool({ connectionString: url })
  const Store = connectPgSimple(expressSession)
  return yield* expressOn({ store: new Store({ pool, createTableIfMissing: true }), cookie: { maxAge: month } })
})

const expressOurs = Effect.gen(function* () {
  const runtime = yield* Effect.acquireRelease(
    Effect.sync(() => ManagedRuntime.make(sessions)),
    (runtime) => runtime.disposeEffect
  )
  yield* Effect.promise(() => runtime.runPromise(Effect.asVoid(SessionStore)))
  return yield* expressOn({ store: toExpressStore(expressSession.Store, runtime) })
})

const servers = { bare, ours, expressRedis, expressPg, expressOurs }
const isServer = (name: string): name is keyof typeof servers => Object.hasOwn(servers, name)

const program = Effect.gen(function* () {
  const name = environment("BENCH_SERVER")
  const port = isServer(name) ? yield* servers[name] : 0
  yield* answering({ port: () => Effect.succeed(port) })
  // A login is logged, which no other server does.
}).pipe(Effect.scoped, Effect.provideService(MinimumLogLevel, "Warn"))

NodeRuntime.runMain(program)
