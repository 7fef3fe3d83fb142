/**
 * How express-session's data become a session's attributes, and back: one
 * attribute for each property, and one for the cookie without its date.
 */
import { type AttributeInvalid, RecentMap, Session, SessionAttribute, SessionId } from "@effect-pg-session/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { isDeepStrictEqual } from "node:util"
import type { ExpressSessionData } from "../ExpressStore.ts"
import { ownCopy, sha256Base64Url } from "./Crypto.ts"

const prefix = "express:"
/** The attribute of the cookie; no property has this name. */
export const cookieName = "express.cookie"

/** What the application calls it. */
export const propertyOf = (name: string): string => name.slice(prefix.length)

/** The names come from the application, perhaps from its users: so many definitions are kept. */
const maxDefinitions = 1_000
/** express-session sets `originalMaxAge` to what is left a moment later; a difference up to this is not the application's. */
const drift = 100

const define = (name: string) => SessionAttribute.make(name, Schema.Json)
const definitions = new Map<string, ReturnType<typeof define>>()

/** One definition per name, so that what a reader has decoded is there for the next. */
export const attributeOf = (name: string): ReturnType<typeof define> => {
  const known = definitions.get(name)
  if (known !== undefined) return known
  const defined = define(name)
  if (definitions.size >= maxDefinitions) definitions.clear()
  definitions.set(name, defined)
  return defined
}

const derive = (sid: string): SessionId => {
  const key = sha256Base64Url(`effect-pg-session: express key: ${sid}`)
  // 22 characters hold 128 bits and four more, which must be zero.
  const canonical = Buffer.from(key, "base64url").subarray(0, 16).toString("base64url")
  const secret = sha256Base64Url(`effect-pg-session: express secret: ${sid}`)
  return Option.getOrThrow(SessionId.fromString(canonical + secret))
}

/** The ids of the latest requests: each is asked for several times. express-session has verified who sent them. */
const derived = new RecentMap<string, SessionId>(10_000)
/** Others are derived each time. */
const isRemembered = (sid: string): boolean => /^[\x20-\x7e]{1,128}$/.test(sid)

/** Any id of express-session's becomes one of ours. */
export const idOf = (sid: string): SessionId => {
  const known = derived.get(sid)
  if (known !== undefined) return known
  const id = derive(sid)
  // It may be part of a long header.
  if (isRemembered(sid)) derived.put(ownCopy(sid), id)
  return id
}

/** Attributes as JSON texts, by name. */
export type Texts = ReadonlyMap<string, string>

/** What JSON makes of a value; `undefined`: nothing, as with `JSON.stringify`. */
const jsonOf = (value: unknown): string | undefined => JSON.stringify(value)

export const parse = (text: string): Schema.Json => JSON.parse(text) as Schema.Json

/** The cookie's text. When it expires is the session's business; how long it lasts is kept. */
const cookieTextOf = ({ cookie }: ExpressSessionData): string | undefined => {
  const json: unknown = cookie?.toJSON?.() ?? cookie
  return typeof json === "object" && json !== null ? JSON.stringify({ ...json, expires: undefined }) : jsonOf(json)
}

export const textsOf = (data: ExpressSessionData): Texts => {
  const texts = new Map<string, string>()
  for (const [property, value] of Object.entries(data)) {
    if (property === "cookie") continue
    const text = jsonOf(value)
    if (text !== undefined) texts.set(prefix + property, text)
  }
  const cookie = cookieTextOf(data)
  if (cookie !== undefined) texts.set(cookieName, cookie)
  return texts
}

/** The same properties with the cookie of the data. */
export const withCookie = (texts: Texts, data: ExpressSessionData): Texts => {
  const cookie = cookieTextOf(data)
  return cookie === undefined || texts.get(cookieName) === cookie ? texts : new Map(texts).set(cookieName, cookie)
}

/** Whether two texts say the same; PostgreSQL keeps the properties of an object in an order of its own. */
export const isEqual = (left: string | undefined, right: string | undefined): boolean =>
  left === right ||
  (left !== undefined && right !== undefined && isDeepStrictEqual(JSON.parse(left), JSON.parse(right)))

/** Whether a request has left an attribute as it was. */
export const isSame = (name: string, left: string | undefined, right: string | undefined): boolean => {
  if (left === right) return true
  if (name !== cookieName || left === undefined || right === undefined) return false
  const [one, two] = [left, right].map((text) => JSON.parse(text) as Record<string, unknown>)
  const [from, to] = [one?.["originalMaxAge"], two?.["originalMaxAge"]]
  return (
    typeof from === "number" &&
    typeof to === "number" &&
    Math.abs(from - to) <= drift &&
    JSON.stringify({ ...one, originalMaxAge: to }) === right
  )
}

/** What a session says, whoever asks. */
interface Stored {
  readonly names: number
  readonly properties: ReadonlyArray<readonly [property: string, value: Schema.Json]>
  readonly cookie: Readonly<Record<string, unknown>>
  readonly texts: Texts
}

/** A session does not change, and memory answers many requests with the same one. */
const known = new WeakMap<Session, Stored>()

const store = Effect.fnUntraced(function* (
  session: Session,
  names: ReadonlyArray<string>
): Effect.fn.Return<Stored, AttributeInvalid> {
  const properties: Array<readonly [string, Schema.Json]> = []
  const texts = new Map<string, string>()
  for (const name of names) {
    if (!name.startsWith(prefix)) continue
    const value = yield* Session.getOption(session, attributeOf(name))
    if (Option.isNone(value)) continue
    properties.push([propertyOf(name), value.value])
    texts.set(name, JSON.stringify(value.value))
  }
  const found = yield* Session.getOption(session, attributeOf(cookieName))
  const cookie = Option.isSome(found) ? (found.value as Readonly<Record<string, unknown>>) : {}
  const text = cookieTextOf({ cookie })
  if (text !== undefined) texts.set(cookieName, text)
  const stored = { names: names.length, properties, cookie, texts }
  known.set(session, stored)
  return stored
})

const knownIn = (session: Session, names: ReadonlyArray<string>): Stored | undefined => {
  const stored = known.get(session)
  // Attributes that have expired since are the only ones that can be missing.
  return stored?.names === names.length ? stored : undefined
}

const storedIn = (session: Session): Effect.Effect<Stored, AttributeInvalid> =>
  Effect.suspend(() => {
    const names = session.attributeNames
    const stored = knownIn(session, names)
    return stored === undefined ? store(session, names) : Effect.succeed(stored)
  })

/** What an application gets is its own to change. */
const copyOf = (json: Schema.Json): Schema.Json =>
  typeof json === "object" && json !== null ? parse(JSON.stringify(json)) : json

/** The data of a session, as express-session wants it, and their texts. */
export interface Loaded {
  readonly data: ExpressSessionData
  readonly texts: Texts
}

const load = ({ cookie, properties, texts }: Stored, now: number): Loaded => {
  const maxAge = cookie["originalMaxAge"]
  const expires = typeof maxAge === "number" ? { expires: new Date(now + maxAge).toISOString() } : {}
  // Not by assignment, which takes `__proto__` for something else than a property.
  const own = Object.fromEntries(properties.map(([property, value]) => [property, copyOf(value)]))
  const data = { ...own, cookie: { ...cookie, ...expires } } as ExpressSessionData
  return { data, texts }
}

export const dataOf = (session: Session): Effect.Effect<Loaded, AttributeInvalid> =>
  Effect.flatMap(storedIn(session), (stored) => Effect.map(Clock.currentTimeMillis, (now) => load(stored, now)))

/** The same, where somebody has asked for that of this session before. */
export const knownDataOf = (session: Session, now: number): Loaded | undefined => {
  const stored = knownIn(session, session.attributeNames)
  return stored === undefined ? undefined : load(stored, now)
}

/** The texts of a session as it stands. */
export const sessionTexts = (session: Session) => Effect.map(storedIn(session), ({ texts }) => texts)

/** `cookie.maxAge` in milliseconds. */
export const maxAgeOf = ({ cookie }: ExpressSessionData): number | undefined => {
  const maxAge = cookie?.originalMaxAge
  return typeof maxAge === "number" && Number.isFinite(maxAge) ? Math.max(0, maxAge) : undefined
}

/** The request that a session of express-session's belongs to. */
export const requestOf = (data: ExpressSessionData): object | undefined => {
  const request: unknown = Reflect.get(data, "req")
  return typeof request === "object" && request !== null ? request : undefined
}
