/** What a storage promises beyond its own operations. Each test needs a hook of the adapter's. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { SessionNotifier } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import { attribute, changesOf, created, drained, loaded, newUser, stands, tagged, written } from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { rotated } from "./StorageRotation.ts"

/** What an adapter can do around its own operations. */
export interface StorageFaults<R> {
  /** Runs an effect in a transaction of the application's, as far as the adapter's clients know such a thing, and rolls it back. */
  readonly rolledBack?: (<A, E, R2>(effect: Effect.Effect<A, E, R2>) => Effect.Effect<A, unknown, R | R2>) | undefined
  /** Kills the database without a warning and starts it again. */
  readonly crash?: Effect.Effect<void, unknown, R> | undefined
}

/** Registers the tests for which the adapter has hooks. */
export const storageFaults =
  <R>({ crash, rolledBack }: StorageFaults<R>) =>
  ({ it }: Harness<R>): void => {
    if (rolledBack !== undefined) {
      it.effect("operations are not part of a transaction of their caller", () =>
        Effect.gen(function* () {
          const storage = yield* SessionStorage
          const notifier = yield* SessionNotifier
          const connection = yield* notifier.connect
          const ended = yield* created()
          const row = yield* rolledBack(
            Effect.gen(function* () {
              const row = yield* created({ userId: newUser() })
              tagged(yield* written(row, { set: [attribute("cart")] }), "Accepted")
              yield* storage.delete({ _tag: "Session", key: ended.key, proof: undefined })
              // Visible and told at once, and not when the caller's transaction ends.
              const notices = yield* drained(connection)
              expect(changesOf(notices, row.key)).toEqual([{ key: row.key, kind: "Updated", version: 2n }])
              expect(changesOf(notices, ended.key)).toEqual([{ key: ended.key, kind: "Deleted", version: undefined }])
              return yield* stands(row.key)
            })
          )
          expect(yield* stands(row.key)).toEqual(row)
          expect(yield* loaded(ended.key)).toBeUndefined()
        })
      )
    }

    if (crash !== undefined) {
      it.effect("what was acknowledged survives a crash of the database", () =>
        Effect.gen(function* () {
          const storage = yield* SessionStorage
          const rows = yield* Effect.all(
            Array.from({ length: 20 }, () => created({ userId: newUser() })),
            { concurrency: 8 }
          )
          const [first, second, third, ...others] = rows
          assert(first !== undefined && second !== undefined && third !== undefined)
          tagged(yield* written(first, { set: [attribute("cart", '"full"')] }), "Accepted")
          const { row: current } = yield* rotated(second)
          yield* storage.delete({ _tag: "Session", key: third.key, proof: undefined })
          const before = [yield* stands(first.key), current, ...others]
          yield* crash
          const recovered = storage
            .load(rows.map(({ key }) => key))
            .pipe(Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 200 }))
          const byKey = new Map((yield* recovered).rows.map((row) => [row.key, row]))
          expect(byKey).toEqual(new Map(before.map((row) => [row.key, row])))
          tagged(yield* written(current), "Accepted")
        })
      )
    }
  }
