/**
 * A database in the memory of this process: rows, a clock, a notification hub.
 * Several nodes can be connected to one of it, so that what happens between nodes
 * can be tried without a server and under `TestClock`; its clock is the `Clock`
 * of the fiber that runs a statement, plus an offset.
 *
 * A statement is applied in one step of JavaScript, so it is atomic; around that
 * step it yields, as a network would. Everything under "controls" exists for
 * tests.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { Change, Notice, Server } from "../../SessionNotifier.ts"
import type { SessionRow } from "../../SessionStorage.ts"
import type { LockKey } from "../../SessionLockStorage.ts"
import * as Faults from "./MemoryFaults.ts"
import type { FailureOptions, Operation, Pause, Reachability } from "./MemoryFaults.ts"
import * as Hub from "./MemoryHub.ts"
import type { LockRow } from "./MemoryLocks.ts"

export type { FailureOptions, Operation, Pause, Reachability } from "./MemoryFaults.ts"

/** What a statement sees and changes. */
export interface Transaction {
  readonly now: number
  readonly rows: Map<SessionKey, SessionRow>
  readonly locks: Map<LockKey, LockRow>
  /** Larger than all before. */
  readonly nextToken: () => bigint
  /** Tells of one session; all of a statement's changes share one notice. */
  readonly change: (change: Change) => void
  /** Sends a notice of its own. */
  readonly announce: (notice: Notice) => void
}

/** A statement of a node. */
export interface Statement extends Faults.Statement {
  /** How many sessions it is about, for {@link Controls.count}. */
  readonly items: number
}

/** How often an operation was run, and about how many sessions altogether. */
export interface Count {
  readonly statements: number
  readonly items: number
}

/** What tests do to the database. A missing `node` means every node, of today and of tomorrow. */
export interface Controls {
  /** Keeps notices from arriving, silently, until released; statements still work. */
  readonly hold: (node?: string) => Effect.Effect<void>
  /** Lets everything that was held arrive. */
  readonly release: (node?: string) => Effect.Effect<void>
  /** Lets the next `count` held notices of each connection arrive. */
  readonly step: (count: number, node?: string) => Effect.Effect<void>
  /** Breaks the connections that listen; what they had not taken is lost. */
  readonly cut: (node?: string) => Effect.Effect<void>
  /** Sends a notice as anybody who may connect to the database could. */
  readonly forge: (notice: Notice) => Effect.Effect<void>
  /** Makes the next statements of this operation fail, before or after they are applied. */
  readonly failNext: (operation: Operation, options?: FailureOptions) => Effect.Effect<void>
  /** Stops the next statement of this operation before it is applied. */
  readonly pauseBefore: (operation: Operation, node?: string) => Effect.Effect<Pause>
  /** Stops the next statement of this operation after it was applied, before its answer is seen. */
  readonly pauseAfter: (operation: Operation, node?: string) => Effect.Effect<Pause>
  /** Whether statements (and new subscriptions) reach the database; subscriptions that exist are not concerned. */
  readonly reach: (reachability: Reachability, node?: string) => Effect.Effect<void>
  /** Another server answers, to queries or to subscriptions or (default) to both. */
  readonly setServer: (server: Partial<Server>, which?: "queries" | "subscriptions") => Effect.Effect<void>
  /** The database's clock is that of the nodes plus so many milliseconds; 0 at first. */
  readonly setClockOffset: (milliseconds: number) => Effect.Effect<void>
  /** Whether another node is sweeping. */
  readonly setSweeping: (sweeping: boolean) => Effect.Effect<void>
  /** How often an operation was run, including those that failed. */
  readonly count: (operation: Operation, node?: string) => Effect.Effect<Count>
  /** How many connections listen. */
  readonly connections: (node?: string) => Effect.Effect<number>
  /** All rows, including those of expired sessions. */
  readonly rows: Effect.Effect<ReadonlyArray<SessionRow>>
  /** All locks that are kept, including those that nobody holds. */
  readonly locks: Effect.Effect<ReadonlyArray<LockRow>>
}

/** The operations of the database. */
export interface Database {
  /** Runs a statement: `apply` sees a consistent state, and what it changes and announces becomes visible at once. */
  readonly run: <A>(
    statement: Statement,
    apply: (transaction: Transaction) => Effect.Effect<A, SessionStoreUnavailable>
  ) => Effect.Effect<A, SessionStoreUnavailable>
  readonly listen: (node: string) => Hub.Link
  /** The server that answers. */
  readonly server: (which: "queries" | "subscriptions") => Server
  readonly isSweeping: () => boolean
  readonly controls: Controls
}

/** The in-process database. */
export class MemoryDatabase extends Context.Service<MemoryDatabase, Database>()(
  "@effect-pg-session/core/internal/MemoryDatabase"
) {}

/** How much the database can hold. */
export interface Options {
  /** How many notices may wait in one subscription before it fails; default: 10 000. */
  readonly bufferCapacity?: number | undefined
}

const firstServer: Server = { identity: "memory-1", inRecovery: false }

/** A new, empty database. */
export const make = (options?: Options): Database => {
  const rows = new Map<SessionKey, SessionRow>()
  const locks = new Map<LockKey, LockRow>()
  const counts = new Map<string, Count>()
  const hub = Hub.make(options?.bufferCapacity ?? 10_000)
  const faults = Faults.make()
  const servers = { queries: firstServer, subscriptions: firstServer }
  let clockOffset = 0
  let lastToken = 0n
  let sweeping = false

  const countOf = (operation: Operation, node: string): Count =>
    counts.get(`${operation} ${node}`) ?? { statements: 0, items: 0 }

  const recordCount = ({ items, node, operation }: Statement): void => {
    const before = countOf(operation, node)
    counts.set(`${operation} ${node}`, { statements: before.statements + 1, items: before.items + items })
  }

  const applyAt = <A>(
    now: number,
    statement: Statement,
    apply: (transaction: Transaction) => Effect.Effect<A, SessionStoreUnavailable>
  ): Effect.Effect<A, SessionStoreUnavailable> => {
    if (statement.kind === "change" && servers.queries.inRecovery) return Effect.fail(readOnly(statement.operation))
    const changes: Array<Change> = []
    const notices: Array<Notice> = []
    const answer = apply({
      now,
      rows,
      locks,
      nextToken: () => ++lastToken,
      change: (change) => changes.push(change),
      announce: (notice) => notices.push(notice)
    })
    // A lock that is tied to a session goes with it.
    for (const { key, session } of locks.values()) {
      if (session !== undefined && !rows.has(session)) locks.delete(key)
    }
    if (changes.length > 0) notices.unshift({ _tag: "Changes", changes })
    hub.publish(notices)
    return answer
  }

  const run: Database["run"] = (statement, apply) =>
    Effect.suspend(() => {
      recordCount(statement)
      return Effect.yieldNow
    }).pipe(
      Effect.andThen(faults.before(statement)),
      Effect.andThen(
        Clock.clockWith((clock) => applyAt(clock.currentTimeMillisUnsafe() + clockOffset, statement, apply))
      ),
      Effect.tap(Effect.andThen(Effect.yieldNow, faults.after(statement)))
    )

  const setServer: Controls["setServer"] = (server, which) =>
    Effect.sync(() => {
      if (which !== "subscriptions") servers.queries = { ...servers.queries, ...server }
      if (which !== "queries") servers.subscriptions = { ...servers.subscriptions, ...server }
    })

  const count: Controls["count"] = (operation, node) =>
    Effect.sync(() => {
      let total: Count = { statements: 0, items: 0 }
      for (const [name, { items, statements }] of counts) {
        if (node === undefined ? name.startsWith(`${operation} `) : name === `${operation} ${node}`) {
          total = { statements: total.statements + statements, items: total.items + items }
        }
      }
      return total
    })

  const controls: Controls = {
    hold: (node) => Effect.sync(() => hub.hold(node)),
    release: (node) => Effect.sync(() => hub.release(node)),
    step: (steps, node) => Effect.sync(() => hub.step(steps, node)),
    cut: (node) => Effect.sync(() => hub.cut(node)),
    forge: (notice) => Effect.sync(() => hub.publish([notice])),
    failNext: (operation, failure) => Effect.sync(() => faults.failNext(operation, failure)),
    pauseBefore: (operation, node) => Effect.sync(() => faults.pause("before", operation, node)),
    pauseAfter: (operation, node) => Effect.sync(() => faults.pause("after", operation, node)),
    reach: (reachability, node) => faults.reach(reachability, node),
    setServer,
    setClockOffset: (milliseconds) => Effect.sync(() => void (clockOffset = milliseconds)),
    setSweeping: (value) => Effect.sync(() => void (sweeping = value)),
    count,
    connections: (node) => Effect.sync(() => hub.size(node)),
    rows: Effect.sync(() => Array.from(rows.values())),
    locks: Effect.sync(() => Array.from(locks.values()))
  }

  return {
    run,
    listen: hub.open,
    server: (which) => servers[which],
    isSweeping: () => sweeping,
    controls
  }
}

const readOnly = (operation: Operation): SessionStoreUnavailable =>
  new SessionStoreUnavailable({
    operation,
    reason: "DatabaseError",
    outcome: "NotApplied",
    detail: "25006 the server is in recovery and accepts no changes"
  })

/** A new database with room for as much as `options` say. */
export const layerWith = (options: Options): Layer.Layer<MemoryDatabase> =>
  Layer.sync(MemoryDatabase, () => make(options))

/** A new database. */
export const layer: Layer.Layer<MemoryDatabase> = layerWith({})
