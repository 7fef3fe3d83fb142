/**
 * One node of the demo: an ordinary application with the session layer, in a
 * process of its own, that does what the supervisor asks (see `NodeRpcs.ts`).
 */
import { Session, SessionAttribute, SessionId, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { NodeRuntime, NodeWorkerRunner } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { RpcServer } from "effect/rpc"
import { type LogLine, monotonicMillis, NodeFailure, NodeRpcs, type Sample, type Sighting } from "./NodeRpcs.ts"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const Elevated = SessionAttribute.make("elevated_access", Schema.Boolean, { initial: () => false })

const SessionsLive = PgSession.layerConfig({
  url: Config.Redacted("DATABASE_URL"),
  listenUrl: Config.Redacted("SESSION_LISTEN_URL").pipe(Config.withDefault(undefined)),
  schemaName: Config.String("SESSION_SCHEMA_NAME"),
  maxStaleness: Config.Duration("SESSION_MAX_STALENESS"),
  statementTimeout: Config.Duration("SESSION_STATEMENT_TIMEOUT"),
  shutdownTimeout: Config.succeed("2 seconds"),
  connection: Config.map(Config.String("APPLICATION_NAME"), (applicationName) => ({ applicationName }))
})

// Cut short so that the demo can tell of it; a real application just logs.
const logs = Effect.runSync(Queue.unbounded<LogLine>())
const LogsLive = Logger.layer([
  Logger.make<unknown, void>(({ logLevel, message }) => {
    const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
    Queue.offerUnsafe(logs, { at: monotonicMillis(), level: logLevel.toUpperCase(), text })
  })
])

/** A cookie's text becomes an id, or the caller is nobody: nothing that is not an id ever reaches the database. */
const parse = (cookie: string): Effect.Effect<SessionId, NodeFailure> =>
  Effect.mapError(
    Effect.fromOption(SessionId.fromString(cookie)),
    () => new NodeFailure({ error: "InvalidCookie", message: "This is not a session id" })
  )

const explain = Effect.mapError(
  (error: { readonly _tag: string; readonly message: string }) =>
    new NodeFailure({ error: error._tag, message: error.message })
)

const append = (item: string) => Session.modify(Cart, (items) => [...items, item])

const HandlersLive = NodeRpcs.toLayer(
  Effect.gen(function* () {
    const sessions = yield* SessionStore
    let held = Option.none<Session>()

    const timed = <E>(write: Effect.Effect<number, E>) =>
      Effect.gen(function* () {
        const sentAt = monotonicMillis()
        const count = yield* write
        return { sentAt, answeredAt: monotonicMillis(), count }
      })

    const read = Effect.fnUntraced(function* (id: SessionId, refresh: boolean) {
      const { misses } = (yield* sessions.health).cache
      const start = monotonicMillis()
      const session = yield* sessions.get(id, refresh ? { refresh } : undefined)
      const millis = monotonicMillis() - start
      const source = (yield* sessions.health).cache.misses === misses ? ("memory" as const) : ("database" as const)
      return { source, millis, cart: yield* Session.get(session, Cart) }
    })

    const observe = (id: SessionId) =>
      Stream.callback<Sample, NodeFailure>((samples) =>
        Effect.gen(function* () {
          const reads = { memory: 0, database: 0 }
          let last = ""
          while (true) {
            const { cart, source } = yield* explain(read(id, false))
            reads[source]++
            const { listener, synced } = yield* sessions.health
            const state = {
              source,
              cart,
              synced,
              state: listener.state,
              problem: Option.getOrNull(listener.problem)
            }
            const current = JSON.stringify(state)
            if (current !== last) yield* Queue.offer(samples, { ...state, at: monotonicMillis(), reads: { ...reads } })
            last = current
            yield* Effect.sleep(1)
          }
        })
      )

    return NodeRpcs.of({
      Ready: Effect.fnUntraced(function* () {
        while (!(yield* sessions.health).synced) yield* Effect.sleep(5)
      }),
      Login: Effect.fnUntraced(function* ({ user }) {
        const start = monotonicMillis()
        const { id } = yield* sessions.create(UserId.make(user))
        const millis = monotonicMillis() - start
        // Here, and only here, the secret is meant to leave: in the answer's Set-Cookie header.
        return { cookie: Redacted.value(id), millis }
      }, explain),
      Read: Effect.fnUntraced(function* ({ cookie, refresh }) {
        return yield* explain(read(yield* parse(cookie), refresh))
      }),
      ReadMany: Effect.fnUntraced(function* ({ cookie, times }) {
        const id = yield* parse(cookie)
        const before = (yield* sessions.health).cache
        const start = monotonicMillis()
        for (let i = 0; i < times; i++) yield* sessions.get(id)
        const millis = monotonicMillis() - start
        const after = (yield* sessions.health).cache
        return after.hits - before.hits === times && after.misses === before.misses
          ? millis / times
          : yield* new NodeFailure({ error: "NotFromMemory", message: "Some of these reads went to the database" })
      }, explain),
      Add: Effect.fnUntraced(function* ({ cookie, item }) {
        const id = yield* parse(cookie)
        return yield* timed(Effect.as(sessions.modify(id, append(item)), 1))
      }, explain),
      Hold: Effect.fnUntraced(function* ({ cookie }) {
        held = Option.some(yield* sessions.get(yield* parse(cookie)))
      }, explain),
      SaveHeld: Effect.fnUntraced(function* ({ item }) {
        const changed = yield* append(item)(Option.getOrThrow(held))
        return yield* Session.get(yield* sessions.update(changed), Cart)
      }, explain),
      AddAll: Effect.fnUntraced(function* ({ cookie, items }) {
        const id = yield* parse(cookie)
        let attempts = 0
        const add = (item: string) =>
          sessions.modify(id, (session) => {
            attempts++
            return append(item)(session)
          })
        yield* Effect.forEach(items, add, { concurrency: "unbounded", discard: true })
        return attempts
      }, explain),
      StepUp: Effect.fnUntraced(function* ({ cookie, millis }) {
        const id = yield* parse(cookie)
        return yield* timed(Effect.as(sessions.modify(id, Session.set(Elevated, true, { timeToLive: millis })), 1))
      }, explain),
      IsElevated: Effect.fnUntraced(function* ({ cookie }) {
        return yield* Session.get(yield* sessions.get(yield* parse(cookie)), Elevated)
      }, explain),
      LogOutEverywhere: ({ user }) => explain(timed(sessions.deleteAllForUser(UserId.make(user)))),
      Watch: ({ cookie }) =>
        Stream.unwrap(
          Effect.map(parse(cookie), (id) =>
            sessions.watch(id).pipe(
              Stream.mapEffect((session) => Session.get(session, Cart)),
              Stream.map((cart): Sighting => ({ at: monotonicMillis(), cart })),
              Stream.concat(Stream.sync((): Sighting => ({ at: monotonicMillis(), cart: null }))),
              Stream.mapError((error) => new NodeFailure({ error: error._tag, message: error.message }))
            )
          )
        ),
      Observe: ({ cookie }) => Stream.unwrap(Effect.map(parse(cookie), observe)),
      Logs: () => Stream.fromQueue(logs)
    })
  })
)

// The supervisor is gone, however it ended: end in an orderly way, and soon. What is still to be answered cannot be sent.
process.on("error", () => {})
process.once("disconnect", () => {
  process.kill(process.pid, "SIGTERM")
  setTimeout(() => process.exit(1), 5_000).unref()
})

RpcServer.layer(NodeRpcs, { disableTracing: true }).pipe(
  Layer.provide(HandlersLive),
  Layer.provide(SessionsLive),
  Layer.provide(RpcServer.layerProtocolWorkerRunner),
  Layer.provide(NodeWorkerRunner.layer),
  Layer.provide(LogsLive),
  Layer.launch,
  NodeRuntime.runMain
)
