/**
 * A node: an application process with the library in it, that does what it is
 * told over its channel and ends as applications do, on SIGTERM.
 */
import { SessionId, SessionLocks, SessionStore } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { type Answer, isCommand, type Measurement } from "../Protocol.ts"
import { settings } from "../Settings.ts"
import { now } from "../Timing.ts"
import { longestSince } from "./Pauses.ts"
import { outcomeOf, type Services } from "./Perform.ts"

// Nobody is left to ask anything.
process.once("disconnect", () => process.exit(3))

const send = (answer: Answer): void => void process.send?.(answer)

const answer = (services: Services, ask: number, request: Parameters<typeof outcomeOf>[1]) =>
  Effect.suspend(() => {
    const start = now()
    return Effect.map(outcomeOf(services, request), (outcome) => {
      const end = now()
      send({ answer: ask, start, end, pause: longestSince(start), outcome })
    })
  })

/** Looks whenever anything else has had its turn, so that even a short moment is not missed. */
const unsynced = (sessions: Services["sessions"]) =>
  Effect.andThen(Effect.yieldNow, sessions.health).pipe(
    Effect.repeat({ until: ({ synced }) => !synced }),
    Effect.timeoutOption("3 seconds")
  )

const measure = ({ locks, sessions }: Services, what: Measurement) =>
  Effect.gen(function* () {
    switch (what._tag) {
      case "Health": {
        const health = yield* sessions.health
        const staleness = Duration.toMillis(health.staleness)
        return {
          synced: health.synced ? 1 : 0,
          staleness: Number.isFinite(staleness) ? staleness : -1,
          reconnects: health.listener.reconnects,
          cached: health.cache.size,
          absent: health.cache.absent,
          misses: health.cache.misses,
          pendingActivity: health.activity.pending,
          pendingUpdates: health.pendingUpdates,
          watched: health.watched,
          ...(yield* locks.health),
          heapMegabytes: process.memoryUsage().heapUsed / 2 ** 20
        }
      }
      case "ReadAll": {
        const ids = what.tokens.flatMap((token) => Option.toArray(SessionId.fromString(token)))
        if (what.unsynced === true) yield* unsynced(sessions)
        const start = now()
        const found = yield* Effect.forEach(ids, (id) => Effect.option(sessions.get(id, { touch: what.touch })), {
          concurrency: "unbounded"
        })
        return { found: found.filter(Option.isSome).length, start, end: now() }
      }
      case "Keep": {
        const kept = yield* Effect.forkDetach(
          Effect.result(locks.withLock(what.lock, () => Effect.never, { wait: "3 seconds" })),
          { startImmediately: true }
        )
        yield* Effect.repeat(Effect.delay(locks.health, 5), {
          until: ({ held }) => held > 0 || kept.pollUnsafe() !== undefined
        })
        return { held: (yield* locks.health).held }
      }
    }
  })

const serve = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const services = { sessions: yield* SessionStore, locks: yield* SessionLocks, sql }
  process.on("message", (message: unknown) => {
    if (!isCommand(message)) return
    // Not children of this fiber: requests of an application are under way when it is asked to end, too.
    if ("ask" in message) Effect.runFork(answer(services, message.ask, message.request))
    if ("measure" in message) {
      Effect.runFork(
        Effect.map(measure(services, message.what), (figures) => send({ measured: message.measure, figures }))
      )
    }
  })
  send({ ready: true })
  return yield* Effect.never
})

const layer = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.Redacted("DATABASE_URL")
    const listenUrl = yield* Config.Redacted("LISTEN_URL")
    const prepare = (yield* Config.String("PREPARE")) === "yes"
    const nodeName = yield* Config.String("NODE_NAME")
    const own = PgClient.layer({ url, prepare, maxConnections: 4, applicationName: `${nodeName} harness` })
    const library = PgSession.layer({
      ...settings,
      url,
      listenUrl,
      prepare,
      nodeName,
      connection: { applicationName: nodeName }
    })
    // What the application does under locks needs its own connections until the library has closed.
    return Layer.provideMerge(library, own)
  })
)

// A database that is down while an application starts is no reason to give up; a supervisor would start it again.
NodeRuntime.runMain(
  Effect.provide(serve, layer).pipe(Effect.scoped, Effect.retry(Schedule.spaced("250 millis")), Effect.orDie)
)
