/** Nodes as an application has them: whole `PgSession` layers, several on one schema of the test's own. */
import {
  type LockService,
  SessionAttribute,
  type SessionKey,
  SessionLocks,
  type Sessions,
  SessionStore,
  UserId
} from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Names from "../../src/internal/Names.ts"
import { PgSession, type PgSessionError } from "../../src/PgSession.ts"
import type { PgSessionOptions } from "../../src/PgSessionConfig.ts"
import { TcpProxy } from "../../src/testing/index.ts"
import { databaseUrl, TestDatabase } from "./TestDatabase.ts"

export const alice = UserId.make("alice")
export const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })
export const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })

/** Reads that are no activity. */
export const quiet = { touch: false } as const

/** A node, and the end of it. */
export interface Node extends Sessions {
  readonly locks: LockService
  /** Closes the layer's scope. */
  readonly close: Effect.Effect<void>
}

/** Builds a layer with the store and the locks, by itself, in a scope below the current one. */
export const build = Effect.fnUntraced(function* <E, R>(layer: Layer.Layer<SessionStore | SessionLocks, E, R>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Layer.buildWithMemoMap(layer, Layer.makeMemoMapUnsafe(), scope)
  return {
    ...Context.get(context, SessionStore),
    locks: Context.get(context, SessionLocks),
    close: Scope.close(scope, Exit.void)
  } satisfies Node
})

/** A node on the test's schema. */
export const node = (options: PgSessionOptions = {}): Effect.Effect<Node, PgSessionError, TestDatabase | Scope.Scope> =>
  Effect.flatMap(TestDatabase, ({ schema, url }) =>
    build(PgSession.layer({ url, schemaName: schema, maxConnections: 4, cleanupInterval: "7 days", ...options }))
  )

/** The means to look behind the nodes of a schema. */
export const lookAround = Effect.gen(function* () {
  const { schema } = yield* TestDatabase
  const sql = yield* PgClient.PgClient
  const names = Names.make(schema, "")
  const query = (text: string, parameters: ReadonlyArray<unknown> = []) =>
    sql.unsafe(
      text.replaceAll("@sessions", names.sessions).replaceAll("@beats", names.beats).replaceAll("@locks", names.locks),
      parameters
    ).values
  const number = (text: string, parameters?: ReadonlyArray<unknown>) =>
    Effect.map(query(text, parameters), ([row]) => Number(row?.[0]))
  return {
    sql,
    names,
    query,
    /** The first column of the first row. */
    number,
    /** The version in the database; NaN where there is no row. */
    version: (key: SessionKey) => number("select version::int from @sessions where key = $1", [key]),
    /** Connections by the application name given to a node, with its listener. */
    connections: (applicationName: string) =>
      number("select count(*)::int from pg_stat_activity where application_name like $1 || '%'", [applicationName])
  }
})

/** A proxy in front of a server. */
export const proxyTo = (url: Redacted.Redacted<string> = databaseUrl) =>
  Effect.suspend(() => {
    const { hostname, port } = new URL(Redacted.value(url))
    return TcpProxy.make({ host: hostname, port: Number(port || "5432") })
  })

/** A clock that is so many milliseconds ahead of the real one. */
export const shiftedClock = (ahead: number): Clock.Clock => {
  const real = Clock.Clock.defaultValue()
  const millis = () => real.currentTimeMillisUnsafe() + ahead
  const nanos = () => BigInt(Math.floor(millis())) * 1_000_000n
  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: real.monotonicTimeNanos,
    sleep: (duration) => real.sleep(duration)
  }
}

/** How long something took, in milliseconds, beside its result. */
export const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, (value) => [value, performance.now() - start] as const)
  })

/** A test in real time, with a schema of its own. */
export const test = <A, E>(
  name: string,
  effect: Effect.Effect<A, E, Scope.Scope | TestDatabase | PgClient.PgClient>,
  timeout?: number
) => it.live(name, () => Effect.provide(Effect.scoped(effect), TestDatabase.layer), timeout)
