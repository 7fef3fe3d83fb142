/**
 * Where sessions come from in the in-process database: creation and rotation,
 * with the limit of sessions per user that both enforce.
 */
import * as Effect from "effect/Effect"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { UserId } from "../../SessionId.ts"
import type {
  Answer,
  CreateOutcome,
  CreateRequest,
  EvictedSession,
  RotateOutcome,
  RotateRequest,
  SessionLimit,
  SessionRow,
  StoredAttribute,
  TryCreateOutcome
} from "../../SessionStorage.ts"
import type { Transaction } from "./MemoryDatabase.ts"
import { accepts, byLogin, changeAttributes, isLive, sizeOf } from "./MemoryRows.ts"

const noAttributes: ReadonlyMap<string, StoredAttribute> = new Map<string, StoredAttribute>()

/** Makes room for one more session of the user; `undefined`: refused. */
const makeRoom = (
  { change, now, rows }: Transaction,
  userId: UserId,
  limit: SessionLimit
): ReadonlyArray<EvictedSession> | undefined => {
  const others = Array.from(rows.values()).filter((row) => row.userId === userId && isLive(row, now))
  // At least the new session itself fits.
  const excess = others.length - Math.max(1, limit.max) + 1
  if (excess <= 0) return []
  if (limit.onLimit === "reject") return undefined
  return others
    .sort(byLogin)
    .slice(0, excess)
    .map(({ key }) => {
      rows.delete(key)
      change({ key, kind: "Evicted", version: undefined })
      return { key, userId }
    })
}

/** `SessionStorage.create` */
export const create = (
  transaction: Transaction,
  request: CreateRequest
): Effect.Effect<Answer & CreateOutcome, SessionStoreUnavailable> =>
  transaction.rows.has(request.key)
    ? Effect.fail(duplicate)
    : Effect.succeed({ ...insert(transaction, request), now: transaction.now })

/** `SessionStorage.tryCreate` */
export const tryCreate = (
  transaction: Transaction,
  requests: ReadonlyArray<CreateRequest>
): Answer & { readonly outcomes: ReadonlyArray<TryCreateOutcome> } => ({
  now: transaction.now,
  outcomes: requests.map((request) =>
    transaction.rows.has(request.key) ? { _tag: "Undone" } : insert(transaction, request)
  )
})

const insert = (transaction: Transaction, request: CreateRequest): CreateOutcome => {
  const { now, rows } = transaction
  const evicted = request.userId === undefined ? [] : makeRoom(transaction, request.userId, request.limit)
  if (evicted === undefined) return { _tag: "TooManySessions" }
  const version = 1n
  const row: SessionRow = {
    key: request.key,
    secretHash: request.secretHash,
    formerHash: undefined,
    formerUntil: undefined,
    userId: request.userId,
    groupId: request.groupId,
    version,
    createdAt: now,
    authenticatedAt: request.userId === undefined ? undefined : now,
    lastAccessedAt: now,
    expiresAt: now + request.lifetime,
    idleTimeout: request.idleTimeout,
    attributes: changeAttributes(noAttributes, [], request.attributes, version, now)
  }
  rows.set(row.key, row)
  return { _tag: "Created", row, evicted }
}

const duplicate = new SessionStoreUnavailable({
  operation: "create",
  reason: "DatabaseError",
  outcome: "NotApplied",
  detail: "23505 a session with this key exists"
})

/** `SessionStorage.rotate` */
export const rotate = (transaction: Transaction, request: RotateRequest): Answer & RotateOutcome => {
  const { change, now, rows } = transaction
  const row = rows.get(request.key)
  if (row === undefined || !isLive(row, now) || !accepts(row, request.proof, now)) return { _tag: "Gone", now }
  const { login } = request
  const isNewUser = login !== undefined && login.userId !== row.userId
  const version = row.version + 1n
  const kept = isNewUser && row.userId !== undefined ? noAttributes : row.attributes
  const attributes = changeAttributes(kept, [], request.set, version, now)
  const bytes = sizeOf(attributes, now)
  if (bytes > request.maxBytes) return { _tag: "TooLarge", bytes, now }
  // Last of all checks, because making room ends other sessions.
  const evicted = isNewUser ? makeRoom(transaction, login.userId, login.limit) : []
  if (evicted === undefined) return { _tag: "TooManySessions", now }
  const rotated: SessionRow = {
    ...row,
    secretHash: request.secretHash,
    formerHash: row.secretHash,
    formerUntil: isNewUser ? now : now + request.grace,
    version,
    lastAccessedAt: Math.max(row.lastAccessedAt, now),
    attributes,
    ...(login === undefined
      ? {}
      : {
          userId: login.userId,
          authenticatedAt: now,
          expiresAt: now + login.lifetime,
          idleTimeout: login.idleTimeout
        })
  }
  rows.set(row.key, rotated)
  change({ key: row.key, kind: "Rotated", version })
  return { _tag: "Rotated", row: rotated, evicted, now }
}
