/**
 * How sessions end in the in-process database: deletion by whatever names them,
 * and the sweep of what has expired.
 */
import type { SessionKey, UserId } from "../../SessionId.ts"
import type { Notice } from "../../SessionNotifier.ts"
import type { Deleted, DeleteTarget, KeyVersion, SessionRow, SweepOutcome, SweepRequest } from "../../SessionStorage.ts"
import type { Transaction } from "./MemoryDatabase.ts"
import { accepts, byKey, isLive, purgeAttributes } from "./MemoryRows.ts"

const isMeant = (target: DeleteTarget, row: SessionRow, now: number): boolean => {
  switch (target._tag) {
    case "Session":
      return row.key === target.key && (target.proof === undefined || accepts(row, target.proof, now))
    case "User":
      return row.userId === target.userId && row.key !== target.except
    case "Group":
      return row.groupId === target.groupId && row.key !== target.except
    case "All":
      return true
  }
}

/** One notice for all that were ended; `undefined`: name them one by one. */
const bulkNotice = (target: DeleteTarget): Notice | undefined => {
  switch (target._tag) {
    case "Session":
      return undefined
    case "User":
      return target.except === undefined ? { _tag: "User", userId: target.userId } : undefined
    case "Group":
      return target.except === undefined ? { _tag: "Group", groupId: target.groupId } : undefined
    case "All":
      return { _tag: "All" }
  }
}

/** `SessionStorage.delete`; expired sessions have ended already and are left to the sweep, which reports them. */
export const deleteSessions = ({ announce, change, now, rows }: Transaction, target: DeleteTarget): Deleted => {
  const keys = Array.from(rows.values())
    .filter((row) => isMeant(target, row, now) && isLive(row, now))
    .map((row) => row.key)
  const notice = bulkNotice(target)
  for (const key of keys) {
    rows.delete(key)
    if (notice === undefined) change({ key, kind: "Deleted", version: undefined })
  }
  if (notice !== undefined && keys.length > 0) announce(notice)
  return { keys, now, more: false }
}

/** `SessionStorage.sweep` */
export const sweep = ({ change, now, rows }: Transaction, { after, limit }: SweepRequest): SweepOutcome => {
  const expired: Array<{ readonly key: SessionKey; readonly userId: UserId | undefined }> = []
  const purged: Array<KeyVersion> = []
  const batch = Array.from(rows.values())
    .filter((row) => after === undefined || row.key > after)
    .sort(byKey)
    .slice(0, limit)
  for (const row of batch) {
    if (!isLive(row, now)) {
      rows.delete(row.key)
      change({ key: row.key, kind: "Expired", version: undefined })
      expired.push({ key: row.key, userId: row.userId })
      continue
    }
    const attributes = purgeAttributes(row.attributes, now)
    if (attributes === row.attributes) continue
    const version = row.version + 1n
    rows.set(row.key, { ...row, version, attributes })
    change({ key: row.key, kind: "Updated", version })
    purged.push({ key: row.key, version })
  }
  return { _tag: "Swept", expired, purged, next: batch.length < limit ? undefined : batch.at(-1)?.key }
}
