import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { begin, createNoted, isHeldUp, makeCluster, type Node, settle, writeNote } from "./support/Coherence.ts"
import { SessionId } from "../src/SessionId.ts"

/** Follows a session; the versions that were seen so far. */
const follow = Effect.fnUntraced(function* (node: Node, id: SessionId) {
  const seen: Array<bigint> = []
  const fiber = yield* begin(
    Stream.runForEach(node.watch(id), ({ version }) => Effect.sync(() => void seen.push(version)))
  )
  return { fiber, seen }
})

const versions = (count: number): ReadonlyArray<bigint> =>
  Array.from({ length: count }, (_, index) => BigInt(index + 1))

describe("watch", () => {
  it.effect("sees own updates in memory: they cause no loads", () =>
    Effect.gen(function* () {
      const { controls, node, statements } = yield* makeCluster()
      const a = yield* node("a")
      const { id } = yield* createNoted(a)
      const { seen } = yield* follow(a, id)
      for (let n = 0; n < 20; n++) {
        // The answer comes first, then the own notice.
        yield* controls.hold("a")
        yield* writeNote(a, id, String(n))
        yield* settle
        assert.deepStrictEqual(seen, versions(n + 2))
        yield* controls.release("a")
        yield* settle
      }
      assert.deepStrictEqual(seen, versions(21))
      assert.strictEqual(yield* statements("load", "a"), 0)
    })
  )

  it.effect("loads what another node has changed once, however many follow it", () =>
    Effect.gen(function* () {
      const { cost, node } = yield* makeCluster()
      const a = yield* node("a")
      const b = yield* node("b")
      const { id } = yield* createNoted(a)
      const followers = [yield* follow(b, id), yield* follow(b, id), yield* follow(b, id)]
      assert.strictEqual(yield* cost("load", "b", Effect.andThen(writeNote(a, id, "new"), settle)), 1)
      for (const { seen } of followers) assert.deepStrictEqual(seen, versions(2))
      yield* a.delete(id)
      yield* settle
      for (const { fiber } of followers) {
        assert.isFalse(isHeldUp(fiber))
        yield* Fiber.join(fiber)
      }
    })
  )

  it.effect("misses nothing that is said while it reads", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster()
      const a = yield* node("a")
      const b = yield* node("b")
      const { id } = yield* createNoted(a)
      const { seen } = yield* follow(b, id)
      // It looks, and what it reads is the state before the next change.
      const load = yield* controls.pauseAfter("load", "b")
      yield* controls.forge({ _tag: "Changes", changes: [{ key: SessionId.key(id), kind: "Updated", version: 100n }] })
      yield* load.arrived
      yield* writeNote(a, id, "new")
      yield* settle
      assert.deepStrictEqual(seen, versions(1))
      yield* load.resume
      yield* settle
      assert.deepStrictEqual(seen, versions(2), "without any time passing")
    })
  )
})
