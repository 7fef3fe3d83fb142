/**
 * `SessionStorage` on the in-process database. Each operation is one statement of
 * the database, attributed to a node so that tests can disturb one node and not
 * the others.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SessionKey } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionRow, Storage } from "../../SessionStorage.ts"
import { deleteAttribute, touch, write } from "./MemoryChanges.ts"
import { MemoryDatabase } from "./MemoryDatabase.ts"
import type { Database, Transaction } from "./MemoryDatabase.ts"
import { deleteSessions, sweep } from "./MemoryEndings.ts"
import { create, rotate, tryCreate } from "./MemoryLogins.ts"
import { byLogin, isLive } from "./MemoryRows.ts"

const liveAmong = ({ now, rows }: Transaction, keys: ReadonlyArray<SessionKey>): ReadonlyArray<SessionRow> =>
  Array.from(new Set(keys)).flatMap((key) => {
    const row = rows.get(key)
    return row !== undefined && isLive(row, now) ? [row] : []
  })

/** The storage as `node` sees it. */
export const make = (database: Database, node: string): Storage => {
  const ask = <A>(operation: keyof Storage, items: number, answer: (transaction: Transaction) => A) =>
    database.run({ node, operation, items, kind: "read" }, (transaction) => Effect.succeed(answer(transaction)))

  const change = <A>(operation: keyof Storage, items: number, answer: (transaction: Transaction) => A) =>
    database.run({ node, operation, items, kind: "change" }, (transaction) => Effect.succeed(answer(transaction)))

  return {
    load: (keys) =>
      ask("load", keys.length, (transaction) => ({ rows: liveAmong(transaction, keys), now: transaction.now })),
    create: (request) =>
      database.run({ node, operation: "create", items: 1, kind: "change" }, (transaction) =>
        create(transaction, request)
      ),
    tryCreate: (requests) => change("create", requests.length, (transaction) => tryCreate(transaction, requests)),
    // Nothing stays locked here, so that both are the same.
    tryWrite: (requests) => change("write", requests.length, (transaction) => write(transaction, requests)),
    write: (requests) => change("write", requests.length, (transaction) => write(transaction, requests)),
    touch: (touches) => change("touch", touches.length, (transaction) => touch(transaction, touches)),
    rotate: (request) => change("rotate", 1, (transaction) => rotate(transaction, request)),
    delete: (target) => change("delete", 1, (transaction) => deleteSessions(transaction, target)),
    deleteAttribute: (userId, name) =>
      change("deleteAttribute", 1, (transaction) => deleteAttribute(transaction, userId, name)),
    list: (userId) =>
      ask("list", 1, ({ now, rows }) => ({
        rows: Array.from(rows.values())
          .filter((row) => row.userId === userId && isLive(row, now))
          .sort((left, right) => byLogin(right, left)),
        now
      })),
    revalidate: (keys) =>
      ask("revalidate", keys.length, (transaction) => ({
        sessions: liveAmong(transaction, keys).map(({ expiresAt, idleTimeout, key, lastAccessedAt, version }) => ({
          key,
          version,
          lastAccessedAt,
          expiresAt,
          idleTimeout
        })),
        now: transaction.now
      })),
    sweep: (request) =>
      change("sweep", request.limit, (transaction) => ({
        ...(database.isSweeping() ? { _tag: "Busy" as const } : sweep(transaction, request)),
        now: transaction.now
      })),
    announceClear: (userId) =>
      change("announceClear", 1, ({ announce }) => {
        announce(userId === undefined ? { _tag: "All" } : { _tag: "User", userId })
      })
  }
}

/** The storage of a node with this name, which the controls of the database take. */
export const layerNode = (node: string): Layer.Layer<SessionStorage, never, MemoryDatabase> =>
  Layer.effect(
    SessionStorage,
    Effect.map(MemoryDatabase, (database) => make(database, node))
  )

/** The storage of a node named `"node"`. */
export const layer: Layer.Layer<SessionStorage, never, MemoryDatabase> = layerNode("node")
