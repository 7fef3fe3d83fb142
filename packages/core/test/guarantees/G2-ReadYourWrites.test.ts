/** G2: after an acknowledged write the writing node serves it, and a carried version is never undercut on any node. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Session } from "../../src/Session.ts"
import { SessionStoreUnavailable } from "../../src/SessionError.ts"
import { SessionId } from "../../src/SessionId.ts"
import {
  alice,
  begin,
  bob,
  Color,
  createNoted,
  isHeldUp,
  makeCluster,
  Note,
  noteOn,
  quiet,
  settle,
  versionOn,
  writeNote
} from "../support/Coherence.ts"

const failureOf = (exit: Exit.Exit<unknown, unknown> | undefined) =>
  exit !== undefined && Exit.isFailure(exit) ? Cause.squash(exit.cause) : assert.fail("it did not fail")

/** Two nodes that both have the session in memory, and hear nothing from now on. */
const deaf = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const b = yield* cluster.node("b")
  const session = yield* createNoted(a)
  yield* noteOn(b, session.id)
  yield* cluster.controls.hold()
  return { ...cluster, a, b, session, id: session.id, key: SessionId.key(session.id) }
})

describe("the writing node, while no notice arrives", () => {
  it.effect("serves what it has updated, from memory", () =>
    Effect.gen(function* () {
      const { a, b, cost, id } = yield* deaf
      for (const text of ["1", "2", "3"]) {
        const written = yield* writeNote(a, id, text)
        assert.strictEqual(yield* Session.get(written, Note), text)
        assert.strictEqual(yield* cost("load", "a", noteOn(a, id)), 0)
        assert.strictEqual(yield* noteOn(a, id), text)
      }
      assert.strictEqual(yield* noteOn(b, id), "old", "the other node has heard nothing yet")
    })
  )

  it.effect("serves what another node wrote once it has written over it", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      yield* writeNote(a, id, "by a")
      const written = yield* b.modify(id, Session.set(Color, "by b"))
      assert.strictEqual(written.version, 3n)
      assert.strictEqual(yield* Session.get(written, Note), "by a")
      assert.strictEqual(yield* noteOn(b, id), "by a")
    })
  )

  it.effect("serves a new id and refuses the old one without grace", () =>
    Effect.gen(function* () {
      const { a, id } = yield* deaf
      const rotated = yield* a.rotate(id, { userId: bob })
      assert.strictEqual(yield* versionOn(a, rotated.id), 2n)
      assert.isUndefined(yield* versionOn(a, id))
    })
  )

  it.effect("serves what it has created", () =>
    Effect.gen(function* () {
      const { a, cost } = yield* deaf
      const { id } = yield* createNoted(a, "fresh")
      assert.strictEqual(yield* cost("load", "a", noteOn(a, id)), 0)
      assert.strictEqual(yield* noteOn(a, id), "fresh")
    })
  )

  it.effect("serves nothing that it has ended, by whatever name", () =>
    Effect.gen(function* () {
      const { a, id, key } = yield* deaf
      yield* a.delete(id)
      assert.isUndefined(yield* noteOn(a, id))
      const second = yield* createNoted(a)
      yield* a.deleteByKey(second.key)
      assert.isUndefined(yield* noteOn(a, second.id))
      const third = yield* createNoted(a)
      yield* a.deleteAllForUser(alice, { except: key })
      assert.isUndefined(yield* noteOn(a, third.id))
      const fourth = yield* createNoted(a)
      yield* a.deleteAll
      assert.isUndefined(yield* noteOn(a, fourth.id))
    })
  )

  it.effect("serves no attribute that it has removed from all of a user's sessions", () =>
    Effect.gen(function* () {
      const { a, id } = yield* deaf
      assert.strictEqual(yield* a.deleteAttributeForUser(alice, Note), 1)
      assert.strictEqual(yield* noteOn(a, id), "")
    })
  )

  it.effect("serves no session that made room for the login it has acknowledged", () =>
    Effect.gen(function* () {
      const cluster = yield* makeCluster({ maxSessionsPerUser: 1 })
      const a = yield* cluster.node("a")
      const { id } = yield* createNoted(a, "first")
      yield* cluster.controls.hold()
      yield* createNoted(a, "second")
      assert.isUndefined(yield* noteOn(a, id))
    })
  )
})

describe("operations that overtake each other on the writing node", () => {
  it.effect("a load that was in flight while the write was acknowledged does not bring the old state back", () =>
    Effect.gen(function* () {
      const { controls, node } = yield* makeCluster({ cacheCapacity: 1 })
      const a = yield* node("a")
      const session = yield* createNoted(a)
      const { id } = session
      yield* controls.hold()
      const evict = a.createAnonymous()
      yield* evict
      const pause = yield* controls.pauseAfter("load", "a")
      const early = yield* begin(noteOn(a, id))
      yield* a.update(Session.set(session, Note, "new"))
      assert.strictEqual(yield* noteOn(a, id), "new")
      // Even where the entry has left the memory before the load comes back.
      yield* evict
      const again = yield* begin(noteOn(a, id))
      assert.isFalse(isHeldUp(again), "the marked load takes no new readers")
      assert.strictEqual(yield* Fiber.join(again), "new")
      yield* evict
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* noteOn(a, id), "new")
    })
  )

  it.effect("a load that saw the state before an acknowledged removal does not bring the attribute back", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* deaf
      yield* a.clearLocalCache
      const pause = yield* controls.pauseAfter("load", "a")
      const early = yield* begin(noteOn(a, id))
      yield* a.deleteAttributeForUser(alice, Note)
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), "old")
      assert.strictEqual(yield* noteOn(a, id), "")
    })
  )

  it.effect("the answer to a write is not cached when a newer change was announced before it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, session } = yield* deaf
      yield* controls.release()
      const pause = yield* controls.pauseAfter("write", "a")
      const writing = yield* begin(a.update(Session.set(session, Note, "by a"), { check: "none" }))
      yield* writeNote(b, id, "by b")
      yield* settle
      yield* pause.resume
      const written = yield* Fiber.join(writing)
      assert.strictEqual(written.version, 2n)
      assert.strictEqual(yield* Session.get(written, Note), "by a")
      assert.strictEqual(yield* noteOn(a, id), "by b")
      assert.strictEqual(a.cache.fills.size, 0)
    })
  )

  it.effect("the answer to a write does not replace what an authoritative read has found meanwhile", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, session } = yield* deaf
      const pause = yield* controls.pauseAfter("write", "a")
      const writing = yield* begin(a.update(Session.set(session, Note, "by a"), { check: "none" }))
      yield* writeNote(b, id, "by b")
      assert.strictEqual(yield* noteOn(a, id, { refresh: true }), "by b")
      yield* pause.resume
      yield* Fiber.join(writing)
      assert.strictEqual(yield* noteOn(a, id), "by b")
    })
  )

  it.effect("the answer to a rotation is not cached when the session's end was announced before it", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, key } = yield* deaf
      yield* controls.release()
      const pause = yield* controls.pauseAfter("rotate", "a")
      const rotating = yield* begin(a.rotate(id))
      yield* b.deleteByKey(key)
      yield* settle
      yield* pause.resume
      const rotated = yield* Fiber.join(rotating)
      assert.isUndefined(yield* versionOn(a, rotated.id))
    })
  )

  it.effect("two writes of one node to one session are acknowledged in order, and the second stands", () =>
    Effect.gen(function* () {
      const { a, controls, id, session } = yield* deaf
      const pause = yield* controls.pauseBefore("write", "a")
      const first = yield* begin(a.update(Session.set(session, Note, "first"), { check: "none" }))
      const second = yield* begin(a.update(Session.set(session, Note, "second"), { check: "none" }))
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(first)).version, 2n)
      assert.strictEqual((yield* Fiber.join(second)).version, 3n)
      assert.strictEqual(yield* noteOn(a, id), "second")
    })
  )
})

describe("a node that was told of an end by a refusal", () => {
  it.effect("stops serving the session at once, though no notice arrives", () =>
    Effect.gen(function* () {
      const { a, b, cost, id, session } = yield* deaf
      yield* a.delete(id)
      assert.strictEqual(yield* noteOn(b, id), "old")
      assert.strictEqual((yield* Effect.flip(b.update(Session.set(session, Note, "late"))))._tag, "SessionNotFound")
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 1)
      assert.isUndefined(yield* noteOn(b, id))
    })
  )

  it.effect("by a flush of activity, too", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      yield* b.get(id)
      yield* a.delete(id)
      yield* b.flushActivity
      assert.isUndefined(yield* noteOn(b, id))
    })
  )
})

describe("a carried version", () => {
  it.effect("is never undercut on a node that has heard nothing", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      const { version } = yield* writeNote(a, id, "new")
      assert.strictEqual(yield* versionOn(b, id), 1n)
      assert.strictEqual(yield* versionOn(b, id, { minVersion: version }), version)
      assert.strictEqual(yield* versionOn(b, id), version, "what it found is in memory now")
    })
  )

  it.effect("that memory has costs no statement", () =>
    Effect.gen(function* () {
      const { b, cost, id } = yield* deaf
      assert.strictEqual(yield* cost("load", "b", versionOn(b, id, { minVersion: 1n })), 0)
    })
  )

  it.effect("is not undercut by joining a load that was sent before", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* deaf
      yield* b.clearLocalCache
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(versionOn(b, id))
      const { version } = yield* writeNote(a, id, "new")
      assert.strictEqual(yield* versionOn(b, id, { minVersion: version }), version)
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), 1n)
    })
  )

  it.effect("that the database does not have is answered with what there is", () =>
    Effect.gen(function* () {
      const { b, cost, id } = yield* deaf
      assert.strictEqual(yield* versionOn(b, id, { minVersion: 99n }), 1n)
      assert.strictEqual(yield* cost("load", "b", versionOn(b, id, { minVersion: 99n })), 1)
      assert.strictEqual((yield* b.get(id, { ...quiet, minVersion: 99n })).version, 1n)
    })
  )

  it.effect("does not bring an ended session back", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      yield* a.delete(id)
      assert.isUndefined(yield* versionOn(b, id, { minVersion: 2n }))
    })
  )
})

describe("a new id", () => {
  it.effect("is accepted at once on a node that knows the session by its old one", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* deaf
      const rotated = yield* a.rotate(id)
      assert.strictEqual(yield* versionOn(b, rotated.id), 2n)
    })
  )

  it.effect("is accepted at once on a node where a request with the old one is loading the session", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* deaf
      yield* b.clearLocalCache
      const pause = yield* controls.pauseAfter("load", "b")
      const early = yield* begin(versionOn(b, id))
      const rotated = yield* a.rotate(id, { userId: bob })
      const late = yield* begin(versionOn(b, rotated.id))
      yield* pause.resume
      assert.strictEqual(yield* Fiber.join(early), 1n)
      assert.strictEqual(yield* Fiber.join(late), 2n)
    })
  )
})

describe("a write whose answer is lost", () => {
  it.effect("is reported as unknown, never sent again, and what it may have changed is read from the database", () =>
    Effect.gen(function* () {
      const { a, controls, cost, id, session, statements } = yield* deaf
      yield* controls.failNext("write", { applied: true })
      const error = yield* Effect.flip(a.update(Session.set(session, Note, "new")))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.include(error.message, "unknown whether the change was applied")
      assert.strictEqual(yield* statements("write", "a"), 1)
      assert.strictEqual(yield* cost("load", "a", noteOn(a, id)), 1)
      assert.strictEqual(yield* noteOn(a, id), "new")
    })
  )

  it.effect("that never arrived is reported as not applied, and memory stays", () =>
    Effect.gen(function* () {
      const { a, controls, cost, id, session, statements } = yield* deaf
      yield* controls.failNext("write")
      const error = yield* Effect.flip(a.update(Session.set(session, Note, "new")))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "NotApplied" })
      assert.strictEqual(yield* statements("write", "a"), 1)
      assert.strictEqual(yield* cost("load", "a", noteOn(a, id)), 0)
      assert.strictEqual(yield* noteOn(a, id), "old")
    })
  )

  it.effect("modify does not repeat it", () =>
    Effect.gen(function* () {
      const { a, controls, id, statements } = yield* deaf
      yield* controls.failNext("write", { applied: true })
      const error = yield* Effect.flip(a.modify(id, Session.set(Note, "new")))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.strictEqual(yield* statements("write", "a"), 1)
    })
  )

  it.effect("as part of a batch: all of the batch is forgotten", () =>
    Effect.gen(function* () {
      const { a, controls, cost, session } = yield* deaf
      const other = yield* createNoted(a)
      const pause = yield* controls.pauseBefore("write", "a")
      const blocker = yield* begin(writeNote(a, (yield* createNoted(a)).id, "x"))
      yield* controls.failNext("write", { applied: true })
      const writes = yield* Effect.forEach([session, other], (session) =>
        begin(Effect.flip(a.update(Session.set(session, Note, "new"))))
      )
      yield* controls.failNext("write", { applied: true })
      yield* pause.resume
      yield* Fiber.await(blocker)
      for (const fiber of writes) assert.deepInclude(yield* Fiber.join(fiber), { outcome: "Unknown" })
      for (const { id } of [session, other]) {
        assert.strictEqual(yield* cost("load", "a", noteOn(a, id)), 1)
        assert.strictEqual(yield* noteOn(a, id), "new")
      }
    })
  )

  it.effect("alone in a batch that was answered: it is forgotten, the others are served", () =>
    Effect.gen(function* () {
      const { controls, cost, node } = yield* makeCluster()
      const lost = new Set<string>()
      const c = yield* node("c", {
        storage: (storage) => ({
          ...storage,
          tryWrite: (requests) =>
            Effect.map(storage.tryWrite(requests), ({ now, outcomes }) => ({
              now,
              outcomes: outcomes.map((outcome, index) =>
                lost.has(requests[index]?.key ?? "")
                  ? {
                      _tag: "Unavailable",
                      error: new SessionStoreUnavailable({
                        operation: "update the session",
                        reason: "Unreachable",
                        outcome: "Unknown",
                        detail: "the connection broke"
                      })
                    }
                  : outcome
              )
            }))
        })
      })
      const [first, second, third] = [yield* createNoted(c), yield* createNoted(c), yield* createNoted(c)]
      lost.add(second.key)
      yield* controls.hold()
      const pause = yield* controls.pauseBefore("write", "c")
      const blocker = yield* begin(writeNote(c, first.id, "x"))
      const writes = yield* Effect.forEach([second, third], (session) =>
        begin(Effect.exit(c.update(Session.set(session, Note, "new"))))
      )
      yield* pause.resume
      yield* Fiber.await(blocker)
      const [unknown, known] = yield* Fiber.joinAll(writes)
      assert.deepInclude(failureOf(unknown), { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.isTrue(known !== undefined && Exit.isSuccess(known))
      assert.strictEqual(yield* cost("load", "c", noteOn(c, third.id)), 0)
      assert.strictEqual(yield* cost("load", "c", noteOn(c, second.id)), 1)
      assert.strictEqual(yield* noteOn(c, second.id), "new")
    })
  )

  it.effect("a rotation: neither the old entry nor a load in flight is served as if nothing had happened", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* deaf
      yield* controls.failNext("rotate", { applied: true })
      const error = yield* Effect.flip(a.rotate(id, { grace: 0 }))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.isUndefined(yield* versionOn(a, id))
    })
  )

  it.effect("a deletion: the session is asked for, and a load in flight is not cached", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* deaf
      yield* a.clearLocalCache
      const pause = yield* controls.pauseAfter("load", "a")
      const early = yield* begin(noteOn(a, id))
      yield* controls.failNext("delete", { applied: true })
      assert.deepInclude(yield* Effect.flip(a.delete(id)), { outcome: "Unknown" })
      yield* pause.resume
      yield* Fiber.join(early)
      assert.isUndefined(yield* noteOn(a, id))
    })
  )

  it.effect("a bulk deletion: all that it may have ended is asked for", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* deaf
      yield* controls.failNext("delete", { applied: true })
      assert.deepInclude(yield* Effect.flip(a.deleteAllForUser(alice)), { outcome: "Unknown" })
      assert.isUndefined(yield* noteOn(a, id))
    })
  )

  it.effect("a removal of an attribute everywhere: all sessions of the user are asked for", () =>
    Effect.gen(function* () {
      const { a, controls, id } = yield* deaf
      yield* controls.failNext("deleteAttribute", { applied: true })
      assert.deepInclude(yield* Effect.flip(a.deleteAttributeForUser(alice, Note)), { outcome: "Unknown" })
      assert.strictEqual(yield* noteOn(a, id), "")
    })
  )
})

describe("a caller that is interrupted while its write is under way", () => {
  it.effect("the write runs to its end, and the node serves what became of it", () =>
    Effect.gen(function* () {
      const { a, controls, id, session } = yield* deaf
      const pause = yield* controls.pauseBefore("write", "a")
      const writing = yield* begin(a.update(Session.set(session, Note, "new")))
      yield* Fiber.interrupt(writing)
      yield* pause.resume
      yield* settle
      assert.strictEqual(yield* noteOn(a, id), "new")
      const deleting = yield* controls.pauseAfter("delete", "a")
      const fiber = yield* begin(a.delete(id))
      yield* Fiber.interrupt(fiber)
      yield* deleting.resume
      yield* settle
      assert.isUndefined(yield* noteOn(a, id))
      assert.strictEqual(a.cache.fills.size, 0)
    })
  )
})
