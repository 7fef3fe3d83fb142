/**
 * Nodes that lock things in one in-process database: each with its own listener,
 * whose faults a test can cause.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Listening from "../../src/internal/lock/Listening.ts"
import * as Locks from "../../src/internal/lock/Locks.ts"
import * as MemoryDatabase from "../../src/internal/memory/MemoryDatabase.ts"
import * as MemoryLockStorage from "../../src/internal/memory/MemoryLockStorage.ts"
import * as MemoryNotifier from "../../src/internal/memory/MemoryNotifier.ts"
import { NodeClock } from "../../src/internal/NodeClock.ts"
import { Board, NoticeBoard } from "../../src/internal/NoticeBoard.ts"
import { makeSettings, type SessionOptions } from "../../src/SessionConfig.ts"
import type { LockService } from "../../src/SessionLocks.ts"
import { SessionNotifier } from "../../src/SessionNotifier.ts"

/** Lets everything happen that needs no time. */
export const settle: Effect.Effect<void> = Effect.forEach(Array.from({ length: 60 }), () => Effect.yieldNow, {
  discard: true
})

/** Lets so much time pass, in steps, so that what happens in between happens in between. */
export const elapse = (millis: number, step = 50): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let left = millis; left > 0; left -= step) {
      yield* TestClock.adjust(Math.min(step, left))
      yield* settle
    }
  })

export interface LockNodeOptions extends SessionOptions {
  readonly clock?: Clock.Clock | undefined
  /** Whether it hears notices. Default true. */
  readonly listens?: boolean | undefined
}

export interface LockCluster {
  readonly database: MemoryDatabase.Database
  readonly controls: MemoryDatabase.Controls
  readonly node: (name: string, options?: LockNodeOptions) => Effect.Effect<LockService, never, Scope.Scope>
  readonly statements: (operation: MemoryDatabase.Operation, node?: string) => Effect.Effect<number>
}

export const makeLockCluster = (shared: SessionOptions = {}): Effect.Effect<LockCluster> =>
  Effect.sync(() => {
    const database = MemoryDatabase.make()
    const node: LockCluster["node"] = Effect.fnUntraced(function* (name, options) {
      const { clock = yield* Clock.Clock, listens = true, ...own } = options ?? {}
      const settings = yield* Effect.orDie(makeSettings({ nodeName: name, ...shared, ...own }))
      const board = new Board()
      if (listens) {
        yield* Layer.build(
          Listening.layer.pipe(
            Layer.provide(Layer.succeed(NoticeBoard, board)),
            Layer.provide(Layer.succeed(SessionNotifier, MemoryNotifier.make(database, name)))
          )
        )
      }
      const locks = yield* Locks.make(MemoryLockStorage.make(database, name), settings, new NodeClock(clock), board)
      yield* settle
      return locks
    })
    return {
      database,
      controls: database.controls,
      node,
      statements: (operation, name) =>
        Effect.map(database.controls.count(operation, name), ({ statements }) => statements)
    }
  })
