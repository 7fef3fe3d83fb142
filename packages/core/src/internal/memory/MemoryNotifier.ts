/**
 * `SessionNotifier` on the in-process database.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import { SessionNotifier } from "../../SessionNotifier.ts"
import type { Connection, Notifier } from "../../SessionNotifier.ts"
import { MemoryDatabase } from "./MemoryDatabase.ts"
import type { Database } from "./MemoryDatabase.ts"

const inRecovery = new SessionStoreUnavailable({
  operation: "connect",
  reason: "DatabaseError",
  outcome: "NotApplied",
  detail: "the server is in recovery: it accepts no LISTEN"
})

/** The notifier as `node` sees it. */
export const make = (database: Database, node: string): Notifier => {
  const subscribe = (scope: Scope.Scope): Effect.Effect<Connection, SessionStoreUnavailable> => {
    const server = database.server("subscriptions")
    if (server.inRecovery) return Effect.fail(inRecovery)
    const link = database.listen(node)
    // Not `acquireRelease`, which could not be interrupted where the database hangs.
    return Effect.as(Scope.addFinalizer(scope, Effect.sync(link.close)), { server, take: link.take })
  }

  return {
    connect: Effect.flatMap(Effect.scope, (scope) =>
      database.run({ node, operation: "connect", items: 1, kind: "read" }, () => subscribe(scope))
    ),
    beat: (_node, nonce) =>
      database.run({ node, operation: "beat", items: 1, kind: "change" }, ({ announce, now }) => {
        announce({ _tag: "Beat", nonce })
        return Effect.succeed({ now, server: database.server("queries") })
      })
  }
}

/** The notifier of a node with this name, which the controls of the database take. */
export const layerNode = (node: string): Layer.Layer<SessionNotifier, never, MemoryDatabase> =>
  Layer.effect(
    SessionNotifier,
    Effect.map(MemoryDatabase, (database) => make(database, node))
  )

/** The notifier of a node named `"node"`. */
export const layer: Layer.Layer<SessionNotifier, never, MemoryDatabase> = layerNode("node")
