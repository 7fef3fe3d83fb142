/** For the HTTP examples: serves routes on a free port, and gives a small browser that keeps its cookie. */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, type Scope } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"

/** Serves until the scope closes; answers requests by method and path. */
export const serve = Effect.fnUntraced(function* <E>(
  routes: Layer.Layer<never, E, HttpRouter.HttpRouter>
): Effect.fn.Return<(method: string, path: string) => Promise<Response>, unknown, Scope.Scope> {
  const layer = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "localhost", gracefulShutdownTimeout: 0 }))
  )
  const { address } = Context.get(yield* Layer.build(layer), HttpServer.HttpServer)
  const url = `http://localhost:${address._tag === "UnixPathAddress" ? "" : address.port}`
  let cookie = ""
  return async (method, path) => {
    const response = await fetch(url + path, { method, headers: { cookie, origin: url }, redirect: "manual" })
    const [set] = response.headers.getSetCookie()
    if (set !== undefined) cookie = set.split(";")[0] ?? ""
    return response
  }
})
