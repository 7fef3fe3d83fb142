/** What every suite begins with: a PostgreSQL of its own, nodes on it, and a bare client. */
import { SessionStore, type Sessions } from "@effect-pg-session/core"
import { PgSession, type PgSessionOptions } from "@effect-pg-session/pg"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { synced } from "./Workload.ts"

export type Url = Redacted.Redacted<string>

/** A server whose commits are durable, as it is by default. */
export const durable = (settings: Readonly<Record<string, string>> = {}) =>
  EmbeddedPostgres.make({ settings: { fsync: "on", synchronous_commit: "on", ...settings } })

/** For what only reads: much is inserted beforehand, and none of it need survive. */
export const volatile = EmbeddedPostgres.make({
  settings: { fsync: "off", synchronous_commit: "off", max_wal_size: "8GB", shared_buffers: "512MB" }
})

/** A node of its own, with its connections and its memory, that serves from memory. */
export const node = Effect.fnUntraced(function* (
  options: PgSessionOptions
): Effect.fn.Return<Sessions, unknown, Scope.Scope> {
  const sessions = Context.get(yield* Layer.build(Layer.fresh(PgSession.layer(options))), SessionStore)
  yield* synced(sessions)
  return sessions
})

/** A bare client, with as many connections as a node has by default. */
export const client = (url: Url) =>
  Effect.map(Layer.build(Layer.fresh(PgClient.layer({ url, maxConnections: 10 }))), (context) =>
    Context.get(context, PgClient.PgClient)
  )

/** Another database on the same server: its listeners do not hear ours. */
export const database = Effect.fnUntraced(function* (url: Url, name: string) {
  const sql = yield* client(url)
  yield* sql`create database ${sql(name)}`
  const other = new URL(Redacted.value(url))
  other.pathname = `/${name}`
  return Redacted.make(other.href)
})
