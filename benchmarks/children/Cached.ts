/**
 * A node whose memory holds so many sessions, in a process of its own so that its heap can be measured (it needs
 * `--expose-gc`) and may be large.
 */
import type { Session, SessionId } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { MinimumLogLevel } from "effect/References"
import { answering, environment } from "../Child.ts"
import * as Node from "../Node.ts"
import * as Rows from "../Rows.ts"
import * as Workload from "../Workload.ts"

const count = Number(environment("BENCH_SESSIONS"))
const attributes = Number(environment("BENCH_ATTRIBUTES"))
const workload = attributes === 1 ? Workload.one : Workload.many(attributes, 200)
const readsPerRun = 100_000

/** What is reachable, in bytes. */
const heap = Effect.gen(function* () {
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.()
    yield* Effect.sleep("20 millis")
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
})

/** All that is known of session `i`. */
const documentOf = (i: number) => ({
  id: Redacted.value(Rows.idOf(i)),
  userId: Workload.userOf(i),
  version: 1,
  createdAt: 1_700_000_000_000,
  authenticatedAt: 1_700_000_000_000,
  lastAccessedAt: 1_700_000_000_000,
  expiresAt: 1_700_000_000_000,
  idleTimeout: 172_800_000,
  attributes: Workload.documentOf(workload, i)
})

const program = Effect.gen(function* () {
  const sessions = yield* Node.node({
    url: Redacted.make(environment("BENCH_URL")),
    cacheCapacity: 2 * count,
    // While a heap of gigabytes is filled, and collected, nothing else may have its turn for seconds.
    maxStaleness: "1 minute",
    statementTimeout: "60 seconds"
  })
  const choices = Workload.drawChoices(readsPerRun, count)
  const ids: Array<SessionId> = []
  /** What a map with one field to mark takes with as many. */
  const tokenOf = (i: number): string => Redacted.value(Rows.idOf(i))
  const makeFloor = () => {
    const marks = new Map<string, { used: number; readonly i: number }>()
    for (let i = 0; i < count; i++) marks.set(tokenOf(i), { used: 0, i })
    return { marks, presented: Array.from({ length: count }, (_, i) => tokenOf(i)) }
  }
  let floor: ReturnType<typeof makeFloor> | undefined = undefined

  /** Does something with every session, in so many fibers; the ids are made anew, as those of requests are. */
  const forEach = <E>(use: (session: Session, i: number) => Effect.Effect<void, E>, touch = false) =>
    Effect.forEach(
      Array.from({ length: 1_000 }, (_, slice) => slice),
      (slice) =>
        Effect.gen(function* () {
          for (let i = slice; i < count; i += 1_000) {
            yield* use(yield* sessions.get(ids[i] ?? Rows.idOf(i), { touch }), i)
          }
        }),
      { concurrency: "unbounded", discard: true }
    )

  yield* answering({
    /** Loads all sessions; answers how many bytes each takes. */
    load: () =>
      Effect.gen(function* () {
        yield* sessions.clearLocalCache
        const before = yield* heap
        yield* forEach(() => Effect.void)
        const bytes = ((yield* heap) - before) / count
        return [(yield* sessions.health).cache.size, bytes]
      }),
    /** Loads and uses all sessions: the activity of each waits to be written, as that of active sessions always does. */
    fill: () =>
      Effect.gen(function* () {
        yield* sessions.clearLocalCache
        for (let i = 0; i < count; i++) ids.push(Rows.idOf(i))
        yield* forEach(() => Effect.void, true)
        return [(yield* sessions.health).cache.size, 0]
      }),
    /** Reads every attribute of every session, which keeps them decoded; answers by how many bytes each has grown. */
    decode: () =>
      Effect.gen(function* () {
        yield* Workload.synced(sessions)
        const before = yield* heap
        yield* forEach((session, i) => Workload.verify(session, workload, i))
        return [(yield* sessions.health).cache.size, ((yield* heap) - before) / count]
      }),
    /** What a row says as nothing but parsed JSON, in a map by id; answers how many bytes each takes. */
    plain: () =>
      Effect.gen(function* () {
        const texts = Array.from({ length: count }, (_, i) => JSON.stringify(documentOf(i)))
        const parsed = new Map<string, unknown>()
        const before = yield* heap
        for (const text of texts) {
          const document = JSON.parse(text) as { readonly id: string }
          parsed.set(document.id, document)
        }
        const bytes = ((yield* heap) - before) / count
        // Both are still there when it was measured.
        return [texts.filter((_, i) => parsed.has(Redacted.value(Rows.idOf(i)))).length, bytes]
      }),
    /** Looks up and marks objects at random in a bare map by id; answers as `read`. */
    floor: () =>
      Effect.sync(() => {
        const { marks, presented } = (floor ??= makeFloor())
        let right = 0
        const start = performance.now()
        for (let i = 0; i < readsPerRun; i++) {
          const choice = choices[i] as number
          const mark = marks.get(presented[choice] as string)
          if (mark === undefined) continue
          mark.used = i
          if (mark.i === choice) right++
        }
        return [right, performance.now() - start]
      }),
    /** Reads sessions at random, all from memory; answers how many were right, and how long it took in milliseconds. */
    read: () =>
      Effect.gen(function* () {
        yield* Workload.synced(sessions)
        const before = (yield* sessions.health).cache
        let right = 0
        const start = performance.now()
        for (let i = 0; i < readsPerRun; i++) {
          const choice = choices[i] as number
          const session = yield* sessions.get(ids[choice] as SessionId)
          // To compare more would touch further memory, which no read does.
          if (session !== undefined) right++
        }
        const took = performance.now() - start
        const after = (yield* sessions.health).cache
        if (after.misses !== before.misses || after.hits - before.hits !== readsPerRun) right = 0
        for (let i = 0; i < 500; i++) {
          const choice = choices[i] as number
          yield* Workload.verify(yield* sessions.get(ids[choice] as SessionId), workload, choice)
        }
        return [right, took]
      })
  })
  // At the end the activity of a million sessions is not waited for, which is a warning.
}).pipe(Effect.scoped, Effect.provideService(MinimumLogLevel, "Error"))

NodeRuntime.runMain(program)
