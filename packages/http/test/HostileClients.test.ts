/** What clients do who mean harm: a real server on a real PostgreSQL, whose statements are counted. */
import { PgSession } from "@effect-pg-session/pg"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { createHash, randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"
import { inject } from "vitest"
import { SessionMiddleware } from "../src/index.ts"
import { serve } from "./support/Server.ts"
import { cookieLayer, routes } from "./support/Shop.ts"

/** A server, and the statements that it has sent so far, without beats and what the layer does by itself. */
const attacked = Effect.gen(function* () {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const statements = () =>
    spans.splice(0).flatMap(({ attributes, name }) => {
      const operation = attributes.get("db.operation.name")
      return name === "effect-pg-session.statement" && /session|access/.test(String(operation)) ? [operation] : []
    })
  const sessions = PgSession.layer({
    url: Redacted.make(inject("databaseUrl")),
    schemaName: `hostile_${randomBytes(6).toString("hex")}`,
    maxConnections: 2
  })
  const app = routes(SessionMiddleware.make()).pipe(
    Layer.provide(cookieLayer()),
    Layer.provide(sessions),
    Layer.provideMerge(Logger.layer([]))
  )
  const server = yield* serve(app).pipe(Effect.withTracer(tracer))
  const alice = server.browser()
  yield* alice.post("/login")
  assert.strictEqual((yield* alice.get("/me")).json["user"], "alice")
  assert.isNotEmpty(statements(), "nothing was counted, not even a login")
  return { alice, server, statements }
})

const socketTo = (host: string) =>
  Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const [address, port] = host.split(":")
      const socket = connect(Number(port), address, () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** Sends all requests through one connection, without waiting for answers; counts those that are 200. */
const flood = (host: string, requests: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.flatMap(socketTo(host), (socket) =>
      Effect.callback<number>((resume) => {
        let answers = 0
        let rest = ""
        socket.on("data", (chunk: Buffer) => {
          const text = rest + chunk.toString("latin1")
          const heads = text.split("HTTP/1.1 200 OK\r\n")
          answers += heads.length - 1
          rest = (heads.at(-1) ?? "").slice(-64)
          if (answers >= requests.length) resume(Effect.succeed(answers))
        })
        socket.on("close", () => resume(Effect.succeed(answers)))
        socket.write(requests.join(""))
      })
    )
  )

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(effect), 120_000)

test(
  "50 000 distinct cookies that nobody signed: all are answered, and no statement reaches the database",
  Effect.gen(function* () {
    const { alice, server, statements } = yield* attacked
    const digest = (text: string) => createHash("sha256").update(text).digest("base64url")
    // Of the right shape, and each another one.
    const cookie = (i: number) =>
      `${digest(`key ${i}`).slice(0, 21)}A${digest(`secret ${i}`)}.${digest(`signature ${i}`)}`
    const requests = Array.from(
      { length: 50_000 },
      (_, i) => `GET /me HTTP/1.1\r\nHost: ${server.host}\r\nCookie: __Host-session=${cookie(i)}\r\n\r\n`
    )
    const connections = 20
    const share = requests.length / connections
    const answers = yield* Effect.forEach(
      Array.from({ length: connections }, (_, i) => requests.slice(i * share, (i + 1) * share)),
      (part) => flood(server.host, part),
      { concurrency: connections }
    )
    assert.strictEqual(
      answers.reduce((sum, count) => sum + count, 0),
      requests.length
    )
    assert.deepStrictEqual(statements(), [])
    assert.strictEqual((yield* alice.get("/me")).json["user"], "alice")
  })
)

test(
  "clients that send slowly, headers that are too large, and half a request keep nobody else waiting",
  Effect.gen(function* () {
    const { alice, server, statements } = yield* attacked
    const slow = yield* Effect.replicateEffect(socketTo(server.host), 200)
    for (const socket of slow) socket.write(`GET /me HTTP/1.1\r\nHost: ${server.host}\r\nCookie: __Host-session=`)
    const refused = yield* Effect.scoped(
      Effect.flatMap(socketTo(server.host), (socket) =>
        Effect.callback<string>((resume) => {
          socket.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString("latin1").slice(0, 12))))
          socket.write(
            `GET /me HTTP/1.1\r\nHost: ${server.host}\r\nCookie: __Host-session=${"x".repeat(100_000)}\r\n\r\n`
          )
        })
      )
    )
    assert.strictEqual(refused, "HTTP/1.1 431")
    for (let i = 0; i < 50; i++) {
      for (const socket of slow) socket.write("x")
      assert.strictEqual((yield* alice.get("/me")).json["user"], "alice")
    }
    for (const socket of slow) socket.destroy()
    assert.deepStrictEqual(statements(), [])
  })
)
