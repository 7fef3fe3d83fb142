/**
 * Loads sessions from the database: one load per key however many fibers ask,
 * and one statement for many keys. A load that something was announced about
 * takes no new joiners, and an authoritative read joins nothing that was sent
 * before it was asked for.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Cache } from "../SessionCache.ts"
import type { Settings } from "../SessionConfig.ts"
import type { SessionStoreUnavailable } from "../SessionError.ts"
import type { SessionKey } from "../SessionId.ts"
import type { SessionRow, Storage } from "../SessionStorage.ts"
import type { Entry } from "./CacheEntries.ts"
import * as Coalescer from "./Coalescer.ts"
import type { Fill } from "./FillRegistry.ts"
import { type Presented, presentedOf } from "./Proof.ts"
import type { AnswerTime } from "./SessionView.ts"

/** What a load found. The entry is usable whether or not it could be cached. */
export interface Loaded {
  /** `undefined`: there is no such session. */
  readonly entry: Entry | undefined
  /** Something was said meanwhile by which the session may have ended: better ask again. */
  readonly overtaken: boolean
  /** When its statement was sent, on this node's clock. */
  readonly sentAt: number
}

interface Load {
  readonly key: SessionKey
  /** The id that was presented first: it is remembered as absent if it turns out to be. */
  readonly token: string
  readonly result: Deferred.Deferred<Loaded, SessionStoreUnavailable>
  /** Made while the database answers: nobody waits for a hash then. */
  presented: Presented | undefined
  /** Registered when the statement is sent. */
  fill: Fill | undefined
}

export interface SessionLoader {
  /** Loads the session of a presented id, whose key this is; `authoritative` answers with a state no older than the call. */
  readonly load: (
    key: SessionKey,
    token: string,
    authoritative: boolean
  ) => Effect.Effect<Loaded, SessionStoreUnavailable>
}

/** How many keys one statement asks for at most. */
const maxBatch = 500
/** How many statements may be in flight: a slow one must not hold up all others. */
const concurrency = 4
/** How many loads may wait. */
const maxPending = 20_000

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  settings: Settings
): Effect.fn.Return<SessionLoader, never, Scope.Scope> {
  const loads = new Map<SessionKey, Load>()

  const settle = (load: Load, fill: Fill, row: SessionRow | undefined, time: AnswerTime): Loaded => {
    const entry = row && cache.admit(fill, row, time)
    const overtaken = entry !== undefined && cache.fills.mayHaveEnded(fill, entry)
    const presented = (load.presented ??= presentedOf(load.token))
    if (entry === undefined || cache.verify(entry, load.token, presented)._tag !== "Accepted") {
      cache.admitAbsence(fill, presented.token, time)
    }
    // Who has ended never comes back: whatever else says so must not be served after this.
    if (entry === undefined) cache.supersede(load.key, undefined)
    return { entry, overtaken, sentAt: time.sentAt }
  }

  const send = (
    batch: ReadonlyArray<Load>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<Loaded, SessionStoreUnavailable>>> => {
    const keys = batch.map((load) => load.key)
    const answered = cache.fills.during(keys, (fills) => {
      batch.forEach((load, index) => (load.fill = fills[index]))
      const sentAt = cache.clock.now()
      return Effect.map(storage.load(keys), ({ now, rows }) => {
        const time = { sentAt, now }
        const rowOf = new Map(rows.map((row) => [row.key, row]))
        return batch.map((load, index) => {
          const fill = fills[index]
          return fill === undefined
            ? Exit.succeed({ entry: undefined, overtaken: false, sentAt })
            : Exit.succeed(settle(load, fill, rowOf.get(load.key), time))
        })
      })
    })
    return Effect.onExitPrimitive(
      Effect.catch(answered, (error) => Effect.succeed(batch.map(() => Exit.fail(error)))),
      () => {
        for (const load of batch) {
          if (loads.get(load.key) === load) loads.delete(load.key)
        }
        return undefined
      }
    )
  }

  const coalescer = yield* Coalescer.make<Load, Loaded, SessionStoreUnavailable>({
    operation: "read the session",
    maxBatch,
    maxPending,
    concurrency,
    patience: { millis: settings.statementTimeout, now: () => cache.clock.now() },
    send
  })

  const isJoinable = (load: Load, authoritative: boolean): boolean =>
    load.fill === undefined || (!authoritative && !load.fill.marked && cache.fills.isCurrent(load.fill))

  const load: SessionLoader["load"] = (key, token, authoritative) =>
    Effect.suspend(() => {
      const current = loads.get(key)
      if (current !== undefined && isJoinable(current, authoritative)) {
        const answer = Deferred.await(current.result)
        if (current.fill === undefined) return answer
        // What was sent before may not know the id yet: the session may just have got it elsewhere.
        return Effect.flatMap(answer, (loaded) =>
          loaded.entry === undefined || cache.verify(loaded.entry, token)._tag === "Accepted"
            ? Effect.succeed(loaded)
            : load(key, token, true)
        )
      }
      const started: Load = { key, token, result: Deferred.makeUnsafe(), presented: undefined, fill: undefined }
      loads.set(key, started)
      coalescer.submitUnsafe(started, (exit) => {
        if (loads.get(key) === started) loads.delete(key)
        Deferred.doneUnsafe(started.result, exit)
      })
      if (!Deferred.isDoneUnsafe(started.result)) started.presented = presentedOf(token)
      return Deferred.await(started.result)
    })

  return { load }
})
