/**
 * `SessionLockStorage` on the in-process database.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type LockStorage, SessionLockStorage } from "../../SessionLockStorage.ts"
import { type Database, MemoryDatabase, type Transaction } from "./MemoryDatabase.ts"
import type { LockOperation } from "./MemoryFaults.ts"
import * as MemoryLocks from "./MemoryLocks.ts"

/** The lock storage as `node` sees it. */
export const make = (database: Database, node: string): LockStorage => {
  const change = <A>(operation: LockOperation, answer: (transaction: Transaction) => A) =>
    database.run({ node, operation, items: 1, kind: "change" }, (transaction) => Effect.succeed(answer(transaction)))

  return {
    acquire: (request) =>
      change("acquireLock", (transaction) => ({ ...MemoryLocks.acquire(transaction, request), now: transaction.now })),
    extend: (request) =>
      change("extendLock", (transaction) => ({ ...MemoryLocks.extend(transaction, request), now: transaction.now })),
    release: (lock, owner) =>
      change("releaseLock", (transaction) => ({
        released: MemoryLocks.release(transaction, lock, owner),
        now: transaction.now
      })),
    leave: (lock, node) => change("leaveLock", (transaction) => MemoryLocks.leave(transaction, lock, node)),
    sweep: (request) =>
      change("sweepLocks", (transaction) => ({
        removed: MemoryLocks.sweep(transaction, request),
        now: transaction.now
      }))
  }
}

/** The lock storage of a node with this name, which the controls of the database take. */
export const layerNode = (node: string): Layer.Layer<SessionLockStorage, never, MemoryDatabase> =>
  Layer.effect(
    SessionLockStorage,
    Effect.map(MemoryDatabase, (database) => make(database, node))
  )

/** The lock storage of a node named `"node"`. */
export const layer: Layer.Layer<SessionLockStorage, never, MemoryDatabase> = layerNode("node")
