/**
 * When a save of express-session's begins a session, changes one, or does
 * nothing. It mints ids itself and saves late, so the question decides whether
 * somebody who was logged out stays logged out:
 *
 * - **A request that has loaded its session, or saved it before, only updates.** What ended meanwhile stays ended.
 * - **An id that this node has met is never inserted again**: one that it has loaded, inserted or destroyed. A save of such an
 *   id that no request has loaded (`store.set` with a bare id) updates what the database has, or does nothing.
 * - **A destroy marks the id before anything is sent**, and waits for an insert that is under way: what it has then deleted is
 *   gone. An insert that comes later is not sent.
 * - **Any other save inserts, and nothing else**: the id was minted by this request. If it exists (saved by a bare id, by
 *   another node), the refused insert becomes an update. If nobody knows whether it was applied, later saves of the request
 *   find the session, or fail like the first one.
 * - **A login is written before what it lets the user do**: where the limit of sessions refuses it, nothing is stored that an
 *   application could take for one.
 */
import {
  givenId,
  type InMemory,
  RecentMap,
  type Session,
  SessionAttribute,
  SessionId,
  type SessionKey,
  type Sessions,
  SessionStoreUnavailable,
  UserId,
  type WithGivenId
} from "@effect-pg-session/core"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import type { ExpressSessionData, ExpressStoreOptions } from "../ExpressStore.ts"
import * as ExpressChanges from "./ExpressChanges.ts"
import { type Known, type Snapshot, whereItLives } from "./ExpressChanges.ts"
import * as ExpressData from "./ExpressData.ts"

/** Ids are remembered, half as many of the latest at least. */
const maxMet = 20_000

/** As the storage answers an id that exists already. */
const isDatabaseError = (error: unknown): boolean =>
  error instanceof SessionStoreUnavailable && error.reason === "DatabaseError"

/** Whether an insert may have been applied, although it failed. */
const isUnknown = (error: unknown): error is SessionStoreUnavailable =>
  error instanceof SessionStoreUnavailable && error.outcome === "Unknown"

const valuesOf = (texts: ExpressData.Texts) =>
  Array.from(texts, ([name, text]) => SessionAttribute.value(ExpressData.attributeOf(name), ExpressData.parse(text)))

/** What answers at once. */
export interface Near {
  readonly memory: InMemory.Memory
  readonly clock: Clock.Clock
}

/** What is remembered of an id: not the text itself, which may be part of a long header, or long by itself. */
const keyOf = (sid: string): SessionKey => SessionId.key(ExpressData.idOf(sid))

export const make = (options: ExpressStoreOptions) => {
  // By express-session's object, which a reload replaces: what an older one saves meanwhile is not the newer one's base.
  const known = new WeakMap<object, Known>()
  const turns = new WeakMap<object, Semaphore.Semaphore>()
  /** Saves that may have begun a session. */
  const doubtful = new WeakMap<object, SessionStoreUnavailable>()
  const inserting = new Map<SessionKey, Deferred.Deferred<void>>()
  const met = new RecentMap<SessionKey, true>(maxMet)
  const buried = new RecentMap<SessionKey, true>(maxMet)
  const changes = ExpressChanges.make(options)

  /** Applications may wrap the object; its request is still the same. */
  const ownersOf = (data: ExpressSessionData): ReadonlyArray<object> => {
    const request = ExpressData.requestOf(data)
    return request === undefined ? [data] : [data, request]
  }

  const knownOf = (data: ExpressSessionData, sid: string): Known | undefined =>
    ownersOf(data)
      .map((owner) => known.get(owner))
      .find((own) => own?.sid === sid)

  const loaded = (sid: string, session: Session, { data, texts }: ExpressData.Loaded): ExpressSessionData => {
    known.set(data, { sid, session, texts, overtaken: new Set() })
    return data
  }

  const remember = Effect.fnUntraced(function* (
    { data, sid }: Pick<Snapshot, "data" | "sid">,
    texts: ExpressData.Texts,
    session: Session
  ) {
    const overtaken = yield* changes.overtaken(session, texts)
    for (const owner of ownersOf(data)) known.set(owner, { sid, session, texts, overtaken })
  })

  const insert = (sessions: Sessions, { maxAge, sid, texts, userId }: Snapshot) => {
    const create = {
      [givenId]: ExpressData.idOf(sid),
      attributes: valuesOf(texts),
      expiresIn: changes.lifetimeFor(maxAge),
      ...(maxAge === undefined ? {} : { idleTimeout: maxAge })
    } satisfies WithGivenId & Parameters<Sessions["createAnonymous"]>[0]
    return userId === undefined ? sessions.createAnonymous(create) : sessions.create(userId, create)
  }

  /** The same, and a user who was not the session's before. */
  const change = (sessions: Sessions, from: Known, snapshot: Snapshot): Effect.Effect<void, unknown> =>
    Effect.gen(function* () {
      const { maxAge, sid, texts, userId } = snapshot
      const before = Option.getOrUndefined(from.session.userId)
      if (userId !== undefined && userId !== before) {
        const login = {
          [givenId]: ExpressData.idOf(sid),
          userId,
          // A guest's are kept, also those that others have written meanwhile; another user's are dropped.
          attributes: before === undefined ? [] : valuesOf(texts),
          expiresIn: changes.lifetimeFor(maxAge),
          ...(maxAge === undefined ? {} : { idleTimeout: maxAge })
        } satisfies WithGivenId & Parameters<Sessions["rotate"]>[1]
        const rotated = yield* whereItLives(sessions.rotate(from.session.id, login))
        if (Option.isNone(rotated)) return
        if (before !== undefined) return yield* remember(snapshot, texts, rotated.value)
      }
      const written = yield* changes.write(sessions, from, snapshot)
      if (Option.isSome(written)) yield* remember(snapshot, texts, written.value)
    })

  const updateFound = Effect.fnUntraced(function* (sessions: Sessions, snapshot: Snapshot) {
    const { sid } = snapshot
    const found = yield* sessions.find(ExpressData.idOf(sid), { touch: false, refresh: true })
    if (Option.isNone(found)) return false
    const session = found.value
    const from: Known = { sid, session, texts: yield* ExpressData.sessionTexts(session), overtaken: new Set() }
    yield* change(sessions, from, snapshot)
    return true
  })

  const begin = (sessions: Sessions, snapshot: Snapshot): Effect.Effect<void, unknown> =>
    Effect.gen(function* () {
      const { data, sid, texts } = snapshot
      const key = keyOf(sid)
      const arrived = Deferred.makeUnsafe<void>()
      inserting.set(key, arrived)
      const inserted = yield* Effect.onExitPrimitive(Effect.result(insert(sessions, snapshot)), () => {
        if (inserting.get(key) === arrived) inserting.delete(key)
        Deferred.doneUnsafe(arrived, Exit.void)
        return undefined
      })
      if (inserted._tag === "Success") {
        met.put(key, true)
        return yield* remember(snapshot, texts, inserted.success)
      }
      const { failure } = inserted
      if (isUnknown(failure)) {
        met.put(key, true)
        for (const owner of ownersOf(data)) doubtful.set(owner, failure)
      }
      // It is there already where somebody saves by the bare id.
      if (isDatabaseError(failure) && (yield* updateFound(sessions, snapshot))) return
      return yield* Effect.fail(failure)
    })

  return {
    /** The session's data; `null` where there is none. */
    get: (sessions: Sessions, sid: string): Effect.Effect<ExpressSessionData | null, unknown> =>
      Effect.suspend(() => {
        const id = ExpressData.idOf(sid)
        return Effect.flatMap(
          sessions.find(id, { touch: false }),
          (found): Effect.Effect<ExpressSessionData | null, unknown> => {
            if (Option.isNone(found)) return Effect.succeed(null)
            met.put(SessionId.key(id), true)
            const session = found.value
            return Effect.map(ExpressData.dataOf(session), (data) => loaded(sid, session, data))
          }
        )
      }),
    /** The same where memory has it; `undefined`: ask `get`. */
    getNow: ({ clock, memory }: Near, sid: string): ExpressSessionData | undefined => {
      const session = memory.peek(ExpressData.idOf(sid))
      const data = session && ExpressData.knownDataOf(session, clock.currentTimeMillisUnsafe())
      if (session === undefined || data === undefined) return undefined
      if (!met.has(session.key)) met.put(session.key, true)
      return loaded(sid, session, data)
    },
    /** The data that `get` has answered become a request's session. */
    adopt: (request: object, data: ExpressSessionData, session: unknown): void => {
      const from = known.get(data)
      if (from === undefined) return
      known.set(request, from)
      if (typeof session === "object" && session !== null) known.set(session, from)
    },
    /** What is to be saved. Throws what `JSON.stringify`, the option `userId` and `UserId.make` throw. */
    take: (sid: string, data: ExpressSessionData): Snapshot => ({
      sid,
      data,
      texts: ExpressData.textsOf(data),
      maxAge: ExpressData.maxAgeOf(data),
      userId: userIdOf(options.userId?.(data))
    }),
    /** What express-session does for a request, one thing after the other: saves that nobody awaits are saves in order. */
    inTurn: (data: ExpressSessionData) => {
      const request = ExpressData.requestOf(data)
      const turn = request === undefined ? undefined : (turns.get(request) ?? Semaphore.makeUnsafe(1))
      if (request !== undefined && turn !== undefined) turns.set(request, turn)
      return <A, E>(effect: Effect.Effect<A, E>) => (turn === undefined ? effect : turn.withPermit(effect))
    },
    save: (sessions: Sessions, snapshot: Snapshot): Effect.Effect<void, unknown> =>
      Effect.suspend(() => {
        const { data, sid } = snapshot
        const own = knownOf(data, sid)
        if (own !== undefined) return change(sessions, own, snapshot)
        const key = keyOf(sid)
        if (!met.has(key) && !buried.has(key)) return begin(sessions, snapshot)
        return Effect.flatMap(updateFound(sessions, snapshot), (isFound) => {
          const failure = isFound || buried.has(key) ? undefined : doubtful.get(data)
          return failure === undefined ? Effect.void : Effect.fail(failure)
        })
      }),
    /** Express-session touches instead of saving where only the cookie has changed, if anything. */
    touch: (sessions: Sessions, sid: string, data: ExpressSessionData): Effect.Effect<void, unknown> =>
      Effect.gen(function* () {
        const own = knownOf(data, sid)
        if (own === undefined) return yield* Effect.asVoid(sessions.find(ExpressData.idOf(sid)))
        const to = { maxAge: ExpressData.maxAgeOf(data), texts: ExpressData.withCookie(own.texts, data) }
        const written = yield* changes.write(sessions, own, to)
        if (Option.isSome(written)) yield* remember({ data, sid }, to.texts, written.value)
      }),
    /** The same where nothing has changed, nothing else is under way for the request, and memory has the session; `false`: ask `touch`. Throws what the cookie's `toJSON` throws. */
    touchNow: ({ memory }: Near, sid: string, data: ExpressSessionData): boolean => {
      const request = ExpressData.requestOf(data)
      if (request !== undefined && turns.has(request)) return false
      const own = known.get(data) ?? (request && known.get(request))
      if (own?.sid !== sid) return false
      const isUnchanged = ExpressData.withCookie(own.texts, data) === own.texts
      return isUnchanged && memory.find(ExpressData.idOf(sid)) !== undefined
    },
    /** From now on nothing inserts the id on this node. */
    bury: (sid: string): void => buried.put(keyOf(sid), true),
    destroy: (sessions: Sessions, sid: string) =>
      Effect.suspend(() => {
        const under = inserting.get(keyOf(sid))
        const gone = sessions.delete(ExpressData.idOf(sid))
        return under === undefined ? gone : Effect.andThen(Deferred.await(under), gone)
      })
  }
}

const userIdOf = (answer: string | null | undefined): UserId | undefined =>
  answer === undefined || answer === null ? undefined : UserId.make(answer)
