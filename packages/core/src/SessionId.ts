/**
 * What a caller presents, and what everybody else may know.
 *
 * A `SessionId` is a 128-bit random key followed by a 256-bit random secret,
 * both in base64url, as one string of 65 characters. It is a credential: it is
 * redacted wherever it is printed, and it refuses to be encoded to JSON. The
 * first 22 characters are the `SessionKey`, a public handle that stays the same
 * for the session's whole life and that may appear in the database, in
 * notifications, logs, spans and URLs. The database holds of the secret its
 * SHA-256 only.
 *
 * The lengths follow OWASP ASVS 5 (V7: at least 128 bits of entropy) with the
 * secret doubled, so that neither a leaked key nor a database dump helps.
 */
import type * as Brand from "effect/Brand"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { equalsConstantTime, randomBase64Url, sha256Base64Url } from "./internal/Crypto.ts"

const keyBytes = 16
const secretBytes = 32
const keyLength = 22
const secretLength = 43

// The last character of an unpadded base64url string carries fewer bits than
// the others. Only canonical spellings are accepted, so that one id has exactly
// one string.
const keyPattern = "[A-Za-z0-9_-]{21}[AQgw]"
const secretPattern = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
const keyRegExp = new RegExp(`^${keyPattern}$`)
const idRegExp = new RegExp(`^${keyPattern}${secretPattern}$`)

/**
 * The public handle of a session: 22 characters of base64url (128 random bits).
 * It proves nothing, so it is fit for a path parameter, a log line or a list of
 * devices.
 */
export type SessionKey = string & Brand.Brand<"SessionKey">

/** The schema of {@link SessionKey}; `SessionKey.make` throws on anything else. */
export const SessionKey = Schema.String.check(
  Schema.isPattern(keyRegExp, { expected: "a session key (22 characters of base64url)" })
).pipe(Schema.brand("SessionKey"))

/**
 * A session's credential. Printing, logging or inspecting one shows
 * `<redacted:SessionId>`; encoding one to JSON fails.
 */
export type SessionId = Redacted.Redacted<string> & Brand.Brand<"SessionId">

const SessionIdSchema = Schema.Redacted(Schema.String.check(Schema.isPattern(idRegExp, { expected: "a session id" })), {
  label: "SessionId",
  disallowJsonEncode: true
}).pipe(Schema.brand("SessionId"))

// The brand has no runtime representation; this is its only constructor.
const brandUnsafe = (text: string): SessionId => Redacted.make(text, { label: "SessionId" }) as SessionId

/**
 * The schema of {@link SessionId}, with its parsers.
 *
 * - `SessionId.fromString(text)`: `None` for anything that is not an id in its
 *   one canonical spelling; costs a regular expression and never throws.
 * - `SessionId.key(id)`: the public handle.
 */
export const SessionId = Object.assign(SessionIdSchema, {
  fromString: (text: string): Option.Option<SessionId> =>
    text.length === keyLength + secretLength && idRegExp.test(text) ? Option.some(brandUnsafe(text)) : Option.none(),
  key: (id: SessionId): SessionKey => keyOfToken(Redacted.value(id))
})

/**
 * The owner of a session, as the application names it: 1 to 255 characters
 * without NUL or unpaired surrogates (PostgreSQL's `text` cannot hold those).
 */
export type UserId = string & Brand.Brand<"UserId">

/** A name under which sessions can be ended together; the same rules as {@link UserId}. */
export type GroupId = string & Brand.Brand<"GroupId">

const storableName = Schema.String.check(
  Schema.makeFilter((text: string) => isStorableName(text) || "1 to 255 characters without NUL or unpaired surrogates")
)

/** The schema of {@link UserId}; `UserId.make(text)` throws on an invalid name. */
export const UserId = storableName.pipe(Schema.brand("UserId"))

/** The schema of {@link GroupId}; `GroupId.make(text)` throws on an invalid name. */
export const GroupId = storableName.pipe(Schema.brand("GroupId"))

/** The longest name (of a user, a group, an attribute) in UTF-16 code units. */
export const maxNameLength = 255

/** Whether PostgreSQL's `text` can hold the name, and it is neither empty nor longer than {@link maxNameLength}. */
export const isStorableName = (text: string): boolean =>
  text.length > 0 && text.length <= maxNameLength && !text.includes("\u0000") && text.isWellFormed()

/** SHA-256 of a session secret in base64url: all that the database knows of it. */
export type SecretHash = string & Brand.Brand<"SecretHash">

// ---------------------------------------------------------------------------
// For the library's own modules: an id's text is called a token there.
// ---------------------------------------------------------------------------

/** @internal A new id from the CSPRNG, optionally for a key that exists already (rotation). */
export const generate = (key?: SessionKey): SessionId =>
  brandUnsafe((key ?? randomBase64Url(keyBytes)) + randomBase64Url(secretBytes))

/**
 * @internal Under this key the options of `create` may hold the id of the session: for bridges to frameworks that mint ids
 * themselves. It must be as hard to guess as ours, and must never have been used. Those of `rotate` may hold the id that the
 * session goes by then, with the same key: for a framework that has renewed it already, or does not.
 */
export const givenId: unique symbol = Symbol.for("@effect-pg-session/core/givenId")

/** @internal Options with an id. */
export interface WithGivenId {
  readonly [givenId]?: SessionId | undefined
}

/** @internal Whether a token has the shape of an id; ids made by a cast may not. */
export const isToken = (token: string): boolean => token.length === keyLength + secretLength && idRegExp.test(token)

/** @internal The id of a text that has its shape. */
export const idOfToken = brandUnsafe

/** @internal */
export const keyOfToken = (token: string): SessionKey => token.slice(0, keyLength) as SessionKey

/** @internal */
export const hashOfToken = (token: string): SecretHash => sha256Base64Url(token.slice(keyLength)) as SecretHash

/** @internal */
export const hashesEqual: (left: SecretHash, right: SecretHash) => boolean = equalsConstantTime

/** @internal The part of a key that is printed. */
export const keyPrefix = (key: SessionKey): string => `${key.slice(0, 8)}…`
