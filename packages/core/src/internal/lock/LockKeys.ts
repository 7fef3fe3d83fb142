/**
 * How locks are called in the database: one letter for the scope, the key of the
 * session that a lock is tied to, and the name that the application gave it. A
 * name that PostgreSQL's `text` cannot hold, or that is too long, is hashed, so
 * that every string is a name.
 */
import { isStorableName, type SessionKey } from "../../SessionId.ts"
import type { LockKey } from "../../SessionLockStorage.ts"
import { sha256Base64Url } from "../Crypto.ts"

const keyLength = 22
/** With scope, key and mark a name has at most 278 characters. */
const maxResourceLength = 254

/** The lock of a resource: a global one, or the one of a session. */
export const lockKeyOf = (resource: string, session: SessionKey | undefined): LockKey => {
  const scope = session === undefined ? "g" : `s${session}`
  // No other name has this form, because the letter stands between scope and name.
  const name = isKept(resource) ? `.${resource}` : `#${sha256Base64Url(hashable(resource))}`
  return `${scope}${name}` as LockKey
}

/** What a program may be shown as the name of a lock; for a hashed name its hash. */
export const resourceOf = (lock: LockKey | undefined): string => {
  if (lock === undefined) return ""
  const name = lock.startsWith("s") ? lock.slice(1 + keyLength) : lock.slice(1)
  return name.startsWith(".") ? name.slice(1) : name
}

const isKept = (resource: string): boolean =>
  resource === "" || (resource.length <= maxResourceLength && isStorableName(resource))

/** UTF-8 has no unpaired surrogates: JSON's escapes keep different names different. */
const hashable = (resource: string): string => JSON.stringify(resource)
