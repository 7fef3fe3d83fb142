/** For the HTTP examples: serves routes with sessions on a free port, and is a small browser that keeps its cookie. */
import { csrf, SessionCookie, SessionMiddleware } from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"

/** The session for routes: `Layer.provide(session.layer)`, below guards `requireSession.combine(session)`. */
export const session = csrf().combine(SessionMiddleware.make())

/** A real application takes the key from its secret store. */
const sessionsLive = Layer.mergeAll(
  SessionCookie.layer({ keys: [Redacted.make("at least 32 random characters ....")] }),
  PgSessionLive
)

/** An answer. */
export interface Answer {
  readonly status: number
  readonly text: string
}

/** Serves until the scope closes; the result sends requests. */
export const serve = Effect.fnUntraced(function* <E>(
  routes: Layer.Layer<never, E, HttpRouter.HttpRouter | Layer.Success<typeof sessionsLive>>
) {
  const server = NodeHttpServer.layer(createServer, { port: 0, host: "localhost", gracefulShutdownTimeout: 0 })
  const layer = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(sessionsLive),
    Layer.provideMerge(server)
  )
  const { address } = Context.get(yield* Layer.build(layer), HttpServer.HttpServer)
  const url = `http://localhost:${address._tag === "UnixPathAddress" ? "" : address.port}`
  let cookie = ""
  return (method: string, path: string): Effect.Effect<Answer> =>
    Effect.promise(async () => {
      const response = await fetch(url + path, { method, headers: { cookie, origin: url } })
      const [set] = response.headers.getSetCookie()
      if (set !== undefined) cookie = set.split(";")[0] ?? ""
      return { status: response.status, text: await response.text() }
    })
})
