/** G3: a checked write that lost a race fails and says what stands now; writes to different attributes never undo one another. */
import { assert, describe, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { Session } from "../../src/Session.ts"
import { SessionAttribute } from "../../src/SessionAttribute.ts"
import { SessionId } from "../../src/SessionId.ts"
import {
  alice,
  begin,
  Color,
  Count,
  createNoted,
  makeCluster,
  Note,
  noteOn,
  pass,
  settle,
  versionOn,
  writeNote
} from "../support/Coherence.ts"

/** Two nodes that read the same session, and hear nothing from then on. */
const both = Effect.gen(function* () {
  const cluster = yield* makeCluster()
  const a = yield* cluster.node("a")
  const b = yield* cluster.node("b")
  const onA = yield* createNoted(a)
  const onB = yield* b.get(onA.id)
  yield* cluster.controls.hold()
  const row = Effect.map(cluster.controls.rows, (rows) => rows[0] ?? assert.fail("the session is gone"))
  return { ...cluster, a, b, onA, onB, row, id: onA.id, key: SessionId.key(onA.id) }
})

describe("two nodes write one attribute", () => {
  it.effect("the second is refused, learns what stands, and its memory is repaired", () =>
    Effect.gen(function* () {
      const { a, b, cost, id, key, onA, onB } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"))
      const error = yield* Effect.flip(b.update(Session.set(onB, Note, "by b")))
      assert(error._tag === "AttributeVersionMismatch")
      assert.deepInclude(error, { key, attribute: "note", expected: 1n, actual: 2n })
      assert.include(error.message, '"note"')
      assert.strictEqual(error.current.version, 2n)
      assert.strictEqual(yield* Session.get(error.current, Note), "by a")
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 0)
      assert.strictEqual(yield* noteOn(b, id), "by a")
      const again = yield* b.update(Session.set(error.current, Note, "by b after a"))
      assert.strictEqual(again.version, 3n)
    })
  )

  it.effect("of which one was absent to both: the second is refused", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB } = yield* both
      yield* a.update(Session.set(onA, Color, "red"))
      const error = yield* Effect.flip(b.update(Session.set(onB, Color, "blue")))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", attribute: "color", expected: 0n, actual: 2n })
    })
  )

  it.effect("of which the first removed it: the second is refused", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB } = yield* both
      yield* a.update(Session.remove(onA, Note))
      const error = yield* Effect.flip(b.update(Session.set(onB, Note, "by b")))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 0n })
    })
  )

  it.effect("of which the second removes it: it is refused", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, row } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"))
      const error = yield* Effect.flip(b.update(Session.remove(onB, Note)))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 2n })
      assert.strictEqual((yield* row).attributes.get("note")?.value, '"by a"')
    })
  )

  it.effect("a refused write changes nothing, not even the attributes that nobody else wrote", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, row } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"))
      const before = yield* row
      const mixed = onB.pipe(Session.set(Color, "blue"), Session.set(Note, "by b"))
      assert.strictEqual((yield* Effect.flip(b.update(mixed)))._tag, "AttributeVersionMismatch")
      assert.strictEqual(yield* row, before)
    })
  )

  it.effect("without a check the last one wins, for what it writes", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB } = yield* both
      yield* a.update(onA.pipe(Session.set(Note, "by a"), Session.set(Color, "red")))
      const written = yield* b.update(Session.set(onB, Note, "by b"), { check: "none" })
      assert.strictEqual(written.version, 3n)
      assert.strictEqual(yield* Session.get(written, Note), "by b")
      assert.strictEqual(yield* Session.get(written, Color), "red")
    })
  )
})

describe("two nodes write different attributes", () => {
  it.effect("both stand, the second answer has both, and going on from it undoes neither", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, row } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"))
      const written = yield* b.update(Session.set(onB, Color, "blue"))
      assert.strictEqual(written.version, 3n)
      assert.strictEqual(yield* Session.get(written, Note), "by a")
      assert.strictEqual(yield* Session.get(written, Color), "blue")
      const { attributes, version } = yield* row
      assert.strictEqual(version, 3n)
      assert.deepInclude(attributes.get("note"), { value: '"by a"', version: 2n })
      assert.deepInclude(attributes.get("color"), { value: '"blue"', version: 3n })

      // The next checked write with the answer must notice what is written meanwhile.
      yield* writeNote(a, onA.id, "by a again")
      const error = yield* Effect.flip(b.update(Session.set(written, Note, "by b")))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 2n, actual: 4n })
    })
  )

  it.effect("at the same time on one node: both stand, each at a version of its own", () =>
    Effect.gen(function* () {
      const { a, controls, id, onA, row } = yield* both
      const pause = yield* controls.pauseBefore("write", "a")
      const first = yield* begin(a.update(Session.set(onA, Note, "first")))
      const second = yield* begin(a.update(Session.set(onA, Color, "second")))
      yield* pause.resume
      const versions = [(yield* Fiber.join(first)).version, (yield* Fiber.join(second)).version]
      assert.deepStrictEqual(versions, [2n, 3n])
      const { attributes } = yield* row
      assert.deepInclude(attributes.get("note"), { version: 2n })
      assert.deepInclude(attributes.get("color"), { version: 3n })
      assert.strictEqual(yield* noteOn(a, id), "first")
    })
  )

  it.effect("with a check of the session the second is refused", () =>
    Effect.gen(function* () {
      const { a, b, cost, id, key, onA, onB, row } = yield* both
      yield* a.update(Session.set(onA, Note, "by a"), { check: "session" })
      const error = yield* Effect.flip(b.update(Session.set(onB, Color, "blue"), { check: "session" }))
      assert(error._tag === "VersionMismatch")
      assert.deepInclude(error, { key, expected: 1n, actual: 2n })
      assert.strictEqual(yield* Session.get(error.current, Note), "by a")
      assert.strictEqual(yield* cost("load", "b", noteOn(b, id)), 0)
      assert.strictEqual(yield* noteOn(b, id), "by a")
      assert.isFalse((yield* row).attributes.has("color"))
    })
  )

  it.effect("a rotation elsewhere is a change of the session, and of no attribute", () =>
    Effect.gen(function* () {
      const { a, b, id, onB } = yield* both
      yield* a.rotate(id, { grace: "1 minute" })
      const error = yield* Effect.flip(b.update(Session.set(onB, Color, "blue"), { check: "session" }))
      assert.deepInclude(error, { _tag: "VersionMismatch", expected: 1n, actual: 2n })
      assert.strictEqual((yield* b.update(Session.set(onB, Color, "blue"))).version, 3n)
    })
  )
})

describe("a change that another one of this node has overtaken", () => {
  it.effect("is refused from memory: it costs no statement", () =>
    Effect.gen(function* () {
      const { a, controls, onA, statements } = yield* both
      const pause = yield* controls.pauseBefore("write", "a")
      const first = yield* begin(a.update(Session.set(onA, Note, "first")))
      const second = yield* begin(Effect.flip(a.update(Session.set(onA, Note, "second"))))
      const third = yield* begin(Effect.flip(a.update(Session.set(onA, Color, "third"), { check: "session" })))
      yield* pause.resume
      yield* Fiber.join(first)
      assert.deepInclude(yield* Fiber.join(second), { _tag: "AttributeVersionMismatch", expected: 1n, actual: 2n })
      assert.deepInclude(yield* Fiber.join(third), { _tag: "VersionMismatch", expected: 1n, actual: 2n })
      assert.strictEqual(yield* statements("write", "a"), 1)
    })
  )

  it.effect("is not refused from memory that may be too old", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, onA, statements } = yield* both
      const pause = yield* controls.pauseBefore("write", "a")
      const first = yield* begin(Effect.flip(a.update(Session.set(onA, Note, "first"))))
      const second = yield* begin(Effect.flip(a.update(Session.set(onA, Note, "second"))))
      yield* controls.cut("a")
      yield* writeNote(b, id, "by b")
      // It is in memory again, but memory is not to be trusted now.
      assert.strictEqual(yield* noteOn(a, id), "by b")
      yield* pause.resume
      assert.strictEqual((yield* Fiber.join(first))._tag, "AttributeVersionMismatch")
      assert.strictEqual((yield* Fiber.join(second))._tag, "AttributeVersionMismatch")
      assert.strictEqual(yield* statements("write", "a"), 2)
    })
  )
})

describe("a change under an id that was replaced while it waited", () => {
  it.effect("is not refused from memory, which would show it the session as it stands", () =>
    Effect.gen(function* () {
      const { a, controls, id, onA } = yield* both
      const pause = yield* controls.pauseAfter("write", "a")
      const first = yield* begin(a.update(Session.set(onA, Note, "first")))
      const second = yield* begin(Effect.flip(a.update(Session.set(onA, Note, "second"))))
      const { version } = yield* a.rotate(id, { grace: 0 })
      assert.strictEqual(version, 3n)
      yield* pause.resume
      yield* Fiber.join(first)
      assert.strictEqual((yield* Fiber.join(second))._tag, "SessionNotFound")
    })
  )
})

describe("the same value again", () => {
  it.effect("an attribute that was removed and set again does not pass for the one that was read (ABA)", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB } = yield* both
      const without = yield* a.update(Session.remove(onA, Note))
      const again = yield* a.update(Session.set(without, Note, "old"))
      assert.strictEqual(again.version, 3n)
      const error = yield* Effect.flip(b.update(Session.set(onB, Note, "by b")))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 3n })
    })
  )

  it.effect("an attribute that was set and removed again counts as absent for whoever saw it absent", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB, row } = yield* both
      yield* a.update(Session.remove(yield* a.update(Session.set(onA, Color, "red")), Color))
      yield* b.update(Session.set(onB, Color, "blue"))
      assert.deepInclude((yield* row).attributes.get("color"), { value: '"blue"', version: 4n })
    })
  )

  it.effect("setting and removing one attribute in one change: the last counts, and the check is made once", () =>
    Effect.gen(function* () {
      const { a, b, onA, onB } = yield* both
      const set = yield* a.update(onA.pipe(Session.remove(Note), Session.set(Note, "set")))
      assert.strictEqual(yield* Session.get(set, Note), "set")
      const removed = yield* a.update(set.pipe(Session.set(Note, "no"), Session.remove(Note)))
      assert.strictEqual(yield* Session.get(removed, Note), "")
      const error = yield* Effect.flip(b.update(onB.pipe(Session.remove(Note), Session.set(Note, "by b"))))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 0n })
    })
  )

  it.effect("an expired attribute counts as absent on both sides of the check", () =>
    Effect.gen(function* () {
      const Short = SessionAttribute.make("short", Schema.String, { timeToLive: "1 second" })
      const { a, b, id, onA } = yield* both
      yield* a.update(Session.set(onA, Short, "x"))
      const seen = yield* b.get(id, { refresh: true })
      yield* pass("2 seconds")
      assert.strictEqual((yield* b.update(Session.set(seen, Short, "y"))).version, 3n)
    })
  )
})

class Refused extends Data.TaggedError("Refused")<{}> {}

describe("modify", () => {
  const increment = Session.modify(Count, (count) => count + 1)

  it.effect("64 at once on two nodes that hear each other lose no count", () =>
    Effect.gen(function* () {
      const { a, b, controls, id, row } = yield* both
      yield* controls.release()
      yield* Effect.forEach(
        Array.from({ length: 64 }, (_, index) => (index % 2 === 0 ? a : b)),
        (node) => begin(node.modify(id, increment))
      ).pipe(Effect.flatMap(joinAll))
      const { attributes, version } = yield* row
      assert.deepInclude(attributes.get("count"), { value: "64", version: 65n })
      assert.strictEqual(version, 65n)
      yield* settle
      for (const node of [a, b]) assert.strictEqual(yield* versionOn(node, id), 65n)
    })
  )

  it.effect("64 at once on two nodes that hear nothing lose no count either", () =>
    Effect.gen(function* () {
      const { a, b, id, row } = yield* both
      yield* Effect.forEach(
        Array.from({ length: 64 }, (_, index) => (index % 2 === 0 ? a : b)),
        (node) => begin(node.modify(id, increment))
      ).pipe(Effect.flatMap(joinAll))
      assert.deepInclude((yield* row).attributes.get("count"), { value: "64", version: 65n })
    })
  )

  it.effect("starts over with what stands, and its function sees it", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      yield* writeNote(a, id, "by a")
      const seen: Array<string> = []
      const written = yield* b.modify(id, (session) =>
        Effect.map(Session.get(session, Note), (note) => {
          seen.push(note)
          return Session.set(session, Note, `${note}, b`)
        })
      )
      assert.deepStrictEqual(seen, ["old", "by a"])
      assert.strictEqual(yield* Session.get(written, Note), "by a, b")
    })
  )

  it.effect("without retries the mismatch is the error", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      yield* writeNote(a, id, "by a")
      const error = yield* Effect.flip(b.modify(id, Session.set(Note, "by b"), { retries: 0 }))
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 1n, actual: 2n })
    })
  )

  it.effect("loses every race: the last mismatch is the error, after as many retries as allowed", () =>
    Effect.gen(function* () {
      const { a, b, id } = yield* both
      let tries = 0
      const error = yield* Effect.flip(
        b.modify(id, (session) => Effect.as(writeNote(a, id, `${++tries}`), Session.set(session, Note, "by b")), {
          retries: 3
        })
      )
      assert.strictEqual(tries, 4)
      assert.deepInclude(error, { _tag: "AttributeVersionMismatch", expected: 4n, actual: 5n })
    })
  )

  it.effect("whose function fails has written nothing", () =>
    Effect.gen(function* () {
      const { a, id, row } = yield* both
      const before = yield* row
      assert.strictEqual((yield* Effect.flip(a.modify(id, () => new Refused())))._tag, "Refused")
      assert.strictEqual((yield* row).version, before.version)
    })
  )

  it.effect("of a session that ends meanwhile fails, and does not bring it back", () =>
    Effect.gen(function* () {
      const { a, b, controls, id } = yield* both
      const gate = yield* Deferred.make<void>()
      const modifying = yield* begin(
        Effect.flip(b.modify(id, (session) => Effect.as(Deferred.await(gate), Session.set(session, Note, "late"))))
      )
      yield* a.delete(id)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(modifying))._tag, "SessionNotFound")
      assert.deepStrictEqual(yield* controls.rows, [])
    })
  )

  it.effect("of sessions of many users share statements", () =>
    Effect.gen(function* () {
      const { a, cost } = yield* both
      const ids = yield* Effect.forEach(Array.from({ length: 200 }), () =>
        Effect.map(a.createAnonymous(), ({ id }) => id)
      )
      const cost200 = yield* cost(
        "write",
        "a",
        Effect.forEach(ids, (id) => a.modify(id, increment), { concurrency: "unbounded" })
      )
      assert.isAtMost(cost200, 4)
      assert.strictEqual(yield* Effect.map(a.listForUser(alice), (sessions) => sessions.length), 1)
    })
  )
})

const joinAll = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>) => Effect.forEach(fibers, Fiber.join)
