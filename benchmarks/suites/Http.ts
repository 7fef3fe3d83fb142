/**
 * Requests a second that read a session: our middleware with its signed cookie, the same route without a session, and
 * express-session with its two best known stores, on the same data. Each server is a process of its own; the load comes
 * from this one.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Child from "../Child.ts"
import * as HttpLoad from "../HttpLoad.ts"
import { type Contender, type Measured, measure, NotMeasured, rateRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Redis from "../Redis.ts"
import { chart, type Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const { sessionCount } = Workload
const connections = 64
const bodyOf = (i: number): string => JSON.stringify(Workload.documentOf(Workload.one, i))

/** Logs in as so many users; answers the cookies. */
const cookies = (port: number, users: number) =>
  Effect.forEach(
    Array.from({ length: users }, (_, i) => i),
    (i) =>
      Effect.gen(function* () {
        const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/login/${i}`, { method: "POST" }))
        const [cookie] = response.headers.getSetCookie()
        yield* Effect.promise(() => response.arrayBuffer())
        if (response.status === 200 && cookie !== undefined) return cookie.slice(0, cookie.indexOf(";"))
        return yield* new NotMeasured({
          message: `Login was answered with ${response.status} and ${cookie ?? "no cookie"}`
        })
      }),
    { concurrency: 64 }
  )

interface Server {
  readonly name: "bare" | "ours" | "expressRedis" | "expressPg" | "expressOurs"
  readonly title: string
  readonly requests: number
}

const servers: ReadonlyArray<Server> = [
  { name: "ours", title: "HttpRouter, a session read", requests: 6_400 },
  { name: "bare", title: "HttpRouter, no session", requests: 6_400 },
  { name: "expressRedis", title: "Express, connect-redis", requests: 1_600 },
  { name: "expressPg", title: "Express, connect-pg-simple", requests: 640 },
  { name: "expressOurs", title: "Express, our store", requests: 1_600 }
]

export const suite: Suite = {
  name: "http",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable()
        const redis = Redis.available ? yield* Redis.start("none") : undefined
        const chosen = servers.filter(
          ({ name }) => (redis !== undefined || name !== "expressRedis") && !(quick && name === "expressOurs")
        )
        const contenders: Array<Contender<unknown>> = []
        for (const { name, requests: full, title } of chosen) {
          const requests = quick ? full / 4 : full
          const { ask } = yield* Child.start("HttpServer", {
            BENCH_SERVER: name,
            // Express's store and ours would create tables of the same kind at the same time.
            BENCH_URL: Redacted.value(yield* Node.database(url, name.toLowerCase())),
            BENCH_REDIS_URL: redis ?? "",
            NODE_ENV: "production"
          })
          const port = yield* ask("port", Schema.Finite)
          const exchanges =
            name === "bare"
              ? [HttpLoad.exchange(`session=${"x".repeat(109)}`, bodyOf(0))]
              : (yield* cookies(port, quick ? sessionCount / 5 : sessionCount)).map((cookie, i) =>
                  HttpLoad.exchange(cookie, bodyOf(i))
                )
          const load = yield* HttpLoad.make(port, connections, exchanges)
          contenders.push({ name: title, operations: requests, run: load(requests) })
          // Until it has been compiled.
          if (!quick) yield* load(requests)
        }
        const rows = yield* measure(contenders, rounds(9))
        const row = (name: Server["name"]): Measured | undefined =>
          rows[chosen.findIndex((server) => server.name === name)]
        const ours = row("ours")
        const over = (id: string, first: Measured | undefined, second: Measured | undefined) =>
          first === undefined || second === undefined ? {} : { [id]: rateRatio(first, second) }
        return {
          tables: [{ title: `Requests that read a session, ${connections} connections`, rows }],
          figures: {
            ...over("http.vsBare", ours, row("bare")),
            ...over("http.vsExpressRedis", ours, row("expressRedis")),
            ...over("http.vsExpressPg", ours, row("expressPg")),
            // What a session that costs nothing would reach.
            ...over("http.bare.vsExpressRedis", row("bare"), row("expressRedis")),
            ...over("http.bare.vsExpressPg", row("bare"), row("expressPg")),
            ...over("http.expressStore.vsExpressRedis", row("expressOurs"), row("expressRedis")),
            ...over("http.expressStore.vsExpressPg", row("expressOurs"), row("expressPg"))
          },
          bars: {
            http: chart(
              `Requests that read a session, one process, ${connections} connections`,
              "requests a second",
              rows,
              (name) => name.includes("session read") || name.includes("our")
            )
          },
          notes: Redis.available ? [] : [Redis.missing]
        }
      })
    )
}
