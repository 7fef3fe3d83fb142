/** Signatures, key rings, and what a cookie looks like. */
import { SessionId, SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { InvalidSessionConfig } from "@effect-pg-session/core"
import { inspect } from "node:util"
import { CookieSigner, SessionCookie, type SessionCookieOptions, type SessionCookies } from "../src/index.ts"

const one = Redacted.make("the first key of 32 characters..")
const two = Redacted.make("the second key of 32 characters.")

const cookies = (options?: Partial<SessionCookieOptions>) =>
  Effect.map(Layer.build(SessionCookie.layer({ keys: [one], ...options })), Context.get(SessionCookie))

const aSession = Effect.gen(function* () {
  return yield* (yield* SessionStore).create(UserId.make("alice"))
}).pipe(Effect.provide(SessionStore.layerMemory()))

/** What a request with such a cookie says. */
const header = (cookie: SessionCookies, value: string) => `${cookie.settings.name}=${value}`

describe("a ring of keys", () => {
  it.effect(
    "the first key signs, all verify, and an unknown one does not",
    Effect.fnUntraced(function* () {
      const old = yield* CookieSigner.make([one])
      const both = yield* CookieSigner.make([two, one])
      const young = yield* CookieSigner.make([two])
      const signature = old.sign("cookie", "text")
      assert.match(signature, /^[A-Za-z0-9_-]{43}$/)
      assert.strictEqual(old.verify("cookie", "text", signature), "current")
      assert.strictEqual(both.verify("cookie", "text", signature), "former")
      assert.strictEqual(young.verify("cookie", "text", signature), "refused")
      assert.strictEqual(both.sign("cookie", "text"), young.sign("cookie", "text"))
    })
  )

  it.effect(
    "a signature is for one text and one purpose",
    Effect.fnUntraced(function* () {
      const signer = yield* CookieSigner.make([one])
      const signature = signer.sign("cookie", "text")
      assert.strictEqual(signer.verify("csrf", "text", signature), "refused")
      assert.strictEqual(signer.verify("cookie", "texts", signature), "refused")
      assert.strictEqual(signer.verify("cooki", "etext", signature), "refused")
    })
  )

  it.effect(
    "nothing but the one spelling of a signature is accepted, and nothing throws",
    Effect.fnUntraced(function* () {
      const signer = yield* CookieSigner.make([one])
      const signature = signer.sign("cookie", "text")
      const wrong = [
        "",
        signature.slice(1),
        `${signature}=`,
        `${signature.slice(0, -1)}~`,
        "\u{1f36a}".repeat(43),
        "é".repeat(43),
        "a".repeat(43)
      ]
      for (const text of wrong) assert.strictEqual(signer.verify("cookie", "text", text), "refused", text)
      // The last character of base64url has bits that do not count: they must not make a second spelling.
      const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      const spellings = Array.from(last, (character) => signature.slice(0, -1) + character)
      assert.strictEqual(spellings.filter((text) => signer.verify("cookie", "text", text) !== "refused").length, 1)
    })
  )

  it.effect(
    "no key, a short key and too many keys are refused, without showing any",
    Effect.fnUntraced(function* () {
      const short = Redacted.make("hunter2")
      for (const keys of [[], [short], [one, short], Array.from({ length: 17 }, () => one)]) {
        const error = yield* Effect.flip(CookieSigner.make(keys))
        assert.strictEqual(error._tag, "InvalidSessionConfig")
        assert.strictEqual(error.setting, "keys")
        assert.notInclude(error.message, "hunter2")
        assert.include(error.message, keys.length === 17 ? "at most 16" : "openssl rand -base64 32")
      }
      assert.notInclude(inspect(yield* CookieSigner.make([one]), { depth: 9 }), Redacted.value(one))
    })
  )
})

describe("the cookie", () => {
  it.effect(
    "has the safest attributes unless told otherwise",
    Effect.fnUntraced(function* () {
      const { attributes, clearingAttributes, settings } = yield* cookies()
      assert.strictEqual(settings.name, "__Host-session")
      assert.strictEqual(SessionCookie.defaultName, "__Host-session")
      assert.deepStrictEqual(attributes, { httpOnly: true, secure: true, sameSite: "lax", path: "/" })
      assert.deepStrictEqual(clearingAttributes, { ...attributes, maxAge: 0, expires: new Date(0) })
    }, Effect.scoped)
  )

  it.effect(
    "comes back as it was sent, and shows its id to nobody",
    Effect.fnUntraced(function* () {
      const session = yield* aSession
      const cookie = yield* cookies({ readYourWrites: true, maxAge: "1 day" })
      const value = cookie.encode(session, 5_000)
      const presented = Result.getOrThrow(cookie.decode(header(cookie, Redacted.value(value)), 5_000))
      assert.strictEqual(Redacted.value(presented?.id ?? session.id), Redacted.value(session.id))
      assert.strictEqual(presented?.minVersion, session.version)
      assert.isUndefined(presented?.renew)
      for (const shown of [
        JSON.stringify(value),
        inspect(value),
        inspect(presented, { depth: 9 }),
        inspect(cookie, { depth: 9 })
      ]) {
        assert.notInclude(shown, Redacted.value(session.id).slice(22))
      }
    }, Effect.scoped)
  )

  it.effect(
    "is found among others, and only under its exact name",
    Effect.fnUntraced(function* () {
      const session = yield* aSession
      const cookie = yield* cookies()
      const value = Redacted.value(cookie.encode(session, 0))
      const found = (text: string) =>
        Result.match(cookie.decode(text, 0), {
          onFailure: ({ reason }) => reason,
          onSuccess: (presented) => presented !== undefined
        })
      assert.isTrue(found(`a=b; __Host-session=${value}; c=d`))
      assert.isTrue(found(`a=b;\t__Host-session =  ${value}\t;c`))
      assert.isTrue(found(`;; =; a; __Host-session=${value}`))
      for (const name of [
        "__host-session",
        "__Host-Session",
        "x__Host-session",
        "__Host-session2",
        "\u00a0__Host-session",
        "\u2000__Host-session",
        "\ufeff__Host-session",
        "\v__Host-session",
        "__Host-session\u0000",
        "=__Host-session",
        '"__Host-session"',
        "%5F_Host-session"
      ]) {
        assert.isFalse(found(`${name}=${value}`), JSON.stringify(name))
      }
    }, Effect.scoped)
  )

  it.effect(
    "that is not exactly what was sent is refused, and the reason says nothing of it",
    Effect.fnUntraced(function* () {
      const session = yield* aSession
      const cookie = yield* cookies()
      const other = yield* cookies({ name: "__Host-other" })
      const stranger = yield* cookies({ keys: [two] })
      const value = Redacted.value(cookie.encode(session, 0))
      const id = value.slice(0, 65)
      const reason = (text: string) =>
        Result.match(cookie.decode(text, 0), { onFailure: (error) => error, onSuccess: () => undefined })?.reason
      const of = (text: string) => reason(header(cookie, text))
      assert.isUndefined(of(value))
      for (const text of [
        "",
        id,
        `${id}.`,
        `"${value}"`,
        `${value}.`,
        `${value}=`,
        ` ${value} x`,
        value.slice(1),
        `${id}.v1.v1${value.slice(65)}`,
        `${id}.v-1${value.slice(65)}`,
        encodeURIComponent(`${value}%`),
        `${value}\u0000`,
        `${value},${value}`,
        "null",
        "[object Object]",
        "__proto__",
        "s:x.y"
      ]) {
        assert.strictEqual(of(text), "Malformed", text)
      }
      for (const text of [
        `${id}.v1${value.slice(65)}`,
        `${id}.t1${value.slice(65)}`,
        `${id.slice(0, 22)}${"A".repeat(43)}${value.slice(65)}`,
        `${id}.${"A".repeat(43)}`,
        Redacted.value(stranger.encode(session, 0)),
        Redacted.value(other.encode(session, 0))
      ]) {
        assert.strictEqual(of(text), "Forged", text)
      }
      assert.strictEqual(reason(`${header(cookie, value)}; ${header(cookie, value)}`), "Duplicated")
      assert.strictEqual(reason(`${header(cookie, "planted")}; ${header(cookie, value)}`), "Duplicated")
      assert.strictEqual(of("x".repeat(4_100)), "Oversized")
      assert.strictEqual(reason(`${"x".repeat(70_000)}; ${header(cookie, value)}`), "Oversized")
      const refused = Result.getFailure(cookie.decode(header(cookie, "planted-value"), 0))
      assert.notInclude(inspect(refused, { depth: 9 }), "planted-value")
    }, Effect.scoped)
  )

  it.effect.prop(
    "any header of any bytes is decoded without throwing, and only what was signed leads to an id",
    {
      text: Arbitrary.schema(Schema.String),
      before: Arbitrary.schema(Schema.String),
      cut: Arbitrary.schema(Schema.Int)
    },
    ({ before, cut, text }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const cookie = yield* cookies({ readYourWrites: true })
          const session = yield* aSession
          const value = Redacted.value(cookie.encode(session, 0))
          const at = Math.abs(cut) % value.length
          const mutated = value.slice(0, at) + text + value.slice(at + 1)
          for (const candidate of [
            text,
            `${before}; ${header(cookie, text)}`,
            header(cookie, mutated),
            `${before};${header(cookie, mutated)};${text}`
          ]) {
            const presented = Result.getOrElse(cookie.decode(candidate, 0), () => undefined)
            if (presented !== undefined) assert.include(candidate, value)
          }
        })
      )
  )
})

describe("what was verified", () => {
  it.effect(
    "is worth the same the second time, and what was refused is refused again",
    Effect.fnUntraced(function* () {
      const session = yield* aSession
      const old = yield* cookies({ maxAge: "1 hour" })
      const cookie = yield* cookies({ keys: [two, one], maxAge: "1 hour", readYourWrites: true })
      const renewals = (value: string, now: number) =>
        Array.from({ length: 2 }, () => Result.getOrThrow(cookie.decode(header(cookie, value), now))?.renew)
      const own = Redacted.value(cookie.encode(session, 0))
      assert.deepStrictEqual(renewals(own, 0), [undefined, undefined])
      assert.deepStrictEqual(renewals(own, 1_801_000), ["aged", "aged"])
      assert.deepStrictEqual(renewals(Redacted.value(old.encode(session, 0)), 0), ["oldKey", "oldKey"])
      const forged = `${own.slice(0, -43)}${"A".repeat(43)}`
      for (let attempt = 0; attempt < 2; attempt++)
        assert.isTrue(Result.isFailure(cookie.decode(header(cookie, forged), 0)))
    }, Effect.scoped)
  )
})

describe("settings", () => {
  const refused = (options: Partial<SessionCookieOptions>) =>
    Effect.map(Effect.flip(cookies(options)), (error) => error.setting)

  it.effect(
    "that browsers reject fail at start",
    Effect.fnUntraced(function* () {
      assert.strictEqual(yield* refused({ secure: false }), "secure")
      assert.strictEqual(yield* refused({ path: "/shop" }), "path")
      assert.strictEqual(yield* refused({ domain: "example.com" }), "domain")
      assert.strictEqual(yield* refused({ name: "__HOST-x", domain: "example.com" }), "domain")
      assert.strictEqual(yield* refused({ name: "__Secure-x", secure: false }), "secure")
      assert.strictEqual(yield* refused({ name: "__secure-x", secure: false }), "secure")
      assert.strictEqual(yield* refused({ name: "sid", secure: false, sameSite: "none" }), "sameSite")
      assert.strictEqual(yield* refused({ name: "sid", secure: false, partitioned: true }), "partitioned")
      assert.strictEqual(yield* refused({ maxAge: "401 days" }), "maxAge")
      assert.strictEqual(yield* refused({ maxAge: 0 }), "maxAge")
      for (const name of ["", "a b", "a;b", "a=b", "é", "a\r\nset-cookie:b", "x".repeat(201)])
        assert.strictEqual(yield* refused({ name }), "name")
      for (const path of ["", "shop", "/a;b", "/a\nb", "/é"])
        assert.strictEqual(yield* refused({ name: "sid", path }), "path")
      for (const domain of ["localhost", "1.2.3.4", "a..b", "a;b.c", "example.com\r\n"])
        assert.strictEqual(yield* refused({ name: "sid", domain }), "domain")
    }, Effect.scoped)
  )

  it.effect(
    "that work are accepted",
    Effect.fnUntraced(function* () {
      yield* cookies({ name: "__Secure-x", domain: "example.com", path: "/shop", sameSite: "none", partitioned: true })
      yield* cookies({ name: "sid", secure: false, sameSite: "strict" })
      yield* cookies({ maxAge: "400 days" })
    }, Effect.scoped)
  )

  it.effect(
    "come from the environment, too",
    Effect.fnUntraced(function* () {
      const env = {
        SESSION_COOKIE_KEYS: `${Redacted.value(two).replaceAll(" ", "-")}, ${Redacted.value(one).replaceAll(" ", "-")}`,
        SESSION_COOKIE_NAME: "__Secure-sid",
        SESSION_COOKIE_SAME_SITE: "strict",
        SESSION_COOKIE_MAX_AGE: "7 days",
        SESSION_COOKIE_READ_YOUR_WRITES: "true",
        SESSION_COOKIE_FORWARDED_PROTO: "trust"
      }
      const from = (env: Record<string, string>) =>
        Effect.map(
          Layer.build(
            SessionCookie.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env))))
          ),
          Context.get(SessionCookie)
        )
      const { settings, signer } = yield* from(env)
      assert.deepInclude(settings, {
        name: "__Secure-sid",
        sameSite: "strict",
        maxAge: 604_800_000,
        readYourWrites: true,
        forwardedProto: "trust"
      })
      const first = yield* CookieSigner.make([Redacted.make(Redacted.value(two).replaceAll(" ", "-"))])
      assert.strictEqual(signer.sign("a", "b"), first.sign("a", "b"))
      assert.strictEqual((yield* Effect.flip(from({})))._tag, "ConfigError")
      assert.strictEqual(
        (yield* Effect.flip(from({ ...env, SESSION_COOKIE_SECURE: "no" })))._tag,
        "InvalidSessionConfig"
      )
      assert.strictEqual((yield* Effect.flip(from({ SESSION_COOKIE_KEYS: " , " })))._tag, "InvalidSessionConfig")
      expectTypeOf(SessionCookie.layerConfig).toEqualTypeOf<
        Layer.Layer<SessionCookie, InvalidSessionConfig | Config.ConfigError>
      >()
    }, Effect.scoped)
  )

  it.effect(
    "leave room: name and value stay within 4 096 bytes",
    Effect.fnUntraced(function* () {
      const session = yield* aSession
      const cookie = yield* cookies({ name: "x".repeat(200), readYourWrites: true, maxAge: "1 day" })
      const value = Redacted.value(
        cookie.encode({ ...session, id: session.id, version: 9_223_372_036_854_775_807n }, 8.64e15)
      )
      assert.isAtMost(200 + value.length, 4_096)
      assert.isDefined(Result.getOrThrow(cookie.decode(header(cookie, value), 0)))
      assert.isTrue(SessionId.fromString(value.slice(0, 65))._tag === "Some")
    }, Effect.scoped)
  )
})
