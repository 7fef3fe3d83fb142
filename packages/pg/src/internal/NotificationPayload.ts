/**
 * What the library's notifications look like on the wire. The first character is
 * the format's version, the second one the kind:
 *
 *     1C<change>;<change>...   changes: U|R|D|X|E, the 22 characters of the key, and the new version or "-"
 *     1U<user id>              all sessions of a user
 *     1G<group id>             all sessions of a group
 *     1A                       all sessions
 *     1B<nonce>                a beat
 *     1L<node>\n<lock>         a permit of the lock is free, and kept for the node
 *
 * The statements write payloads in SQL (see `sql/Text.ts` and `sql/LockFunctions.ts`); this module reads
 * them. Anybody who may connect to the database can send anything, so `parse`
 * never throws, and whatever is odd is `Unreadable` as a whole.
 *
 * A payload that begins with another digit is from another version of the library,
 * which runs beside this one during a deployment, and may announce a revocation. It is
 * read as `All`: what is in memory is dropped, and nothing is missed.
 */
import { isStorableName } from "@effect-pg-session/core"
import type { Change, ChangeKind, GroupId, LockKey, Notice, SessionKey, UserId } from "@effect-pg-session/core"

/** PostgreSQL refuses payloads of 8 000 bytes and more. */
export const maxPayloadBytes = 7999

/** How many changes one payload names at most: 180 of 43 bytes, semicolons and the head stay below the limit. */
export const maxChanges = 180

/** The head of a payload with changes. */
export const changesHead = "1C"
/** The head of a payload that names a user. */
export const userHead = "1U"
/** The head of a payload that names a group. */
export const groupHead = "1G"
/** The payload that names all sessions. */
export const allPayload = "1A"
/** The head of a beat. */
export const beatHead = "1B"
/** The head of a payload about a lock. */
export const lockHead = "1L"

/** How a change begins, by its kind. */
export const letterOf = {
  Updated: "U",
  Rotated: "R",
  Deleted: "D",
  Expired: "X",
  Evicted: "E"
} as const satisfies Record<ChangeKind, string>

const kindOf: ReadonlyMap<string, ChangeKind> = new Map([
  ["U", "Updated"],
  ["R", "Rotated"],
  ["D", "Deleted"],
  ["X", "Expired"],
  ["E", "Evicted"]
])

const unreadable: Notice = { _tag: "Unreadable" }
const all: Notice = { _tag: "All" }
const otherFormat = /^[02-9]/
const maxVersion = 2n ** 63n - 1n
const maxLockLength = 278
const maxNodeLength = 96
const noncePattern = /^[\x21-\x7e]{1,128}$/
const changePattern = /^([URDXE])([A-Za-z0-9_-]{21}[AQgw])(?:(-)|([1-9][0-9]{0,18}))$/

/** Reads a payload. Total: anything that is neither exactly one of the above nor of another format is `Unreadable`. */
export const parse = (payload: string): Notice => {
  const rest = payload.slice(2)
  switch (payload.slice(0, 2)) {
    case changesHead:
      return parseChanges(rest)
    case userHead:
      return isUserId(rest) ? { _tag: "User", userId: rest } : unreadable
    case groupHead:
      return isGroupId(rest) ? { _tag: "Group", groupId: rest } : unreadable
    case allPayload:
      return rest === "" ? all : unreadable
    case beatHead:
      return noncePattern.test(rest) ? { _tag: "Beat", nonce: rest } : unreadable
    case lockHead:
      return parseLock(rest)
    default:
      return otherFormat.test(payload) ? all : unreadable
  }
}

/** Writes a notice as one payload, as the statements do. There is none for `Unreadable`. */
export const encode = (notice: Exclude<Notice, { readonly _tag: "Unreadable" }>): string => {
  switch (notice._tag) {
    case "Changes":
      return changesHead + notice.changes.map(encodeChange).join(";")
    case "User":
      return userHead + notice.userId
    case "Group":
      return groupHead + notice.groupId
    case "All":
      return allPayload
    case "Beat":
      return beatHead + notice.nonce
    case "LockFreed":
      return `${lockHead}${notice.node}\n${notice.lock}`
  }
}

const encodeChange = ({ key, kind, version }: Change): string =>
  letterOf[kind] + key + (version === undefined ? "-" : String(version))

const parseChanges = (items: string): Notice => {
  // Bounded before it is taken apart, whatever the transport let through.
  if (items.length > maxPayloadBytes) return unreadable
  const changes: Array<Change> = []
  for (const item of items.split(";")) {
    const change = parseChange(item)
    if (change === undefined) return unreadable
    changes.push(change)
  }
  return changes.length > maxChanges ? unreadable : { _tag: "Changes", changes }
}

const parseChange = (item: string): Change | undefined => {
  const [, letter, key, gone, digits] = changePattern.exec(item) ?? []
  const kind = letter === undefined ? undefined : kindOf.get(letter)
  if (kind === undefined || !isKey(key)) return undefined
  if (gone !== undefined) return { key, kind, version: undefined }
  const version = BigInt(digits ?? "0")
  return version > 0n && version <= maxVersion ? { key, kind, version } : undefined
}

const parseLock = (text: string): Notice => {
  // A node's name has no line break, a lock's may have.
  const end = text.indexOf("\n")
  const node = text.slice(0, Math.max(end, 0))
  const lock = text.slice(end + 1)
  return isNode(node) && isLock(lock) ? { _tag: "LockFreed", lock, node } : unreadable
}

const isNode = (text: string): boolean =>
  text.length > 0 && text.length <= maxNodeLength && text.isWellFormed() && !/\p{Cc}/u.test(text)
const isLock = (text: string): text is LockKey =>
  text.length > 0 && text.length <= maxLockLength && text.isWellFormed() && !text.includes("\u0000")
const isKey = (text: string | undefined): text is SessionKey => text !== undefined
const isUserId = (text: string): text is UserId => isStorableName(text)
const isGroupId = (text: string): text is GroupId => isStorableName(text)
