/**
 * What a stored session means: whether it is live, which secrets it accepts, how
 * its attributes change. Rows are immutable; a change makes a new one.
 */
import { hashesEqual } from "../../SessionId.ts"
import type { SecretHash, SessionKey } from "../../SessionId.ts"
import type { AttributeWrite, SessionRow, StoredAttribute } from "../../SessionStorage.ts"

/** Neither of its deadlines has passed. */
export const isLive = (row: SessionRow, now: number): boolean =>
  row.expiresAt > now && (row.idleTimeout === undefined || row.lastAccessedAt + row.idleTimeout > now)

/** The hash is the row's, or the former one within its grace. */
export const accepts = (row: SessionRow, proof: SecretHash, now: number): boolean =>
  hashesEqual(row.secretHash, proof) ||
  (row.formerHash !== undefined &&
    row.formerUntil !== undefined &&
    now < row.formerUntil &&
    hashesEqual(row.formerHash, proof))

/** An expired attribute counts as absent. */
export const isAttributeLive = (attribute: StoredAttribute, now: number): boolean =>
  attribute.expiresAt === undefined || attribute.expiresAt > now

/** The version at which an attribute was last written; 0 where it is absent or expired. */
export const attributeVersion = (row: SessionRow, name: string, now: number): bigint => {
  const attribute = row.attributes.get(name)
  return attribute !== undefined && isAttributeLive(attribute, now) ? attribute.version : 0n
}

/** The attributes after a change that gives the session `version`. A name in both is set. */
export const changeAttributes = (
  attributes: ReadonlyMap<string, StoredAttribute>,
  remove: ReadonlyArray<string>,
  set: ReadonlyArray<AttributeWrite>,
  version: bigint,
  now: number
): ReadonlyMap<string, StoredAttribute> => {
  if (remove.length === 0 && set.length === 0) return attributes
  const changed = new Map(attributes)
  for (const name of remove) changed.delete(name)
  for (const { name, timeToLive, value } of set) {
    changed.set(name, { value, version, expiresAt: timeToLive === undefined ? undefined : now + timeToLive })
  }
  return changed
}

/** Without those that have expired; the same map where none has. */
export const purgeAttributes = (
  attributes: ReadonlyMap<string, StoredAttribute>,
  now: number
): ReadonlyMap<string, StoredAttribute> => {
  const live = new Map(Array.from(attributes).filter(([, attribute]) => isAttributeLive(attribute, now)))
  return live.size === attributes.size ? attributes : live
}

/** UTF-8 bytes of all live values and their names. */
export const sizeOf = (attributes: ReadonlyMap<string, StoredAttribute>, now: number): number => {
  let bytes = 0
  for (const [name, attribute] of attributes) {
    if (isAttributeLive(attribute, now)) bytes += Buffer.byteLength(name) + Buffer.byteLength(attribute.value)
  }
  return bytes
}

/** Ascending by code units, which is how base64url is ordered in the database. */
export const byKey = (left: { readonly key: SessionKey }, right: { readonly key: SessionKey }): number =>
  left.key < right.key ? -1 : left.key > right.key ? 1 : 0

const loginTime = (row: SessionRow): number => row.authenticatedAt ?? row.createdAt

/** The oldest login first: the order of eviction. */
export const byLogin = (left: SessionRow, right: SessionRow): number =>
  loginTime(left) - loginTime(right) || byKey(left, right)
