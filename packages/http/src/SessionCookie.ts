/**
 * The session cookie: what it holds, how it is signed, and which attributes it has.
 *
 * Its value is the session's id, the session's version where `readYourWrites` is
 * on, the time of issue where `maxAge` is set, and a signature over the cookie's
 * name and all of that. What is not of this form, not signed by a key of the ring,
 * sent twice, or oversized is refused without looking for a session. A combination
 * of settings that browsers reject fails when the layer is built, because browsers
 * would ignore the cookie without a word.
 */
import { type InvalidSessionConfig, RecentMap, type Session, SessionId, Setting } from "@effect-pg-session/core"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Cookies from "effect/http/Cookies"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { CookieSigner } from "./CookieSigner.ts"
import * as CookieHeader from "./internal/CookieHeader.ts"
import { type CookieSettings, defaultName, maxCookieLength, resolve, table } from "./internal/CookieSettings.ts"
import { ownCopy } from "./internal/Crypto.ts"
import { InvalidCookie, type InvalidCookieReason } from "./SessionHttpError.ts"

/** The settings of the cookie; all but `keys` are optional. */
export interface SessionCookieOptions {
  /** The keys that sign and verify: the first signs, all verify. At least 32 random characters each. */
  readonly keys: ReadonlyArray<Redacted.Redacted<string>>
  /**
   * Default `__Host-session`. With the prefix `__Host-` browsers let no other host and no plain connection set it; use
   * `__Secure-` to share it among subdomains with `domain`.
   */
  readonly name?: string | undefined
  /** Whether browsers send it over encrypted connections (and to localhost) only. Default true. */
  readonly secure?: boolean | undefined
  /** Whether browsers send it along from other sites: "lax" (default) on navigation only, "strict" never, "none" always. */
  readonly sameSite?: "lax" | "strict" | "none" | undefined
  /** Default "/". */
  readonly path?: string | undefined
  /** Share it with all subdomains of this one. Default: this host only. */
  readonly domain?: string | undefined
  /** A jar of its own for each site that embeds the application (CHIPS). Default false. */
  readonly partitioned?: boolean | undefined
  /**
   * How long the browser keeps it after the last visit: at least 1 second, at most 400 days. It is sent again on a visit
   * once half of it has passed. Default "Infinity": until the browser ends. The session's own limits hold in any case.
   */
  readonly maxAge?: Duration.Input | undefined
  /**
   * Whether the cookie carries the version of the session's last write, so that every node serves at least that one. The
   * cookie is then sent again with every response to a request that wrote through `CurrentSession`. Default false.
   */
  readonly readYourWrites?: boolean | undefined
  /**
   * Whether `X-Forwarded-Proto` tells how the caller is connected. "trust" it only behind a proxy that always sets it: a
   * cookie that is `secure` is then not sent in answer to plain requests. Default "ignore".
   */
  readonly forwardedProto?: "ignore" | "trust" | undefined
  /** Whether logout also tells the browser to forget the site's cookies, storage and cache (`Clear-Site-Data`). Default false. */
  readonly clearSiteData?: boolean | undefined
}

/** What a verified cookie says. */
export interface PresentedCookie {
  readonly id: SessionId
  /** The version that a node must have at least; only where `readYourWrites` is on. */
  readonly minVersion: bigint | undefined
  /** Why the same id should be sent again: an old key signed it, half of its age has passed, or it lacks what the settings ask for. */
  readonly renew: "oldKey" | "aged" | "incomplete" | undefined
}

/** The cookie of an application. */
export interface SessionCookies {
  /** Its settings, with durations in milliseconds. */
  readonly settings: CookieSettings
  readonly signer: CookieSigner
  /**
   * Reads the `Cookie` header of a request: `undefined` where the cookie is absent. `now`, in milliseconds since the
   * epoch, decides about renewal only. Never throws.
   */
  readonly decode: (
    header: string | undefined,
    now: number
  ) => Result.Result<PresentedCookie | undefined, InvalidCookie>
  /** The cookie's value for a session as it stands. A credential: it belongs in `Set-Cookie` and nowhere else. */
  readonly encode: (session: Session, now: number) => Redacted.Redacted<string>
  /** The attributes to set it with. */
  readonly attributes: Cookies.Cookie["options"]
  /** The attributes to clear it with: the same ones, and an end in the past. */
  readonly clearingAttributes: Cookies.Cookie["options"]
}

const purpose = (name: string): string => `cookie ${name}`

// The shape of what `encode` writes: id, version, time of issue in seconds, signature.
const shape = /^([A-Za-z0-9_-]{65})(?:\.v(\d{1,19}))?(?:\.t(\d{1,13}))?\.([A-Za-z0-9_-]{43})$/

// Made once: constructing an error costs more than everything else here.
const refusals: Record<InvalidCookieReason, Result.Result<never, InvalidCookie>> = {
  Malformed: Result.fail(new InvalidCookie({ reason: "Malformed" })),
  Forged: Result.fail(new InvalidCookie({ reason: "Forged" })),
  Duplicated: Result.fail(new InvalidCookie({ reason: "Duplicated" })),
  Oversized: Result.fail(new InvalidCookie({ reason: "Oversized" }))
}
const absent: Result.Result<undefined> = Result.succeed(undefined)

/** How many verified cookies are remembered. */
const rememberedCookies = 10_000
/** Headers up to this length are remembered as a whole, so that not even the cookie need be looked for. */
const rememberedLength = 512
const plain = /^[ -~]*$/

/** What a cookie says, and who has signed it. */
interface Verified {
  readonly id: SessionId
  readonly version: string | undefined
  readonly issued: string | undefined
  readonly signedBy: "current" | "former"
  readonly minVersion: bigint | undefined
}

/** What a cookie means, where that does not depend on the time. */
class Lasting implements PresentedCookie {
  readonly id: SessionId
  readonly minVersion: bigint | undefined
  readonly renew: PresentedCookie["renew"]

  constructor(id: SessionId, minVersion: bigint | undefined, renew: PresentedCookie["renew"]) {
    this.id = id
    this.minVersion = minVersion
    this.renew = renew
  }
}

/** @internal */
export const makeCookies = Effect.fnUntraced(function* (
  options: { readonly [Name in keyof CookieSettings]?: unknown },
  keys: ReadonlyArray<Redacted.Redacted<string>>
): Effect.fn.Return<SessionCookies, InvalidSessionConfig> {
  const settings = yield* resolve(options)
  const signer = yield* CookieSigner.make(keys)
  const { maxAge, name, readYourWrites } = settings
  const signedFor = purpose(name)

  // The next request with the same cookie costs a lookup instead of an HMAC. Only what a key has signed gets in, so that nobody can
  // fill them from outside.
  const recently = new RecentMap<string, Verified | Lasting>(rememberedCookies)
  const headers = new RecentMap<string, Verified | Lasting>(rememberedCookies)

  const renewal = ({ issued, signedBy, version }: Omit<Verified, "id">, now: number): PresentedCookie["renew"] => {
    if (signedBy === "former") return "oldKey"
    if ((readYourWrites && version === undefined) || (maxAge !== Infinity && issued === undefined)) return "incomplete"
    return maxAge !== Infinity && now - Number(issued) * 1_000 > maxAge / 2 ? "aged" : undefined
  }

  const verify = (sent: string): Verified | Lasting | InvalidCookieReason => {
    if (name.length + sent.length > maxCookieLength) return "Oversized"
    if (!shape.test(sent)) return "Malformed"
    // What is remembered, here and in the store's memory, must not keep the whole header alive.
    const value = ownCopy(sent)
    const parts = shape.exec(value)
    const signature = parts?.[4]
    const id = parts?.[1] === undefined ? Option.none<SessionId>() : SessionId.fromString(parts[1])
    if (parts === null || signature === undefined || Option.isNone(id)) return "Malformed"
    const signedBy = signer.verify(signedFor, value.slice(0, -signature.length - 1), signature)
    if (signedBy === "refused") return "Forged"
    const minVersion = readYourWrites && parts[2] !== undefined ? BigInt(parts[2]) : undefined
    const said = { version: parts[2], issued: parts[3], signedBy, minVersion } as const
    const verified =
      maxAge === Infinity ? new Lasting(id.value, minVersion, renewal(said, 0)) : { ...said, id: id.value }
    recently.put(value, verified)
    return verified
  }

  const present = (verified: Verified | Lasting, now: number): Result.Result<PresentedCookie> => {
    if (verified instanceof Lasting) return Result.succeed(verified)
    const { id, minVersion } = verified
    return Result.succeed({ id, minVersion, renew: renewal(verified, now) })
  }

  const decodeValue = (
    header: string | undefined,
    value: string,
    now: number
  ): Result.Result<PresentedCookie, InvalidCookie> => {
    const verified = recently.get(value) ?? verify(value)
    if (typeof verified === "string") return refusals[verified]
    if (header !== undefined && header.length <= rememberedLength && plain.test(header)) {
      headers.put(ownCopy(header), verified)
    }
    return present(verified, now)
  }

  const attributes = {
    httpOnly: true,
    secure: settings.secure,
    sameSite: settings.sameSite,
    path: settings.path,
    ...(settings.domain === "" ? {} : { domain: settings.domain }),
    ...(settings.partitioned ? { partitioned: true } : {})
  }

  return {
    settings,
    signer,
    decode: (header, now) => {
      const remembered = header === undefined ? undefined : headers.get(header)
      if (remembered !== undefined) return present(remembered, now)
      const lookup = CookieHeader.find(header, name)
      switch (lookup._tag) {
        case "Absent":
          return absent
        case "Found":
          return decodeValue(header, lookup.value, now)
        case "Duplicated":
          return refusals.Duplicated
        case "Oversized":
          return refusals.Oversized
      }
    },
    encode: (session, now) => {
      const version = readYourWrites ? `.v${session.version}` : ""
      const issued = maxAge === Infinity ? "" : `.t${Math.max(0, Math.floor(now / 1_000))}`
      const signed = `${Redacted.value(session.id)}${version}${issued}`
      return Redacted.make(`${signed}.${signer.sign(signedFor, signed)}`, { label: "SessionCookie" })
    },
    attributes: maxAge === Infinity ? attributes : { ...attributes, maxAge },
    clearingAttributes: { ...attributes, maxAge: 0, expires: new Date(0) }
  }
})

/** The settings that a configuration provider has, as text. */
const fromConfig = Config.all({
  keys: Config.Redacted("SESSION_COOKIE_KEYS"),
  options: Setting.fromConfig("SESSION_COOKIE", table)
})

/**
 * The cookie's settings and keys, as a service: the one place that says how the cookie looks, for routes and APIs alike.
 *
 * @example
 * ```ts
 * const Cookie = SessionCookie.layer({ keys: [Redacted.make(process.env.COOKIE_KEY)], maxAge: "30 days" })
 * ```
 */
export class SessionCookie extends Context.Service<SessionCookie, SessionCookies>()(
  "@effect-pg-session/http/SessionCookie"
) {
  /** The name unless the settings say otherwise. */
  static readonly defaultName = defaultName

  /**
   * Settings from code. Fails with `InvalidSessionConfig` for a value, a key or a combination that cannot work: a prefix
   * without what it demands, `SameSite=None` or `Partitioned` without `Secure`, a name too long for 4 096 bytes.
   */
  static readonly layer = (options: SessionCookieOptions): Layer.Layer<SessionCookie, InvalidSessionConfig> =>
    Layer.effect(SessionCookie, makeCookies(options, options.keys))

  /**
   * Settings from Effect's `Config`, by default the environment: `SESSION_COOKIE_KEYS` (required; the keys, separated by
   * spaces or commas, the signing one first), `SESSION_COOKIE_NAME`, `_SECURE`, `_SAME_SITE`, `_PATH`, `_DOMAIN`, `_PARTITIONED`, `_MAX_AGE`,
   * `_READ_YOUR_WRITES`, `_FORWARDED_PROTO`, `_CLEAR_SITE_DATA`. Fails as `layer` does, and with `ConfigError`.
   */
  static readonly layerConfig: Layer.Layer<SessionCookie, InvalidSessionConfig | Config.ConfigError> = Layer.effect(
    SessionCookie,
    Effect.flatMap(fromConfig, ({ keys, options }) =>
      makeCookies(
        options,
        Redacted.value(keys)
          .split(/[\s,]+/)
          .filter((key) => key !== "")
          .map((key) => Redacted.make(key))
      )
    )
  )
}
