/**
 * Changes of sessions that exist in the in-process database: writes, touches and
 * the removal of one attribute everywhere.
 */
import type { UserId } from "../../SessionId.ts"
import type {
  Answer,
  KeyVersion,
  SessionRow,
  Touch,
  Touched,
  WriteOutcome,
  WriteRequest
} from "../../SessionStorage.ts"
import type { Transaction } from "./MemoryDatabase.ts"
import { isLatestGrant } from "./MemoryLocks.ts"
import { accepts, attributeVersion, changeAttributes, isLive, sizeOf } from "./MemoryRows.ts"

/** `SessionStorage.write` */
export const write = (
  transaction: Transaction,
  requests: ReadonlyArray<WriteRequest>
): Answer & { readonly outcomes: ReadonlyArray<WriteOutcome> } => ({
  outcomes: requests.map((request) => writeOne(transaction, request)),
  now: transaction.now
})

const writeOne = ({ change, locks, now, rows }: Transaction, request: WriteRequest): WriteOutcome => {
  const row = rows.get(request.key)
  if (row === undefined || !isLive(row, now) || !accepts(row, request.proof, now)) return { _tag: "Gone" }
  if (request.fence !== undefined && !isLatestGrant(locks, request.fence)) return { _tag: "Fenced" }
  if (request.expectedVersion !== undefined && request.expectedVersion !== row.version) {
    return { _tag: "VersionMismatch", row }
  }
  for (const [attribute, expected] of request.expectedAttributes) {
    const actual = attributeVersion(row, attribute, now)
    if (actual !== expected) return { _tag: "AttributeVersionMismatch", attribute, actual, row }
  }
  const version = row.version + 1n
  const attributes = changeAttributes(row.attributes, request.remove, request.set, version, now)
  const bytes = sizeOf(attributes, now)
  if (bytes > request.maxBytes) return { _tag: "TooLarge", bytes }
  const changed: SessionRow = {
    ...row,
    version,
    attributes,
    lastAccessedAt: Math.max(row.lastAccessedAt, now),
    groupId: request.groupId === undefined ? row.groupId : (request.groupId ?? undefined),
    expiresAt: request.lifetime === undefined ? row.expiresAt : now + request.lifetime,
    idleTimeout: request.idleTimeout === undefined ? row.idleTimeout : (request.idleTimeout ?? undefined)
  }
  rows.set(row.key, changed)
  if (request.notify || mustBeTold(row, changed)) change({ key: row.key, kind: "Updated", version })
  const isComputable =
    request.baseVersion === row.version &&
    request.groupId === undefined &&
    request.lifetime === undefined &&
    request.idleTimeout === undefined
  return { _tag: "Accepted", version, now, row: isComputable ? undefined : changed }
}

/** A limit became shorter; or another group, which the group's end must find in every memory. */
const mustBeTold = (before: SessionRow, after: SessionRow): boolean =>
  after.groupId !== before.groupId ||
  after.expiresAt < before.expiresAt ||
  (after.idleTimeout ?? Number.POSITIVE_INFINITY) < (before.idleTimeout ?? Number.POSITIVE_INFINITY)

/** `SessionStorage.touch` */
export const touch = (
  { now, rows }: Transaction,
  touches: ReadonlyArray<Touch>
): Answer & { readonly touched: ReadonlyArray<Touched> } => {
  const touched: Array<Touched> = []
  for (const { age, key } of touches) {
    const row = rows.get(key)
    // A passed deadline is final, even where the activity was before it.
    if (row === undefined || !isLive(row, now)) continue
    const lastAccessedAt = Math.max(row.lastAccessedAt, now - Math.max(0, age))
    rows.set(key, { ...row, lastAccessedAt })
    touched.push({ key, lastAccessedAt })
  }
  return { touched, now }
}

/** `SessionStorage.deleteAttribute`: nobody's activity, so the last access stays. */
export const deleteAttribute = (
  { change, now, rows }: Transaction,
  userId: UserId,
  name: string
): Answer & { readonly changed: ReadonlyArray<KeyVersion> } => {
  const changed: Array<KeyVersion> = []
  for (const row of rows.values()) {
    if (row.userId !== userId || !isLive(row, now) || attributeVersion(row, name, now) === 0n) continue
    const version = row.version + 1n
    rows.set(row.key, { ...row, version, attributes: changeAttributes(row.attributes, [name], [], version, now) })
    change({ key: row.key, kind: "Updated", version })
    changed.push({ key: row.key, version })
  }
  return { changed, now }
}
