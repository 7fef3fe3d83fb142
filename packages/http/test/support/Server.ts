/** A real server on a port of its own, and browsers with a real cookie jar that talk to it. */
import { NodeHttpServer } from "@effect/platform-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { CookieJar } from "tough-cookie"

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  /** Every `Set-Cookie` header. */
  readonly setCookie: ReadonlyArray<string>
  readonly body: string
  /** The body as JSON. */
  readonly json: Readonly<Record<string, unknown>>
}

export interface RequestOptions {
  /** Sent as they are, the `Cookie` header included; an array is sent as several headers. */
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string>>> | undefined
  readonly body?: string | undefined
}

/** A server that runs. */
export interface Server {
  readonly url: string
  readonly host: string
  /** A request as it is, without a jar. */
  readonly request: (method: string, path: string, options?: RequestOptions) => Effect.Effect<Answer>
  /** Sends a request and hangs up when this effect is interrupted; answers when the head of the response is there. */
  readonly open: (method: string, path: string, options?: RequestOptions) => Effect.Effect<Http.IncomingMessage, Error>
  /** Somebody with an empty jar. */
  readonly browser: () => Browser
}

/** A browser, as far as cookies go. */
export interface Browser {
  readonly jar: CookieJar
  readonly get: (path: string, options?: RequestOptions) => Effect.Effect<Answer>
  /** As a page of the same site does it. */
  readonly post: (path: string, options?: RequestOptions) => Effect.Effect<Answer>
  /** The header that it would send. */
  readonly cookie: Effect.Effect<string>
  /** The value of the session cookie, if it has one. */
  readonly session: Effect.Effect<string | undefined>
  /** Forgets everything and takes this header's worth of cookies instead. */
  readonly become: (setCookie: string) => Effect.Effect<void>
}

const open = (
  url: string,
  method: string,
  path: string,
  options: RequestOptions | undefined
): Effect.Effect<Http.IncomingMessage, Error> =>
  Effect.callback<Http.IncomingMessage, Error>((resume) => {
    const headers = Object.fromEntries(
      Object.entries(options?.headers ?? {}).map(([name, value]) => [
        name,
        typeof value === "string" ? value : [...value]
      ])
    )
    const request = Http.request(`${url}${path}`, { method, headers, agent: false })
    request.once("response", (response) => resume(Effect.succeed(response)))
    request.once("error", (error) => resume(Effect.fail(error)))
    request.end(options?.body)
    return Effect.sync(() => request.destroy())
  })

const read = (response: Http.IncomingMessage): Effect.Effect<Answer> =>
  Effect.callback<Answer>((resume) => {
    const chunks: Array<Buffer> = []
    response.on("data", (chunk: Buffer) => chunks.push(chunk))
    response.once("error", (error) => resume(Effect.die(error)))
    response.once("end", () => {
      const body = Buffer.concat(chunks).toString()
      resume(
        Effect.succeed({
          status: response.statusCode ?? 0,
          headers: response.headers,
          setCookie: response.headers["set-cookie"] ?? [],
          body,
          get json() {
            return JSON.parse(body) as Readonly<Record<string, unknown>>
          }
        })
      )
    })
  })

const makeBrowser = (url: string, request: Server["request"]): Browser => {
  const jar = new CookieJar(undefined, { prefixSecurity: "strict" })
  const cookie = Effect.promise(() => jar.getCookieString(url))
  const store = (line: string) => Effect.promise(() => jar.setCookie(line, url))
  const visit = (method: string) =>
    Effect.fnUntraced(function* (path: string, options?: RequestOptions) {
      const header = yield* cookie
      const sameOrigin: Record<string, string> = method === "GET" ? {} : { "sec-fetch-site": "same-origin" }
      const headers = { ...sameOrigin, ...(header === "" ? {} : { cookie: header }), ...options?.headers }
      const answer = yield* request(method, path, { ...options, headers })
      for (const line of answer.setCookie) yield* store(line)
      return answer
    })
  return {
    jar,
    get: visit("GET"),
    post: visit("POST"),
    cookie,
    session: Effect.map(cookie, (header) => /(?:^|; )__Host-session=([^;]*)/.exec(header)?.[1]),
    become: (setCookie) =>
      Effect.andThen(
        Effect.promise(() => jar.removeAllCookies()),
        Effect.asVoid(store(setCookie))
      )
  }
}

/** Serves an application until the scope closes. */
export const serve = Effect.fnUntraced(function* <A, E>(
  app: Layer.Layer<A, E, HttpRouter.HttpRouter>
): Effect.fn.Return<Server, unknown, Scope.Scope> {
  const layer = HttpRouter.serve(app, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provideMerge(
      NodeHttpServer.layer(Http.createServer, { port: 0, host: "127.0.0.1", gracefulShutdownTimeout: 0 })
    )
  )
  const { address } = Context.get(yield* Layer.build(layer), HttpServer.HttpServer)
  const port = address._tag === "UnixPathAddress" ? 0 : address.port
  const host = `127.0.0.1:${port}`
  const url = `http://${host}`
  const request: Server["request"] = (method, path, options) =>
    Effect.flatMap(Effect.orDie(open(url, method, path, options)), read)
  return {
    url,
    host,
    request,
    open: (method, path, options) => open(url, method, path, options),
    browser: () => makeBrowser(url, request)
  }
})
