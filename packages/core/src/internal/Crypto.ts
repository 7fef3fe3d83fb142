/**
 * The library's only door to `node:crypto`: random identifiers, SHA-256 and
 * constant-time comparison. They are synchronous on purpose (SHA-256 of a
 * session secret takes 0.3 microseconds), so that verifying an id never
 * suspends a fiber.
 */
import { hash, randomBytes, timingSafeEqual } from "node:crypto"

/** `bytes` bytes from the operating system's CSPRNG, in base64url without padding. */
export const randomBase64Url = (bytes: number): string => randomBytes(bytes).toString("base64url")

/** SHA-256 of the text's UTF-8 bytes, in base64url without padding (43 characters). */
export const sha256Base64Url = (text: string): string => hash("sha256", text, "base64url")

/** Compares two ASCII strings in a time that depends on their lengths only. */
export const equalsConstantTime = (left: string, right: string): boolean => {
  if (left.length !== right.length) return false
  return timingSafeEqual(Buffer.from(left, "latin1"), Buffer.from(right, "latin1"))
}
