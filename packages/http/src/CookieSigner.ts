/**
 * Signs what leaves in a cookie and verifies what comes back, with HMAC-SHA256 and
 * a ring of keys: the first one signs, all of them verify. So a key is replaced
 * by putting the new one in front, and by removing the old one once the cookies
 * that it signed have been renewed or have expired. A signature is compared in
 * constant time, and is bound to a purpose: one made for a cookie is worthless as
 * a CSRF token.
 */
import { InvalidSessionConfig } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { equalsConstantTime, hmacBase64Url, hmacKey } from "./internal/Crypto.ts"

/** The shortest key, in characters; 32 random bytes in base64 have 44. */
const minKeyLength = 32

/** How many keys a ring may hold. */
const maxKeys = 16

/** Who signed: the first key, an older one, or nobody we know. */
export type SignatureVerdict = "current" | "former" | "refused"

/** A ring of keys. */
export interface CookieSigner {
  /** The signature of the first key, 43 characters of base64url. */
  readonly sign: (purpose: string, text: string) => string
  /** Whether, and by which key, this was signed for that purpose. Never throws, whatever the signature looks like. */
  readonly verify: (purpose: string, text: string, signature: string) => SignatureVerdict
}

const refuse = (value: string, allowed: string) =>
  Effect.fail(new InvalidSessionConfig({ setting: "keys", value, allowed }))

const make = (keys: ReadonlyArray<Redacted.Redacted<string>>): Effect.Effect<CookieSigner, InvalidSessionConfig> =>
  Effect.suspend(() => {
    if (keys.length > maxKeys) return refuse(`a list of ${keys.length}`, `at most ${maxKeys} keys`)
    const [first, ...others] = keys.map((key) => Redacted.value(key))
    if (first === undefined) {
      return refuse("an empty list", "at least one key, such as the output of `openssl rand -base64 32`")
    }
    if ([first, ...others].some((key) => key.length < minKeyLength)) {
      return refuse(
        "<redacted>",
        `keys of at least ${minKeyLength} random characters each, such as the output of \`openssl rand -base64 32\``
      )
    }
    const current = hmacKey(first)
    const former = others.map(hmacKey)
    const sign = (purpose: string, text: string): string => hmacBase64Url(current, purpose, text)
    return Effect.succeed<CookieSigner>({
      sign,
      verify: (purpose, text, signature) =>
        equalsConstantTime(sign(purpose, text), signature)
          ? "current"
          : former.some((key) => equalsConstantTime(hmacBase64Url(key, purpose, text), signature))
            ? "former"
            : "refused"
    })
  })

/**
 * Constructors.
 *
 * - `make(keys)`: a ring, the signing key first. Fails with `InvalidSessionConfig` where there is no key, more than 16,
 *   or one that is shorter than 32 characters. Keys are secrets: take them from a secret store, not from the code.
 */
export const CookieSigner = { make }
