/**
 * What a request of express-session's has changed of its session, and how that is
 * written: what differs from what the request had loaded, attribute by attribute, so that requests
 * that run at once keep each other's changes.
 */
import {
  type AttributeVersionMismatch,
  Session,
  SessionNotFound,
  type Sessions,
  type UserId
} from "@effect-pg-session/core"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { ExpressSessionData, ExpressStoreOptions } from "../ExpressStore.ts"
import * as ExpressData from "./ExpressData.ts"

/**
 * With `concurrency: "refuse"`: another request has written the property since this one loaded the session. Nothing was
 * stored. Load the session again (`req.session.reload`), and repeat the change.
 */
export class ExpressSessionConflict extends Data.TaggedError("ExpressSessionConflict")<{
  /** The property's name, or "cookie". */
  readonly property: string
}> {
  override get message(): string {
    return `Another request has changed "${this.property}" of this session since it was loaded, and nothing was stored: call \`req.session.reload\` and repeat the change, or use concurrency: "merge"`
  }
}

const defaultLifetime = Duration.toMillis("30 days")
/** What a request knows of its session. */
export interface Known {
  readonly sid: string
  /** As it was when the request loaded or last saved it. */
  readonly session: Session
  /** What the request had then. */
  readonly texts: ExpressData.Texts
  /** The attributes that others have written since; the request still has what was there before. */
  readonly overtaken: ReadonlySet<string>
}

/** What is to be saved, as it was when the application asked: by its turn, it may have gone on. */
export interface Snapshot {
  readonly sid: string
  readonly data: ExpressSessionData
  readonly texts: ExpressData.Texts
  readonly maxAge: number | undefined
  readonly userId: UserId | undefined
}

const conflict = (attribute: string): Effect.Effect<never, ExpressSessionConflict> =>
  Effect.fail(
    new ExpressSessionConflict({
      property: attribute === ExpressData.cookieName ? "cookie" : ExpressData.propertyOf(attribute)
    })
  )

/** `None` where the session has ended, and stays so. */
export const whereItLives = <A, E>(effect: Effect.Effect<A, E | SessionNotFound>) =>
  effect.pipe(
    Effect.asSome,
    Effect.catchIf(
      (error): error is SessionNotFound => error instanceof SessionNotFound,
      () => Effect.succeedNone
    )
  )

const isUnchanged = (name: string, before: string | undefined, now: string | undefined): boolean =>
  ExpressData.isSame(name, before, now) || ExpressData.isEqual(before, now)

export const make = (options: ExpressStoreOptions) => {
  const mayMerge = options.concurrency !== "refuse"

  const lifetimeFor = (maxAge: number | undefined): Duration.Input =>
    options.lifetime ?? Math.max(defaultLifetime, maxAge ?? 0)

  /** The session with the request's changes recorded. */
  const changedBy = (from: Known, { maxAge, texts }: Pick<Snapshot, "maxAge" | "texts">) => {
    const names: Array<string> = []
    let changed = from.session
    for (const [name, text] of texts) {
      if (isUnchanged(name, from.texts.get(name), text)) continue
      names.push(name)
      changed = Session.set(changed, ExpressData.attributeOf(name), ExpressData.parse(text))
      if (name !== ExpressData.cookieName || maxAge === undefined) continue
      changed = Session.setIdleTimeout(changed, maxAge)
      if (options.lifetime === undefined && maxAge > defaultLifetime) changed = Session.setExpiresIn(changed, maxAge)
    }
    for (const name of from.texts.keys()) {
      if (texts.has(name)) continue
      names.push(name)
      changed = Session.remove(changed, ExpressData.attributeOf(name))
    }
    return { changed, names }
  }

  /** Two requests that have made the same of a property are at one: it needs no write, and the others are still to be checked. */
  const atOne = Effect.fnUntraced(function* (
    { attribute, current }: AttributeVersionMismatch,
    from: ExpressData.Texts,
    to: ExpressData.Texts
  ) {
    const stored = yield* ExpressData.sessionTexts(current)
    const text = to.get(attribute)
    if (!isUnchanged(attribute, stored.get(attribute), text)) return yield* conflict(attribute)
    const texts = new Map(from)
    if (text === undefined) texts.delete(attribute)
    else texts.set(attribute, text)
    return texts
  })

  /** Writes what differs from what the request had loaded; `None` where the session was ended meanwhile, and stays so. */
  const write = (
    sessions: Sessions,
    from: Known,
    to: Pick<Snapshot, "maxAge" | "texts">
  ): Effect.Effect<Option.Option<Session>, unknown> =>
    Effect.suspend(() => {
      // Most requests change nothing.
      if (to.texts === from.texts) return sessions.find(from.session.id)
      const { changed, names } = changedBy(from, to)
      // With `resave`, reading is a save without a change instead of a touch: it is activity all the same.
      if (names.length === 0) return sessions.find(changed.id)
      const overtaken = names.find((name) => from.overtaken.has(name))
      if (overtaken !== undefined) return conflict(overtaken)
      if (mayMerge) return whereItLives(sessions.update(changed, { check: "none" }))
      return Effect.catchTag(whereItLives(sessions.update(changed)), "AttributeVersionMismatch", (mismatch) =>
        Effect.flatMap(atOne(mismatch, from.texts, to.texts), (texts) => write(sessions, { ...from, texts }, to))
      )
    })

  /** The attributes that others have written since the request loaded them; nobody asks where the last save wins. */
  const overtaken = (session: Session, texts: ExpressData.Texts): Effect.Effect<ReadonlySet<string>, unknown> =>
    mayMerge
      ? Effect.succeed(new Set())
      : Effect.map(ExpressData.sessionTexts(session), (stored) => {
          const names = new Set([...texts.keys(), ...stored.keys()])
          return new Set([...names].filter((name) => !isUnchanged(name, stored.get(name), texts.get(name))))
        })

  return { lifetimeFor, overtaken, write }
}
