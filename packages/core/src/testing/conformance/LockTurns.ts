/** Waiting nodes: told when it is their turn, one after the other, and passed over when they do not come. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionLockStorage } from "../../SessionLockStorage.ts"
import { observed, type Harness } from "./Harness.ts"
import { granted, newLock, refused, released, turnOf, turnsOf } from "./LockHarness.ts"

const turn = 200
/** No turn ends by accident. */
const long = 60_000

/** Registers the tests. */
export const lockTurns = ({ it, passed }: Harness<SessionLockStorage>): void => {
  it.effect("a release tells the first of those who wait, once, and keeps the lock for it", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const { owner } = yield* granted(lock)
      yield* refused(lock, { node: "node-b", queue: "wait", turn: long })
      yield* refused(lock, { node: "node-c", queue: "wait", turn: long })
      yield* refused(lock, { node: "node-b", queue: "wait", turn: long })
      const { notices } = yield* observed(released(lock, owner))
      expect(turnOf(notices, lock)).toBe("node-b")
      for (const queue of ["none", "wait"] as const) {
        expect(yield* refused(lock, { node: "node-c", queue, turn: long })).toMatchObject({ node: "node-b" })
      }
      yield* refused(lock, { node: "node-d", turn: long })
      yield* granted(lock, { node: "node-b", queue: "wait", turn: long })
    })
  )

  it.effect("nodes take turns, and who goes on waiting comes last", () =>
    Effect.gen(function* () {
      const lock = newLock()
      let holder = yield* granted(lock, { node: "node-a" })
      for (const node of ["node-b", "node-c", "node-a"]) yield* refused(lock, { node, queue: "wait", turn: long })
      const order: Array<string> = []
      for (let round = 0; round < 7; round++) {
        const { notices } = yield* observed(released(lock, holder.owner))
        const node = turnOf(notices, lock)
        order.push(node)
        holder = yield* granted(lock, { node, queue: "waitAgain", turn: long })
      }
      expect(order).toEqual(["node-b", "node-c", "node-a", "node-b", "node-c", "node-a", "node-b"])
    })
  )

  it.effect("who was granted the lock and does not wait again is no longer in the queue", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const first = yield* granted(lock)
      yield* refused(lock, { node: "node-b", queue: "wait", turn: long })
      yield* released(lock, first.owner)
      const second = yield* granted(lock, { node: "node-b", queue: "wait", turn: long })
      const { notices } = yield* observed(released(lock, second.owner))
      expect(turnsOf(notices, lock)).toEqual([])
      yield* granted(lock, { node: "node-c", turn: long })
    })
  )

  it.effect("who does not come in its turn is passed over, and has lost its place", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const first = yield* granted(lock)
      yield* refused(lock, { node: "node-b", queue: "wait", turn })
      yield* refused(lock, { node: "node-c", queue: "wait", turn })
      yield* released(lock, first.owner)
      const { retryAt } = yield* refused(lock, { node: "node-c", queue: "wait", turn: long })
      yield* passed(retryAt - long + turn)
      const second = yield* granted(lock, { node: "node-c", queue: "wait", turn })
      const { notices } = yield* observed(released(lock, second.owner))
      expect(turnsOf(notices, lock)).toEqual([])
    })
  )

  it.effect("an expired lease is followed by a turn of the first that waits", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const { expiresAt } = yield* granted(lock, { leaseTime: 100 })
      expect(yield* refused(lock, { node: "node-b", queue: "wait", turn: long })).toMatchObject({ retryAt: expiresAt })
      expect(yield* refused(lock, { node: "node-c", queue: "wait", turn: long })).toMatchObject({
        retryAt: expiresAt + long
      })
      yield* passed(expiresAt)
      expect(yield* refused(lock, { node: "node-c", queue: "wait", turn: long })).toMatchObject({
        node: "node-b",
        retryAt: expiresAt + long
      })
      yield* granted(lock, { node: "node-b", queue: "wait", turn: long })
    })
  )

  it.effect("a node that leaves is out of the queue; where it was its turn, the next one is told", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const lock = newLock()
      const first = yield* granted(lock)
      for (const node of ["node-b", "node-c", "node-d"]) yield* refused(lock, { node, queue: "wait", turn: long })
      const whileHeld = yield* observed(locks.leave(lock, "node-c"))
      expect(turnsOf(whileHeld.notices, lock)).toEqual([])
      const release = yield* observed(released(lock, first.owner))
      expect(turnOf(release.notices, lock)).toBe("node-b")
      const left = yield* observed(locks.leave(lock, "node-b"))
      expect(turnOf(left.notices, lock)).toBe("node-d")
      yield* granted(lock, { node: "node-d", queue: "wait", turn: long })
      // Neither an unknown node nor an unknown lock is an error.
      yield* locks.leave(lock, "node-x")
      yield* locks.leave(newLock(), "node-b")
    })
  )

  it.effect("each free permit is somebody's turn", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const permits = 2
      const first = yield* granted(lock, { permits })
      const second = yield* granted(lock, { permits })
      for (const node of ["node-b", "node-c"]) yield* refused(lock, { node, queue: "wait", permits, turn: long })
      const { notices } = yield* observed(Effect.andThen(released(lock, first.owner), released(lock, second.owner)))
      expect(new Set(turnsOf(notices, lock))).toEqual(new Set(["node-b"]))
      const granting = yield* observed(granted(lock, { node: "node-b", queue: "wait", permits, turn: long }))
      expect(turnOf(granting.notices, lock)).toBe("node-c")
      yield* granted(lock, { node: "node-c", queue: "wait", permits, turn: long })
    })
  )

  it.effect("a queue has an end, beyond which a node is refused all the same", () =>
    Effect.gen(function* () {
      const lock = newLock()
      const { owner } = yield* granted(lock)
      for (let index = 0; index < 300; index++) {
        yield* refused(lock, { node: `node-${index}`, queue: "wait", turn: long })
      }
      const { notices } = yield* observed(released(lock, owner))
      assert.strictEqual(turnOf(notices, lock), "node-0")
    })
  )
}
