/**
 * The statements behind `SessionLockStorage`: what goes into the functions of `LockFunctions.ts` and what comes
 * out of them, and the sweep.
 *
 * The sweep passes over rows that somebody holds, and judges the others under their lock by a clock that was
 * read before: whoever finds a row gone makes a new one, with a larger token, and whoever comes first keeps the row.
 */
import type {
  AcquireLockOutcome,
  AcquireLockRequest,
  Answer,
  ExtendLockOutcome,
  ExtendLockRequest,
  LockKey,
  LockStorage
} from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Columns from "./Columns.ts"
import * as LockFunctions from "./LockFunctions.ts"
import { duration, earlyClock, firstRow, interval, milliseconds, unexpected } from "./Text.ts"

/** An `int4` of at least one. */
const count = (value: number): string => String(Math.min(Math.max(Math.trunc(value), 1), 1_000_000))

/** Calls the function behind `acquire`; see {@link acquireParameters}. */
export const acquireSql = (names: Names): string =>
  `select a.outcome, a.at, a.token, a.until, a.holder, a.retry_at
from ${names.qualified(LockFunctions.acquireName)}($1::text, $2::text, $3::text, $4::text, $5::int, $6::float8, $7::text, $8::float8) a`

export const acquireParameters = (request: AcquireLockRequest): ReadonlyArray<Parameter> => [
  request.lock,
  request.session ?? null,
  request.owner,
  request.node,
  count(request.permits),
  String(duration(request.leaseTime)),
  request.queue,
  String(duration(request.turn))
]

export const decodeAcquire = (rows: ReadonlyArray<Row>): Answer & AcquireLockOutcome => {
  const [outcome, at, token, until, holder, retryAt] = firstRow(rows)
  const now = Columns.number(at)
  switch (outcome) {
    case "K":
      return { _tag: "Granted", now, token: Columns.version(token), expiresAt: Columns.number(until) }
    case "H":
      return {
        _tag: "Held",
        now,
        node: Columns.text(holder),
        until: Columns.number(until),
        retryAt: Columns.number(retryAt)
      }
    case "G":
      return { _tag: "SessionGone", now }
    default:
      return unexpected("outcome")
  }
}

/** Calls the function behind `extend`; see {@link extendParameters}. */
export const extendSql = (names: Names): string =>
  `select e.at, e.until
from ${names.qualified(LockFunctions.extendName)}($1::text, $2::text, $3::text, $4::text, $5::float8) e`

export const extendParameters = (request: ExtendLockRequest): ReadonlyArray<Parameter> => [
  request.lock,
  request.session ?? null,
  request.owner,
  String(request.token),
  String(duration(request.leaseTime))
]

export const decodeExtend = (rows: ReadonlyArray<Row>): Answer & ExtendLockOutcome => {
  const [at, until] = firstRow(rows)
  const now = Columns.number(at)
  const expiresAt = Columns.optional(until, Columns.number)
  return expiresAt === undefined ? { _tag: "Lost", now } : { _tag: "Extended", now, expiresAt }
}

/** Takes `$1`, the lock, and `$2`, the owner. */
export const releaseSql = (names: Names): string =>
  `select r.at, r.released from ${names.qualified(LockFunctions.releaseName)}($1::text, $2::text) r`

export const releaseParameters = (lock: LockKey, owner: string): ReadonlyArray<Parameter> => [lock, owner]

export const decodeRelease = (rows: ReadonlyArray<Row>): Answer & { readonly released: boolean } => {
  const [at, released] = firstRow(rows)
  return { now: Columns.number(at), released: released === true }
}

/** Takes `$1`, the lock, and `$2`, the node. */
export const leaveSql = (names: Names): string =>
  `select l.removed from ${names.qualified(LockFunctions.leaveName)}($1::text, $2::text) l`

export const leaveParameters = (lock: LockKey, node: string): ReadonlyArray<Parameter> => [lock, node]

/** Takes `$1`, for how long a lock must have been unused, in milliseconds, and `$2`, how many are removed at most. */
export const sweepSql = (names: Names): string =>
  `with unused as materialized (
  select l.name from ${names.locks} l where ${earlyClock} - ${interval("$1::float8")} >= all(l.ends)
  limit $2::int for update skip locked
), removed as (
  delete from ${names.locks} l using unused u where l.name = u.name returning l.name
)
select ${milliseconds(earlyClock)}, (select count(*)::int from removed)`

export const sweepParameters = (request: Parameters<LockStorage["sweep"]>[0]): ReadonlyArray<Parameter> => [
  String(duration(request.unusedFor)),
  count(request.limit)
]

export const decodeSweep = (rows: ReadonlyArray<Row>): Answer & { readonly removed: number } => {
  const [now, removed] = firstRow(rows)
  return { now: Columns.number(now), removed: Columns.number(removed) }
}
