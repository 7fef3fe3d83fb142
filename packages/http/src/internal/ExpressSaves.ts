/**
 * When a save of express-session's begins a session, changes one, or does
 * nothing. It mints ids itself and saves late, so the question decides whether
 * somebody who was logged out stays logged out:
 *
 * - **A request that has loaded its session, or saved it before, only updates.** What ended meanwhile stays ended.
 * - **An id that this node has met is never inserted again**: one that it has loaded, inserted or destroyed. A save of such an
 *   id that no request has loaded (`store.set` with a bare id) updates what the database has, or does nothing.
 * - **A destroy marks the id before anything is sent.** An insert that was under way removes what it has inserted when it
 *   arrives and finds the mark; one that comes later is not sent.
 * - **Any other save inserts, and nothing else**: the id was minted by this request. If it exists (saved by a bare id, by
 *   another node), the refused insert becomes an update.
 */
import {
  givenId,
  type Session,
  SessionAttribute,
  type Sessions,
  SessionStoreUnavailable,
  UserId,
  type WithGivenId
} from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import type { ExpressSessionData, ExpressStoreOptions } from "../ExpressStore.ts"
import * as ExpressChanges from "./ExpressChanges.ts"
import { type Known, type Snapshot, whereItLives } from "./ExpressChanges.ts"
import * as ExpressData from "./ExpressData.ts"

/** Ids are remembered, the latest so many. */
const maxMet = 10_000

/** As the storage answers an id that exists already. */
const isDatabaseError = (error: unknown): boolean =>
  error instanceof SessionStoreUnavailable && error.reason === "DatabaseError"

/** Whether an insert may have been applied, although it failed. */
const isUnknown = (error: unknown): boolean => error instanceof SessionStoreUnavailable && error.outcome === "Unknown"

const valuesOf = (texts: ExpressData.Texts) =>
  Array.from(texts, ([name, text]) => SessionAttribute.value(ExpressData.attributeOf(name), ExpressData.parse(text)))

export const make = (options: ExpressStoreOptions) => {
  const known = new WeakMap<object, Known>()
  const loaded = new WeakMap<object, Known>()
  const turns = new WeakMap<object, Semaphore.Semaphore>()
  const met = new Set<string>()
  const buried = new Set<string>()
  const changes = ExpressChanges.make(options)

  const knownOf = (data: ExpressSessionData, sid: string): Known | undefined => {
    const request = ExpressData.requestOf(data)
    const own = (request === undefined ? undefined : known.get(request)) ?? loaded.get(data)
    return own?.sid === sid ? own : undefined
  }

  const remember = Effect.fnUntraced(function* (
    { data, sid }: Pick<Snapshot, "data" | "sid">,
    texts: ExpressData.Texts,
    session: Session
  ) {
    const overtaken = yield* changes.overtaken(session, texts)
    const request = ExpressData.requestOf(data)
    const now: Known = { sid, session, texts, overtaken }
    if (request === undefined) loaded.set(data, now)
    else known.set(request, now)
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
      const { maxAge, texts, userId } = snapshot
      const before = Option.getOrUndefined(from.session.userId)
      const isLogin = userId !== undefined && userId !== before
      // Another user's data are dropped by the login: there is nothing to merge with.
      const written =
        isLogin && before !== undefined ? Option.some(from.session) : yield* changes.write(sessions, from, snapshot)
      if (Option.isNone(written)) return
      if (!isLogin) return yield* remember(snapshot, texts, written.value)
      const id = ExpressData.idOf(snapshot.sid)
      const login = {
        [givenId]: id,
        userId,
        attributes: before === undefined ? [] : valuesOf(texts),
        expiresIn: changes.lifetimeFor(maxAge),
        ...(maxAge === undefined ? {} : { idleTimeout: maxAge })
      } satisfies WithGivenId & Parameters<Sessions["rotate"]>[1]
      const rotated = yield* whereItLives(sessions.rotate(id, login))
      if (Option.isSome(rotated)) yield* remember(snapshot, texts, rotated.value)
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
      const { sid, texts } = snapshot
      const inserted = yield* Effect.result(insert(sessions, snapshot))
      if (inserted._tag === "Success") {
        keep(met, sid)
        yield* remember(snapshot, texts, inserted.success)
        // It was destroyed before this insert arrived.
        if (buried.has(sid)) yield* sessions.delete(ExpressData.idOf(sid))
        return
      }
      if (isUnknown(inserted.failure)) keep(met, sid)
      // It is there already where somebody saves by the bare id.
      if (isDatabaseError(inserted.failure) && (yield* updateFound(sessions, snapshot))) return
      return yield* Effect.fail(inserted.failure)
    })

  return {
    /** The session's data; `null` where there is none. */
    get: Effect.fnUntraced(function* (sessions: Sessions, sid: string) {
      const found = yield* sessions.find(ExpressData.idOf(sid), { touch: false })
      if (Option.isNone(found)) return null
      keep(met, sid)
      const data = yield* ExpressData.dataOf(found.value)
      loaded.set(data, { sid, session: found.value, texts: ExpressData.textsOf(data), overtaken: new Set() })
      return data
    }),
    /** The data that `get` has answered become a request's. */
    adopt: (request: object, data: ExpressSessionData): void => {
      const from = loaded.get(data)
      if (from !== undefined) known.set(request, from)
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
        const own = knownOf(snapshot.data, snapshot.sid)
        if (own !== undefined) return change(sessions, own, snapshot)
        return met.has(snapshot.sid) || buried.has(snapshot.sid)
          ? Effect.asVoid(updateFound(sessions, snapshot))
          : begin(sessions, snapshot)
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
    /** From now on nothing inserts the id on this node. */
    bury: (sid: string): void => keep(buried, sid),
    destroy: (sessions: Sessions, sid: string) => sessions.delete(ExpressData.idOf(sid))
  }
}

/** Keeps a value as the latest of a bounded set. */
const keep = (set: Set<string>, value: string): void => {
  set.delete(value)
  set.add(value)
  for (const oldest of set) {
    if (set.size <= maxMet) break
    set.delete(oldest)
  }
}

const userIdOf = (answer: string | null | undefined): UserId | undefined =>
  answer === undefined || answer === null ? undefined : UserId.make(answer)
