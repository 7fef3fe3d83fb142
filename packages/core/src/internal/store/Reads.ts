/**
 * Finding sessions: from memory where the cache may be served, from the database
 * where it may not, and never from anywhere without proof of the secret.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import { type ReadError, SessionNotFound, SessionStoreUnavailable } from "../../SessionError.ts"
import { isToken, keyOfToken, type SessionId, type SessionKey } from "../../SessionId.ts"
import type { Storage } from "../../SessionStorage.ts"
import type { FindOptions, Sessions } from "../../SessionStore.ts"
import type { Handle } from "../CacheEntries.ts"
import * as Coalescer from "../Coalescer.ts"
import * as InMemory from "../InMemory.ts"
import type { SessionLoader } from "../SessionLoader.ts"
import { confirm } from "../TouchFlush.ts"
import type { Operations } from "./Operations.ts"
import { Read } from "./Read.ts"

/** An answer that is older than `maxStaleness` when it arrives, or was overtaken by an ending, is asked for again, this often. */
const staleAnswerRetries = 3
/** Synchronous touches that may wait, and that share a statement. */
const maxPendingTouches = 20_000
const maxTouchBatch = 500

export type Reads = Pick<Sessions, "get" | "find">

const operation = "read the session"

export const make = Effect.fnUntraced(function* (
  cache: Cache,
  storage: Storage,
  loader: SessionLoader,
  settings: Settings,
  operations: Operations
) {
  const { clock } = cache

  const touchNow = yield* Coalescer.make<SessionKey, void, SessionStoreUnavailable>({
    operation,
    maxBatch: maxTouchBatch,
    maxPending: maxPendingTouches,
    concurrency: 1,
    patience: { millis: settings.statementTimeout, now: () => clock.now() },
    send: (keys) =>
      Effect.suspend(() => {
        const touches = [...new Set(keys)].map((key) => ({ key, age: 0 }))
        const sentAt = clock.now()
        return storage.touch(touches).pipe(
          Effect.map(({ now, touched }) => confirm(cache, touches, touched, { sentAt, now })),
          Effect.exit,
          Effect.map((exit) => keys.map(() => exit))
        )
      })
  })

  /** Counts as activity. `undefined`: the database said that the session has ended. */
  const touched = (handle: Handle, token: string): Effect.Effect<Handle | undefined, SessionStoreUnavailable> => {
    const { entry } = handle
    const now = clock.now()
    if (now < entry.serveUntil && !cache.touches.isFull) {
      cache.touch(entry, now)
      return Effect.succeed(handle)
    }
    // Too close to the idle deadline to gather, or too much gathered already: the database has the last word.
    return Effect.flatMap(touchNow.submit(entry.key), () => {
      const renewed = cache.peek(entry.key)
      const isCurrent = renewed !== undefined && renewed.version >= entry.version
      // The touch took its time, and says nothing of the version.
      if (isCurrent && cache.isRecent(renewed, clock.now())) {
        const proof = cache.verify(renewed, token)
        return Effect.succeed(proof._tag === "Accepted" ? proof.handle : undefined)
      }
      return lookUp(token, false, undefined, true)
    })
  }

  /** Not a generator: a lone read shall wait for the database only, and this runs for each that memory cannot answer. */
  const load = (
    key: SessionKey,
    token: string,
    authoritative: boolean,
    attempt = 1
  ): Effect.Effect<Handle | undefined, SessionStoreUnavailable> =>
    Effect.flatMap(loader.load(key, token, authoritative), ({ entry, overtaken, sentAt }) => {
      const isTooOld = clock.now() - sentAt > settings.maxStaleness
      if (attempt < staleAnswerRetries && (isTooOld || overtaken)) return load(key, token, authoritative, attempt + 1)
      if (isTooOld) return Effect.fail(tooOld(settings.maxStaleness))
      // Whoever joined a load that took its time began later than its statement, and the session may have ended in between.
      if (!authoritative && entry !== undefined && clock.now() >= entry.deadline)
        return load(key, token, true, attempt + 1)
      if (entry === undefined) return Effect.succeed(undefined)
      const proof = cache.verify(entry, token)
      if (proof._tag === "Reused") operations.publish({ _tag: "SecretReused", key: entry.key })
      return Effect.succeed(proof._tag === "Accepted" ? proof.handle : undefined)
    })

  const miss = (key: SessionKey, token: string, authoritative: boolean) => {
    cache.counters.misses++
    return load(key, token, authoritative)
  }

  const lookUp = (
    token: string,
    refresh: boolean,
    minVersion: bigint | undefined,
    fromDatabase: boolean
  ): Effect.Effect<Handle | undefined, SessionStoreUnavailable> =>
    Effect.suspend(() => {
      if (!operations.isOpen()) return Effect.fail(operations.closed(operation))
      if (!isToken(token)) return Effect.succeed(undefined)
      const key = keyOfToken(token)
      if (fromDatabase || refresh) return miss(key, token, refresh)
      const now = clock.now()
      const entry = cache.live(key, now)
      if (entry !== undefined && (minVersion === undefined || entry.version >= minVersion)) {
        const proof = cache.verify(entry, token)
        if (proof._tag === "Accepted") {
          cache.counters.hits++
          entry.used = true
          return Effect.succeed(proof.handle)
        }
        // The session may have been rotated elsewhere a moment ago: only the database knows.
      }
      if (minVersion === undefined && cache.isAbsent(key, token, now)) return Effect.succeed(undefined)
      return miss(key, token, minVersion !== undefined)
    })

  const read = (
    token: string,
    options: FindOptions | undefined
  ): Effect.Effect<Handle | undefined, SessionStoreUnavailable> =>
    Effect.flatMap(lookUp(token, options?.refresh === true, options?.minVersion, false), (handle) =>
      handle === undefined || options?.touch === false ? Effect.succeed(handle) : touched(handle, token)
    )

  /** The path that matters: a map lookup, and not even that for an id object that was looked up before. */
  const hit = (id: SessionId): Handle | undefined => {
    const now = clock.now()
    if (cache.touches.isFull) return undefined
    const handle = cache.hit(id, now)
    if (handle !== undefined) cache.touch(handle.entry, now)
    return handle
  }

  const performGet = (id: SessionId, options: FindOptions | undefined): Effect.Effect<Session, ReadError> => {
    if (options === undefined && operations.isOpen()) {
      const handle = hit(id)
      if (handle !== undefined) return handle.exit
    }
    const token = Redacted.value(id)
    return Effect.flatMap(
      read(token, options),
      (handle) =>
        handle?.exit ?? Exit.fail(new SessionNotFound({ key: isToken(token) ? keyOfToken(token) : undefined }))
    )
  }

  const performFind = (
    id: SessionId,
    options: FindOptions | undefined
  ): Effect.Effect<Option.Option<Session>, SessionStoreUnavailable> => {
    if (options === undefined && operations.isOpen()) {
      const handle = hit(id)
      if (handle !== undefined) return found(handle)
    }
    return Effect.flatMap(read(Redacted.value(id), options), (handle) => (handle === undefined ? none : found(handle)))
  }

  const reads: Reads = {
    get: (id, options) => new Read(performGet, id, options),
    find: (id, options) => new Read(performFind, id, options)
  }
  InMemory.register(reads.find, {
    find: (id) => (operations.isOpen() ? hit(id) : undefined),
    peek: (id) => (operations.isOpen() ? cache.hit(id, clock.now()) : undefined)
  })
  return reads
})

const tooOld = (maxStaleness: number): SessionStoreUnavailable =>
  new SessionStoreUnavailable({
    operation,
    reason: "Timeout",
    outcome: "NotApplied",
    detail: `${staleAnswerRetries} answers in a row took longer than maxStaleness (${maxStaleness} ms)`
  })

const found = (handle: Handle): Exit.Exit<Option.Option<Session>> => Exit.succeed(Option.some(handle))
const none: Exit.Exit<Option.Option<Session>> = Exit.succeed(Option.none())
