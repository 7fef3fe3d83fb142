/** G4: a session that was ended or has expired never comes back, on any node, by whatever is late. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Session } from "../../src/Session.ts"
import { GroupId, SessionId } from "../../src/SessionId.ts"
import {
  alice,
  begin,
  bob,
  createNoted,
  makeCluster,
  maxStaleness,
  type Node,
  Note,
  noteOn,
  pass,
  quiet,
  settle,
  versionOn,
  writeNote
} from "../support/Coherence.ts"

/** Two nodes that both have the session in memory. */
const both = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const b = yield* cluster.node("b")
  const session = yield* createNoted(a)
  yield* noteOn(b, session.id)
  const { id } = session
  /** No row, and no node that answers one, now and after everything has settled. */
  const isGone = Effect.gen(function* () {
    yield* settle
    for (let round = 0; round < 2; round++) {
      for (const node of [a, b]) assert.isUndefined(yield* versionOn(node, id), `node ${node.name} answers it`)
      yield* Effect.all([a.flushActivity, b.flushActivity])
      yield* pass(maxStaleness, 1_000)
    }
    assert.deepStrictEqual(yield* cluster.controls.rows, [])
    for (const node of [a, b]) assert.strictEqual(node.cache.fills.size, 0)
  })
  return { ...cluster, a, b, session, id, key: SessionId.key(id), isGone }
})

const ends: ReadonlyArray<readonly [string, (node: Node, id: SessionId) => Effect.Effect<unknown, unknown>]> = [
  ["logged out", (node, id) => node.delete(id)],
  ["ended by its key", (node, id) => node.deleteByKey(SessionId.key(id))],
  ["ended with all of its user's", (node) => node.deleteAllForUser(alice)],
  ["ended with everything", (node) => node.deleteAll]
]

for (const [how, end] of ends) {
  describe(`a session that was ${how}`, () => {
    for (const when of ["pauseBefore", "pauseAfter"] as const) {
      const at = when === "pauseBefore" ? "before it happened" : "after it happened"

      it.effect(`during a flush of activity (${at}) never comes back`, () =>
        Effect.gen(function* () {
          const { a, b, controls, id, isGone } = yield* both
          yield* b.get(id)
          yield* pass(100)
          const pause = yield* controls[when]("touch", "b")
          const flushing = yield* begin(b.flushActivity)
          yield* end(a, id)
          yield* settle
          yield* pause.resume
          yield* Fiber.join(flushing)
          yield* isGone
        })
      )

      it.effect(`during an update (${at}) never comes back`, () =>
        Effect.gen(function* () {
          const { a, b, controls, id, isGone, session } = yield* both
          const pause = yield* controls[when]("write", "b")
          const writing = yield* begin(Effect.result(b.update(Session.set(session, Note, "late"), { check: "none" })))
          yield* end(a, id)
          yield* settle
          yield* pause.resume
          const result = yield* Fiber.join(writing)
          assert.strictEqual(result._tag, when === "pauseBefore" ? "Failure" : "Success")
          yield* isGone
        })
      )

      it.effect(`during a rotation (${at}) never comes back`, () =>
        Effect.gen(function* () {
          const { a, b, controls, id, isGone, key } = yield* both
          const pause = yield* controls[when]("rotate", "b")
          const rotating = yield* begin(Effect.result(b.rotate(id, { grace: "1 minute" })))
          // By an old id within its grace, too.
          yield* end(a, id)
          yield* settle
          yield* pause.resume
          const result = yield* Fiber.join(rotating)
          assert.strictEqual(result._tag, when === "pauseBefore" ? "Failure" : "Success")
          if (result._tag === "Success") {
            assert.strictEqual(result.success.key, key)
            assert.isUndefined(yield* versionOn(b, result.success.id))
          }
          yield* isGone
        })
      )

      it.effect(`during a load (${at}) never comes back`, () =>
        Effect.gen(function* () {
          const { a, b, controls, id, isGone } = yield* both
          yield* b.clearLocalCache
          const pause = yield* controls[when]("load", "b")
          const reading = yield* begin(noteOn(b, id))
          yield* end(a, id)
          yield* settle
          yield* pause.resume
          assert.isUndefined(yield* Fiber.join(reading), "the answer from before is not even given")
          yield* isGone
        })
      )

      it.effect(`by the node itself during its own load (${at}) never comes back, though no notice arrives`, () =>
        Effect.gen(function* () {
          const { b, controls, id } = yield* both
          yield* controls.hold()
          yield* b.clearLocalCache
          const pause = yield* controls[when]("load", "b")
          const reading = yield* begin(noteOn(b, id))
          yield* end(b, id)
          yield* pause.resume
          yield* Fiber.join(reading)
          assert.isUndefined(yield* noteOn(b, id))
        })
      )
    }

    it.effect("is not served by a node that has heard nothing for longer than maxStaleness", () =>
      Effect.gen(function* () {
        const { a, b, controls, id, isGone } = yield* both
        yield* controls.hold("b")
        yield* end(a, id)
        assert.isUndefined(yield* noteOn(a, id))
        assert.isUndefined(yield* noteOn(b, id, { refresh: true }))
        yield* pass(maxStaleness + 100)
        assert.isUndefined(yield* noteOn(b, id))
        yield* controls.release()
        yield* isGone
      })
    )

    it.effect("while a node was without a listener is not in its memory afterwards", () =>
      Effect.gen(function* () {
        const { a, b, controls, id, isGone } = yield* both
        yield* controls.cut("b")
        yield* end(a, id)
        yield* pass(500)
        assert.isTrue((yield* b.health).synced)
        assert.strictEqual((yield* b.health).cache.size, 0)
        yield* isGone
      })
    )

    it.effect("is not created by saving an object that was read before", () =>
      Effect.gen(function* () {
        const { a, b, id, isGone, session } = yield* both
        const changed = Session.set(session, Note, "late")
        yield* end(a, id)
        for (const node of [a, b]) {
          for (const check of ["attributes", "session", "none"] as const) {
            assert.strictEqual((yield* Effect.flip(node.update(changed, { check })))._tag, "SessionNotFound")
          }
          assert.strictEqual((yield* Effect.flip(node.modify(id, Session.set(Note, "late"))))._tag, "SessionNotFound")
          assert.strictEqual((yield* Effect.flip(node.rotate(id, { userId: bob })))._tag, "SessionNotFound")
          yield* node.delete(id)
        }
        yield* isGone
      })
    )
  })
}

describe("a session that was ended", () => {
  it.effect("while its function thinks, is not brought back by modify", () =>
    Effect.gen(function* () {
      const { a, b, id, isGone } = yield* both
      const gate = yield* Deferred.make<void>()
      const modifying = yield* begin(
        Effect.flip(
          b.modify(id, (session) => Effect.as(Deferred.await(gate), Session.set(session, Note, "late")), {
            check: "none"
          })
        )
      )
      yield* a.delete(id)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(modifying))._tag, "SessionNotFound")
      yield* isGone
    })
  )

  it.effect("is not brought back by a flush that failed before and is tried again", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, isGone } = yield* both
      yield* b.get(id)
      yield* pass(100)
      yield* controls.failNext("touch", { node: "b", times: 3 })
      assert.strictEqual((yield* Effect.flip(b.flushActivity))._tag, "SessionStoreUnavailable")
      yield* a.delete(id)
      yield* pass("10 seconds", 1_000)
      assert.strictEqual((yield* b.health).activity.pending, 0)
      yield* isGone
    })
  )

  it.effect("together with all others while its creation was being answered is not cached", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* both
      const pause = yield* controls.pauseAfter("create", "a")
      const creating = yield* begin(createNoted(a))
      yield* b.deleteAllForUser(alice)
      yield* settle
      yield* pause.resume
      const created = yield* Fiber.join(creating)
      assert.isUndefined(yield* noteOn(a, created.id))
      assert.strictEqual((yield* a.health).cache.size, 0)
    })
  )

  it.effect("by a statement whose answer was lost is not served from memory", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, isGone } = yield* both
      yield* controls.failNext("delete", { applied: true })
      assert.deepInclude(yield* Effect.flip(a.delete(id)), { outcome: "Unknown" })
      assert.isUndefined(yield* noteOn(a, id))
      yield* settle
      assert.isUndefined(yield* noteOn(b, id))
      yield* isGone
    })
  )

  it.effect("for room is not served, and cannot be written, anywhere", () =>
    Effect.gen(function* () {
      const { a, b, id, session } = yield* both
      for (let n = 0; n < 5; n++) {
        yield* pass(1)
        yield* createNoted(b, `${n}`)
      }
      yield* settle
      for (const node of [a, b]) assert.isUndefined(yield* versionOn(node, id))
      assert.strictEqual((yield* Effect.flip(a.update(Session.set(session, Note, "late"))))._tag, "SessionNotFound")
      assert.lengthOf(yield* a.listForUser(alice), 5)
    })
  )

  it.effect("with a group that it had joined silently is not served by a node that had not heard of the group", () =>
    Effect.gen(function* () {
      const { a, b, id, isGone } = yield* both
      const group = GroupId.make("g")
      yield* a.modify(id, Session.setGroup(Option.some(group)), { notify: false })
      yield* settle
      assert.strictEqual(yield* noteOn(b, id), "old")
      assert.strictEqual(yield* a.deleteAllForGroup(group), 1)
      yield* settle
      for (const node of [a, b]) assert.isUndefined(yield* noteOn(node, id))
      yield* isGone
    })
  )

  it.effect("with a group that it had left silently is not dropped for it, and lives", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      const group = GroupId.make("g")
      yield* a.modify(id, Session.setGroup(Option.some(group)))
      yield* a.modify(id, Session.setGroup(Option.none()), { notify: false })
      assert.strictEqual(yield* b.deleteAllForGroup(group), 0)
      for (const node of [a, b]) assert.strictEqual(yield* versionOn(node, id, { refresh: true }), 3n)
    })
  )

  it.effect("with a guest's user, who logged in a moment ago, is not served as the guest's", () =>
    Effect.gen(function* () {
      const { a, b, controls } = yield* both
      const guest = yield* a.createAnonymous()
      yield* versionOn(b, guest.id)
      const pause = yield* controls.pauseAfter("load", "b")
      yield* b.clearLocalCache
      const reading = yield* begin(versionOn(b, guest.id))
      const login = yield* a.rotate(guest.id, { userId: bob })
      yield* a.deleteAllForUser(bob)
      yield* settle
      yield* pause.resume
      yield* Fiber.join(reading)
      for (const id of [guest.id, login.id]) assert.isUndefined(yield* versionOn(b, id))
    })
  )
})

describe("a session that has expired", () => {
  it.effect("is not revived by activity, an update, a rotation or a flush that come late", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ idleTimeout: "1 minute", lastAccessFlushInterval: "1 hour" })
      const a = yield* cluster.node("a")
      const b = yield* cluster.node("b")
      const session = yield* createNoted(a)
      const { id } = session
      yield* b.get(id)
      // The flush of this use is on its way when the deadline passes.
      yield* pass("30 seconds", 1_000)
      yield* b.get(id)
      const pause = yield* cluster.controls.pauseBefore("touch", "b")
      const flushing = yield* begin(b.flushActivity)
      yield* pass("31 seconds", 1_000)
      yield* pause.resume
      yield* Fiber.join(flushing)
      for (const node of [a, b]) {
        assert.isUndefined(yield* versionOn(node, id))
        assert.deepStrictEqual(yield* node.find(id), Option.none())
        const late = Session.set(session, Note, "late")
        assert.strictEqual((yield* Effect.flip(node.update(late, { check: "none" })))._tag, "SessionNotFound")
        assert.strictEqual((yield* Effect.flip(node.rotate(id)))._tag, "SessionNotFound")
        const extended = Session.setIdleTimeout(session, "Infinity")
        assert.strictEqual((yield* Effect.flip(node.update(extended, { check: "none" })))._tag, "SessionNotFound")
      }
      assert.strictEqual(yield* a.sweep, 1)
      assert.deepStrictEqual(yield* cluster.controls.rows, [])
    })
  )

  it.effect("while a rotation was under way is not revived by it", () =>
    Effect.gen(function* () {
      const { a, controls } = yield* both
      const { id } = yield* a.create(alice, { expiresIn: "10 seconds" })
      const pause = yield* controls.pauseBefore("rotate", "a")
      const rotating = yield* begin(Effect.flip(a.rotate(id, { userId: bob })))
      yield* pass("11 seconds", 1_000)
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(rotating))._tag, "SessionNotFound")
      assert.isUndefined(yield* versionOn(a, id))
    })
  )

  it.effect("by a limit that another node shortened is not served beyond it", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      yield* a.modify(id, Session.setExpiresIn("3 seconds"), { notify: false })
      yield* settle
      assert.strictEqual(yield* versionOn(b, id), 2n)
      yield* pass("3 seconds")
      for (const node of [a, b]) assert.isUndefined(yield* versionOn(node, id))
    })
  )
})

describe("an id that was replaced", () => {
  it.effect("is refused on every node after its grace, also where it was in memory", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      const rotated = yield* a.rotate(id, { grace: "2 seconds" })
      yield* settle
      for (const node of [a, b]) {
        assert.strictEqual(yield* versionOn(node, id), 2n)
        assert.strictEqual((yield* node.get(id)).version, 2n)
      }
      yield* pass("2 seconds")
      for (const node of [a, b]) {
        assert.isUndefined(yield* versionOn(node, id))
        assert.deepStrictEqual(yield* node.find(id), Option.none())
        assert.strictEqual((yield* node.get(rotated.id, quiet)).version, 2n)
        const late = yield* Effect.flip(node.modify(id, Session.set(Note, "late")))
        assert.strictEqual(late._tag, "SessionNotFound")
        yield* node.delete(id)
        assert.strictEqual(yield* versionOn(node, rotated.id), 2n, "and it ends nothing")
      }
    })
  )

  it.effect("by a login is refused at once where the login is known, and within maxStaleness elsewhere", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* both
      yield* controls.hold("b")
      yield* a.rotate(id, { userId: bob })
      assert.isUndefined(yield* versionOn(a, id))
      yield* pass(maxStaleness + 100)
      assert.isUndefined(yield* versionOn(b, id))
    })
  )

  it.effect("is not accepted again because a flush or a comparison renewed its entry", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* both
      const rotated = yield* a.rotate(id, { grace: "1 second" })
      yield* settle
      yield* b.get(id)
      yield* b.get(rotated.id)
      yield* pass(1_000)
      yield* b.flushActivity
      yield* controls.cut("b")
      yield* pass(500)
      assert.isTrue((yield* b.health).synced)
      assert.deepStrictEqual(yield* b.find(id), Option.none())
      assert.strictEqual((yield* b.get(rotated.id)).version, 2n)
    })
  )

  it.effect("twice in a row: the first is refused even within its grace, the second is not", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      const second = yield* a.rotate(id, { grace: "1 minute" })
      yield* settle
      yield* versionOn(b, id)
      const third = yield* a.rotate(second.id, { grace: "1 minute" })
      yield* settle
      for (const node of [a, b]) {
        assert.isUndefined(yield* versionOn(node, id))
        assert.strictEqual(yield* versionOn(node, second.id), 3n)
        assert.strictEqual(yield* versionOn(node, third.id), 3n)
      }
      yield* writeNote(b, third.id, "goes on")
    })
  )
})
