/**
 * `SessionLockStorage` on PostgreSQL: one row per lock, one statement per
 * operation, in autocommit, so that poolers in transaction mode are no obstacle. What each statement promises is said
 * in `internal/sql/LockFunctions.ts` and `internal/sql/Locks.ts`; what all of them promise is the contract
 * of the port. The table, the sequence of tokens and the functions are those of `PgSessionMigrations`.
 */
import { SessionLockStorage } from "@effect-pg-session/core"
import type { LockStorage } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Database } from "./internal/Database.ts"
import type { Statements } from "./internal/Database.ts"
import { decodeWith } from "./internal/Decoding.ts"
import * as Locks from "./internal/sql/Locks.ts"

/** The storage on the given statements. */
export const make = (database: Statements): LockStorage => {
  const { names } = database
  const acquire = Locks.acquireSql(names)
  const extend = Locks.extendSql(names)
  const release = Locks.releaseSql(names)
  const leave = Locks.leaveSql(names)
  const sweep = Locks.sweepSql(names)

  return {
    acquire: (request) =>
      database
        .write("acquire the lock", acquire, Locks.acquireParameters(request))
        .pipe(decodeWith("acquire the lock", "Unknown", Locks.decodeAcquire)),
    extend: (request) =>
      database
        .write("extend the lock", extend, Locks.extendParameters(request))
        .pipe(decodeWith("extend the lock", "Unknown", Locks.decodeExtend)),
    release: (lock, owner) =>
      database
        .write("release the lock", release, Locks.releaseParameters(lock, owner))
        .pipe(decodeWith("release the lock", "Unknown", Locks.decodeRelease)),
    leave: (lock, node) =>
      Effect.asVoid(database.write("stop waiting for the lock", leave, Locks.leaveParameters(lock, node))),
    sweep: (request) =>
      database
        .write("sweep unused locks", sweep, Locks.sweepParameters(request))
        .pipe(decodeWith("sweep unused locks", "Unknown", Locks.decodeSweep))
  }
}

/** The service, on the connections of {@link Database}. */
export const layer: Layer.Layer<SessionLockStorage, never, Database> = Layer.effect(
  SessionLockStorage,
  Effect.map(Database, make)
)
