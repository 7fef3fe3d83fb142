/**
 * The package's only door to `node:crypto`: SHA-256, HMAC-SHA256, random bytes and
 * constant-time comparison. They are synchronous on purpose (an HMAC takes about
 * 2 microseconds), so that verifying a cookie never suspends a fiber.
 */
import { createHash, createHmac, createSecretKey, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto"

/** A key prepared once; printing one shows nothing of it. */
export type HmacKey = KeyObject

export const hmacKey = (text: string): HmacKey => createSecretKey(text, "utf8")

/** HMAC-SHA256 of a purpose and a text, which cannot be mistaken for one another, in base64url (43 characters). */
export const hmacBase64Url = (key: HmacKey, purpose: string, text: string): string =>
  createHmac("sha256", key).update(purpose).update("\0").update(text).digest("base64url")

/** SHA-256 of the text's UTF-8 bytes, in base64url (43 characters). */
export const sha256Base64Url = (text: string): string => createHash("sha256").update(text).digest("base64url")

/** `bytes` bytes from the operating system's CSPRNG, in base64url without padding. */
export const randomBase64Url = (bytes: number): string => randomBytes(bytes).toString("base64url")

/** The same ASCII text in memory of its own: a part of a long text keeps all of it alive otherwise. */
export const ownCopy = (text: string): string => Buffer.from(text, "latin1").toString("latin1")

/** Compares two ASCII strings in a time that depends on their lengths only. */
export const equalsConstantTime = (left: string, right: string): boolean => {
  if (left.length !== right.length) return false
  return timingSafeEqual(Buffer.from(left, "latin1"), Buffer.from(right, "latin1"))
}
