/**
 * Nodes on one real PostgreSQL whose order of events a test decides: statements
 * stop before they are sent or after they were answered, listeners go through a
 * proxy of their own, and everything is counted.
 */
import {
  Session,
  SessionAttribute,
  SessionConfig,
  type SessionId,
  type SessionOptions,
  type Sessions,
  SessionStore,
  UserId
} from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Database, type Row, type Statements } from "../../src/internal/Database.ts"
import * as DatabaseLive from "../../src/internal/DatabaseLive.ts"
import * as Names from "../../src/internal/Names.ts"
import { parse } from "../../src/internal/NotificationPayload.ts"
import * as PgSessionMigrations from "../../src/PgSessionMigrations.ts"
import * as PgSessionNotifier from "../../src/PgSessionNotifier.ts"
import * as PgSessionStorage from "../../src/PgSessionStorage.ts"
import { eventually } from "./Faults.ts"
import { schemaLayer } from "./StorageFixture.ts"
import { databaseUrl, TestDatabase } from "./TestDatabase.ts"

export const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })
export const Color = SessionAttribute.make("color", Schema.String, { initial: () => "" })
export const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })

export const alice = UserId.make("alice")
export const bob = UserId.make("bob")

/** Unless a test says otherwise, in milliseconds. */
export const maxStaleness = 1_000

/** How the statements of this library are called where they can be stopped. */
export type Operation =
  | "load sessions"
  | "create the session"
  | "update the session"
  | "record last accesses"
  | "rotate the session"
  | "delete sessions"
  | "revalidate sessions"
  | "send a beat"

/** A statement that was stopped, or will be. */
export interface Pause {
  readonly arrived: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

export interface Node extends Sessions {
  readonly name: string
  /** Stops the next statement of this operation before it is sent. */
  readonly pauseBefore: (operation: Operation) => Effect.Effect<Pause>
  /** Stops the next statement of this operation once PostgreSQL has answered it, before the node sees the answer. */
  readonly pauseAfter: (operation: Operation) => Effect.Effect<Pause>
  /** Statements of an operation so far. */
  readonly statements: (operation: Operation) => number
  /** Waits until everything that was committed before now has been applied. */
  readonly heard: Effect.Effect<void>
}

export interface NodeOptions extends SessionOptions {
  /** Where its queries go. */
  readonly url?: Redacted.Redacted<string> | undefined
  /** Where its listener goes. */
  readonly listenUrl?: Redacted.Redacted<string> | undefined
}

interface Gate {
  readonly when: "before" | "after"
  readonly operation: string
  readonly arrived: Latch.Latch
  readonly resume: Latch.Latch
}

const gated = (database: Statements) => {
  const gates: Array<Gate> = []
  const counts = new Map<string, number>()

  const stop = (when: Gate["when"], operation: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const index = gates.findIndex((gate) => gate.when === when && gate.operation === operation)
      const [gate] = index < 0 ? [] : gates.splice(index, 1)
      return gate === undefined ? Effect.void : Effect.andThen(gate.arrived.open, gate.resume.await)
    })

  const through =
    (run: Statements["read"]): Statements["read"] =>
    (operation, sql, parameters) =>
      Effect.suspend(() => {
        counts.set(operation, (counts.get(operation) ?? 0) + 1)
        return stop("before", operation)
      }).pipe(
        Effect.andThen(run(operation, sql, parameters)),
        Effect.tap((_: ReadonlyArray<Row>) => stop("after", operation))
      )

  const pause =
    (when: Gate["when"]) =>
    (operation: Operation): Effect.Effect<Pause> =>
      Effect.sync(() => {
        const gate = { when, operation, arrived: Latch.makeUnsafe(), resume: Latch.makeUnsafe() }
        gates.push(gate)
        return { arrived: gate.arrived.await, resume: Effect.asVoid(gate.resume.open) }
      })

  return {
    database: {
      names: database.names,
      read: through(database.read),
      write: through(database.write),
      reserved: { read: through(database.reserved.read), write: through(database.reserved.write) }
    } satisfies Statements,
    pauseBefore: pause("before"),
    pauseAfter: pause("after"),
    statements: (operation: Operation) => counts.get(operation) ?? 0
  }
}

/** A schema of its own with the library's tables. */
export class Cluster extends Context.Service<
  Cluster,
  {
    readonly names: Names.Names
    readonly sql: PgClient.PgClient
    /** Runs SQL in which `@sessions` stands for the table. */
    readonly query: (
      text: string,
      parameters?: ReadonlyArray<unknown>
    ) => Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, unknown>
    /** Starts a node and waits until it serves from memory. */
    readonly node: (name: string, options?: NodeOptions) => Effect.Effect<Node, unknown, Scope.Scope>
    /** Ends the listener's connection of a node. */
    readonly cut: (name: string) => Effect.Effect<unknown, unknown>
    /** Everything that is notified while an effect runs, without beats. */
    readonly notices: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<ReadonlyArray<string>, unknown, R>
  }
>()("@effect-pg-session/pg/test/Cluster") {
  static readonly layer = Layer.effect(
    Cluster,
    Effect.gen(function* () {
      const { schema } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      const names = Names.make(schema, "")
      yield* PgSessionMigrations.run(names)
      return Cluster.of({
        names,
        sql,
        query: (text, parameters = []) => sql.unsafe(text.replaceAll("@sessions", names.sessions), parameters).values,
        node: (name, options) => makeNode(names, name, options ?? {}),
        cut: (name) =>
          sql`select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = ${`${schema} ${name} listener`}`.values,
        notices: (effect) =>
          Effect.scoped(
            Effect.gen(function* () {
              const queue = yield* sql.listen(names.channel)
              yield* effect
              yield* sql.notify(names.channel, "end")
              const seen: Array<string> = []
              while (true) {
                const { payload } = yield* Queue.take(queue)
                if (payload === "end") return seen
                if (parse(payload)._tag !== "Beat") seen.push(payload)
              }
            })
          )
      })
    })
  ).pipe(Layer.provideMerge(schemaLayer))
}

const makeNode = Effect.fnUntraced(function* (names: Names.Names, name: string, options: NodeOptions) {
  const { listenUrl, url = databaseUrl, ...session } = options
  const settings = { maxStaleness, statementTimeout: "5 seconds", cleanupInterval: "7 days", ...session } as const
  const connection = { url, applicationName: `${names.schemaName} ${name}`, maxConnections: 4 }
  const statements = yield* DatabaseLive.make({ names, statementTimeout: settings.statementTimeout, connection })
  const gates = gated(statements)
  const layer = SessionStore.layer.pipe(
    Layer.provide(PgSessionStorage.layer),
    Layer.provide(PgSessionNotifier.layer({ connection, listenUrl, connectTimeout: settings.statementTimeout })),
    Layer.provide(Layer.succeed(Database, gates.database)),
    Layer.provide(SessionConfig.layer(settings)),
    Layer.fresh
  )
  const context = yield* Layer.build(layer)
  const sessions = Context.get(context, SessionStore)
  const heard = Effect.suspend(() => {
    const since = performance.now()
    return eventually(
      Effect.map(sessions.health, ({ staleness }) => Duration.toMillis(staleness) < performance.now() - since)
    )
  })
  yield* eventually(Effect.map(sessions.health, ({ synced }) => synced))
  return { ...sessions, ...gates, name, heard }
})

/** Starts something that is expected to be held up at `pause`. */
export const heldUp = <A, E, R>(pause: Pause, effect: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), (fiber) =>
    Effect.raceFirst(
      pause.arrived,
      Effect.flatMap(Fiber.await(fiber), () => Effect.die(new Error("it was not held up")))
    )
  )

/** Does not count as activity, so that a read is one statement at most. */
export const quiet = { touch: false } as const

/** The note that a node answers; `undefined` where it answers no session. */
export const noteOn = (node: Sessions, id: SessionId, options: { readonly refresh?: boolean } = {}) =>
  Effect.flatMap(node.find(id, { ...quiet, ...options }), (found) =>
    Option.isNone(found) ? Effect.undefined : Session.get(found.value, Note)
  )

/** The version that a node answers; `undefined` where it answers no session. */
export const versionOn = (
  node: Sessions,
  id: SessionId,
  options: { readonly refresh?: boolean; readonly minVersion?: bigint } = {}
) => Effect.map(node.find(id, { ...quiet, ...options }), (found) => Option.getOrUndefined(found)?.version)

/** Runs a read that must need no statement. */
export const fromMemory = <A, E, R>(node: Node, read: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = node.statements("load sessions")
    const answer = yield* read
    assert.strictEqual(node.statements("load sessions"), before, "it was not in memory")
    return answer
  })

/** Writes a note, whatever stands there. */
export const writeNote = (node: Sessions, id: SessionId, text: string) =>
  node.modify(id, Session.set(Note, text), { check: "none" })

/** A session with the note "old". */
export const createNoted = (node: Sessions, text = "old") =>
  node.create(alice, { attributes: [SessionAttribute.value(Note, text)] })
