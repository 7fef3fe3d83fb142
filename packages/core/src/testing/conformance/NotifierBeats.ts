/** Beats: what the proof of a live connection is worth. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBase64Url } from "../../internal/Crypto.ts"
import { SessionNotifier } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import { changesOf, created, tagged, takenUntil, uniqueName, written } from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Registers the tests. */
export const notifierBeats = ({ it, passed, tolerance }: Harness): void => {
  it.effect("listening and asking reach the same server, which accepts changes", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const { server } = yield* notifier.connect
      const again = yield* notifier.connect
      const answer = yield* notifier.beat("conformance", randomBase64Url(16))
      assert.isNotEmpty(server.identity)
      assert.isFalse(server.inRecovery)
      expect(again.server).toEqual(server)
      expect(answer.server).toEqual(server)
    })
  )

  it.effect("a beat's answer carries the clock of the storage", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const storage = yield* SessionStorage
      const before = yield* storage.load([])
      const { now } = yield* notifier.beat("conformance", randomBase64Url(16))
      const after = yield* storage.load([])
      assert.isAtLeast(now, before.now - tolerance)
      assert.isAtMost(now, after.now + tolerance)
      yield* passed(after.now + 20)
      assert.isAbove((yield* notifier.beat("conformance", randomBase64Url(16))).now, now)
    })
  )

  it.effect("beats arrive on every connection, in their order, with their nonces", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const connections = yield* Effect.all([notifier.connect, notifier.connect])
      const nonces = Array.from({ length: 20 }, () => randomBase64Url(16))
      for (const [index, nonce] of nonces.entries()) yield* notifier.beat(`conformance ${index % 2}`, nonce)
      const last = randomBase64Url(16)
      yield* notifier.beat("conformance", last)
      for (const connection of connections) {
        const notices = yield* takenUntil(connection, last)
        const seen = notices.flatMap((notice) => (notice._tag === "Beat" ? [notice.nonce] : []))
        expect(seen.filter((nonce) => nonces.includes(nonce))).toEqual(nonces)
      }
    })
  )

  it.effect("a beat with the same nonce is a beat, too", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const connection = yield* notifier.connect
      const nonce = randomBase64Url(16)
      for (let round = 0; round < 3; round++) {
        yield* notifier.beat("conformance", nonce)
        yield* takenUntil(connection, nonce)
      }
    })
  )

  it.effect("a beat comes after everything that was committed before it", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const connection = yield* notifier.connect
      const row = yield* created()
      for (let round = 0; round < 20; round++) {
        const outcome = tagged(yield* written(row), "Accepted")
        const nonce = randomBase64Url(16)
        yield* notifier.beat("conformance", nonce)
        const changes = changesOf(yield* takenUntil(connection, nonce), row.key)
        expect(changes.map(({ version }) => version)).toEqual([outcome.version])
      }
    })
  )

  it.effect("that holds for each of many who write and beat at once", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const writers = yield* Effect.all(
        Array.from({ length: 8 }, () => Effect.all({ row: created(), connection: notifier.connect }))
      )
      yield* Effect.all(
        writers.map(
          Effect.fnUntraced(function* ({ connection, row }) {
            for (let round = 0; round < 10; round++) {
              const outcome = tagged(yield* written(row), "Accepted")
              const nonce = randomBase64Url(16)
              yield* notifier.beat(`conformance ${row.key}`, nonce)
              const changes = changesOf(yield* takenUntil(connection, nonce), row.key)
              expect(changes.at(-1)?.version).toBe(outcome.version)
            }
          })
        ),
        { concurrency: "unbounded" }
      )
    })
  )

  it.effect.each(["'; --", '"quoted" \\ back', "\u{1F600}", "__proto__", "x".repeat(200)])(
    "a node may have any name: %j",
    (name) =>
      Effect.gen(function* () {
        const notifier = yield* SessionNotifier
        const connection = yield* notifier.connect
        for (const node of [name, uniqueName(name), name]) {
          const nonce = randomBase64Url(16)
          yield* notifier.beat(node, nonce)
          yield* takenUntil(connection, nonce)
        }
      })
  )
}
