/** What a connection does when it breaks, overflows, or carries what is not ours. Each needs a hook of the adapter's. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import { SessionNotifier } from "../../SessionNotifier.ts"
import type { Connection } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import { changesOf, created, drained, newUser, stands, tagged, written } from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** What an adapter can do to its own connections. */
export interface NotifierFaults<R> {
  /** Sends, on the channel that the connections listen to, at least one thing that is not a notice. */
  readonly garble?: Effect.Effect<void, unknown, R> | undefined
  /** Breaks all connections that listen. */
  readonly cut?: Effect.Effect<void, unknown, R> | undefined
  /** After how many notices that nobody takes a connection must have failed. */
  readonly overflowAfter?: number | undefined
}

const failureOf = (connection: Connection) => Effect.flip(Effect.forever(connection.take))

/** Registers the tests for which the adapter has hooks. */
export const notifierFaults =
  <R>({ cut, garble, overflowAfter }: NotifierFaults<R>) =>
  ({ it }: Harness<R>): void => {
    if (garble !== undefined) {
      it.effect("what is not ours is said to be unreadable, and does no harm", () =>
        Effect.gen(function* () {
          const notifier = yield* SessionNotifier
          const connection = yield* notifier.connect
          const row = yield* created()
          tagged(yield* written(row), "Accepted")
          yield* garble
          tagged(yield* written(row), "Accepted")
          const notices = yield* drained(connection)
          assert.isTrue(notices.some((notice) => notice._tag === "Unreadable"))
          expect(changesOf(notices, row.key).map(({ version }) => version)).toEqual([2n, 3n])
          expect((yield* stands(row.key)).version).toBe(3n)
        })
      )
    }

    if (cut !== undefined) {
      it.effect("a broken connection fails for good, and a new one works", () =>
        Effect.gen(function* () {
          const notifier = yield* SessionNotifier
          const [idle, busy] = yield* Effect.all([notifier.connect, notifier.connect])
          const waiting = yield* Effect.forkChild(failureOf(idle), { startImmediately: true })
          const row = yield* created()
          tagged(yield* written(row), "Accepted")
          yield* cut
          assert.instanceOf(yield* Fiber.join(waiting), SessionStoreUnavailable)
          assert.instanceOf(yield* failureOf(busy), SessionStoreUnavailable)
          for (const { take } of [idle, busy]) assert.instanceOf(yield* Effect.flip(take), SessionStoreUnavailable)
          const again = yield* notifier.connect
          tagged(yield* written(row), "Accepted")
          expect(changesOf(yield* drained(again), row.key)).toEqual([{ key: row.key, kind: "Updated", version: 3n }])
        })
      )
    }

    if (overflowAfter !== undefined) {
      it.effect("a connection that nobody reads fails, and skips nothing", () =>
        Effect.gen(function* () {
          const notifier = yield* SessionNotifier
          const storage = yield* SessionStorage
          const connection = yield* notifier.connect
          const users = Array.from({ length: overflowAfter + 1 }, () => newUser())
          yield* Effect.all(
            users.map((userId) => storage.announceClear(userId)),
            { concurrency: 8, discard: true }
          )
          const error = yield* failureOf(connection)
          assert.instanceOf(error, SessionStoreUnavailable)
          assert.instanceOf(yield* Effect.flip(connection.take), SessionStoreUnavailable)
          yield* drained(yield* notifier.connect)
        })
      )
    }
  }
