import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { Session } from "../src/Session.ts"
import { SessionAttribute } from "../src/SessionAttribute.ts"
import type {
  AttributeInvalid,
  AttributeNotFound,
  AttributeVersionMismatch,
  SessionStoreUnavailable,
  VersionMismatch,
  WriteError
} from "../src/SessionError.ts"
import { GroupId, UserId } from "../src/SessionId.ts"
import { type Sessions, SessionStore } from "../src/SessionStore.ts"

const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const Theme = SessionAttribute.make("theme", Schema.Literals(["light", "dark"]))
const Elevated = SessionAttribute.make("elevated", Schema.Boolean, { timeToLive: "15 minutes" })
const alice = UserId.make("alice")

const test = <A, E>(name: string, effect: (sessions: Sessions) => Effect.Effect<A, E>) =>
  it.effect(name, () => Effect.provide(Effect.flatMap(SessionStore, effect), SessionStore.layerMemory()))

describe("Session, reading", () => {
  test("get: the value, the initial one, or AttributeNotFound", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice, { attributes: [SessionAttribute.value(Theme, "dark")] })
      assert.strictEqual(yield* Session.get(session, Theme), "dark")
      assert.strictEqual(yield* session.pipe(Session.get(Theme)), "dark")
      assert.deepStrictEqual(yield* Session.get(session, Cart), [])
      assert.deepStrictEqual(yield* Session.getOption(session, Cart), Option.none())
      const error = yield* Effect.flip(Session.get(session, Elevated))
      assert.strictEqual(error._tag, "AttributeNotFound")
      assert.include(error.message, '"elevated"')
      assert.deepStrictEqual(session.attributeNames, ["theme"])
    }))

  test("what is stored by another schema is invalid, and the rest stays usable", (sessions) =>
    Effect.gen(function* () {
      const Old = SessionAttribute.make("cart", Schema.Struct({ count: Schema.Number }))
      const created = yield* sessions.create(alice, {
        attributes: [SessionAttribute.value(Old, { count: 3 }), SessionAttribute.value(Theme, "dark")]
      })
      const session = yield* sessions.get(created.id)
      const error = yield* Effect.flip(Session.get(session, Cart))
      assert.strictEqual(error._tag, "AttributeInvalid")
      assert.strictEqual(error.operation, "decode")
      assert.strictEqual((yield* Effect.flip(Session.getOption(session, Cart)))._tag, "AttributeInvalid")
      assert.strictEqual((yield* Effect.flip(Session.modify(session, Cart, (items) => items)))._tag, "AttributeInvalid")
      assert.strictEqual(yield* Session.get(session, Theme), "dark")
      assert.deepStrictEqual(yield* Session.get(session, Old), { count: 3 })
      const repaired = yield* sessions.update(Session.set(session, Cart, ["pen"]))
      assert.deepStrictEqual(yield* Session.get(repaired, Cart), ["pen"])
    }))

  test("decodes once per version, for everybody, and frozen", (sessions) =>
    Effect.gen(function* () {
      let decoded = 0
      const Counted = SessionAttribute.make(
        "counted",
        Schema.Struct({ tags: Schema.ReadonlyMap(Schema.String, Schema.Struct({ n: Schema.Number })) }).check(
          Schema.makeFilter(() => {
            decoded++
            return true
          })
        )
      )
      const value = { tags: new Map([["a", { n: 1 }]]) }
      const created = yield* sessions.create(alice, { attributes: [SessionAttribute.value(Counted, value)] })
      yield* sessions.get(created.id, { refresh: true })
      decoded = 0
      const first = yield* Session.get(yield* sessions.get(created.id), Counted)
      for (let n = 0; n < 10; n++) {
        assert.strictEqual(yield* Session.get(yield* sessions.get(created.id), Counted), first)
      }
      assert.strictEqual(decoded, 1)
      const { tags } = first
      assert.throws(() => (tags instanceof Map ? tags.set("b", { n: 2 }) : undefined), TypeError, "immutable")
      assert.throws(() => Object.assign(tags.get("a") ?? {}, { n: 2 }), TypeError)
      // Neither is the value that was given changed, nor does changing it change the session.
      value.tags.set("c", { n: 3 })
      assert.deepStrictEqual([...(yield* Session.get(created, Counted)).tags.keys()], ["a"])
      // Another attribute's change keeps what was decoded.
      decoded = 0
      yield* sessions.update(Session.set(created, Theme, "light"))
      assert.strictEqual(yield* Session.get(yield* sessions.get(created.id), Counted), first)
      assert.strictEqual(decoded, 0)
      const changed = yield* sessions.update(Session.set(created, Counted, { tags: new Map() }), { check: "none" })
      assert.strictEqual((yield* Session.get(changed, Counted)).tags.size, 0)
    }))

  test("two definitions of one name do not get each other's values", (sessions) =>
    Effect.gen(function* () {
      const AsText = SessionAttribute.make("when", Schema.String)
      const AsDate = SessionAttribute.make("when", Schema.DateFromString)
      const created = yield* sessions.create(alice, {
        attributes: [SessionAttribute.value(AsText, "1970-01-01T00:00:00.000Z")]
      })
      const session = yield* sessions.get(created.id)
      for (let n = 0; n < 3; n++) {
        assert.strictEqual(yield* Session.get(session, AsText), "1970-01-01T00:00:00.000Z")
        assert.deepStrictEqual(yield* Session.get(session, AsDate), new Date(0))
      }
    }))

  test("what remembers its computations works after it was read", (sessions) =>
    Effect.gen(function* () {
      const When = SessionAttribute.make("when", Schema.DateTimeUtcFromString)
      const created = yield* sessions.create(alice, {
        attributes: [SessionAttribute.value(When, DateTime.makeUnsafe(0))]
      })
      const when = yield* Session.get(yield* sessions.get(created.id), When)
      assert.strictEqual(DateTime.toPartsUtc(when).year, 1970)
    }))

  test("an initial value is made for each reader", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice)
      const first = yield* Session.get(session, Cart)
      assert.notStrictEqual(first, yield* Session.get(session, Cart))
    }))
})

describe("Session, changing", () => {
  test("records on a copy; the last change of an attribute counts", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice, { attributes: [SessionAttribute.value(Theme, "dark")] })
      const changed = session.pipe(
        Session.set(Cart, ["a"]),
        Session.remove(Cart),
        Session.set(Cart, ["b"]),
        Session.remove(Theme)
      )
      assert.strictEqual(yield* Session.get(session, Theme), "dark")
      assert.deepStrictEqual(session.attributeNames, ["theme"])
      assert.deepStrictEqual(yield* Session.get(changed, Cart), ["b"])
      assert.deepStrictEqual(changed.attributeNames, ["cart"])
      assert.strictEqual((yield* Effect.flip(Session.get(changed, Theme)))._tag, "AttributeNotFound")
      assert.strictEqual(changed.version, session.version)
      const saved = yield* sessions.update(changed)
      assert.strictEqual(saved.version, session.version + 1n)
      assert.deepStrictEqual(saved.attributeNames, ["cart"])
      assert.deepStrictEqual(yield* Session.get(yield* sessions.get(session.id, { refresh: true }), Cart), ["b"])
    }))

  test("data first and data last are the same, with and without options", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice)
      const options = { timeToLive: "1 minute" } as const
      const pairs = [
        [Session.set(session, Theme, "dark"), session.pipe(Session.set(Theme, "dark"))],
        [Session.set(session, Theme, "dark", options), session.pipe(Session.set(Theme, "dark", options))],
        [Session.remove(session, Theme), session.pipe(Session.remove(Theme))],
        [Session.setGroup(session, Option.none()), session.pipe(Session.setGroup(Option.none()))],
        [Session.setExpiresIn(session, "1 hour"), session.pipe(Session.setExpiresIn("1 hour"))],
        [Session.setIdleTimeout(session, "1 hour"), session.pipe(Session.setIdleTimeout("1 hour"))],
        [
          yield* Session.modify(session, Cart, (c) => c, options),
          yield* session.pipe(Session.modify(Cart, (c) => c, options))
        ]
      ] as const
      for (const [first, last] of pairs) {
        assert.isTrue(Session.isSession(first) && Session.isSession(last))
        assert.deepStrictEqual(first.attributeNames, last.attributeNames)
        assert.notStrictEqual(first, session)
      }
    }))

  test("an update without a change writes nothing", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice)
      assert.strictEqual(yield* sessions.update(session), session)
      assert.strictEqual((yield* sessions.get(session.id, { refresh: true })).version, 1n)
    }))

  test("group, absolute and idle limit are changed, and taken away", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice, { groupId: GroupId.make("g") })
      const changed = yield* sessions.update(
        session.pipe(
          Session.setGroup(Option.none()),
          Session.setExpiresIn("2 hours"),
          Session.setIdleTimeout("Infinity")
        )
      )
      assert.deepStrictEqual(changed.groupId, Option.none())
      assert.isFalse(Duration.isFinite(changed.idleTimeout))
      assert.deepStrictEqual(yield* Session.remaining(changed), Duration.hours(2))
      const again = yield* sessions.update(
        changed.pipe(Session.setGroup(Option.some(GroupId.make("h"))), Session.setIdleTimeout("5 minutes"))
      )
      assert.deepStrictEqual(again.groupId, Option.some(GroupId.make("h")))
      assert.deepStrictEqual(yield* Session.remaining(again), Duration.minutes(5))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Session.remaining(again), Duration.minutes(4))
      assert.deepStrictEqual(yield* Session.sinceAuthentication(again), Option.some(Duration.minutes(1)))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* Session.remaining(again), Duration.zero)
      const guest = yield* sessions.createAnonymous()
      assert.deepStrictEqual(yield* Session.sinceAuthentication(guest), Option.none())
    }))

  test("only what the store made is a session", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice)
      const [summary] = yield* sessions.listForUser(alice)
      assert.isTrue(Session.isSession(session))
      for (const other of [summary, { ...session }, {}, null, undefined, "session"]) {
        assert.isFalse(Session.isSession(other))
      }
      // A summary lacks the credential, and a copy what is behind it: neither can be written.
      const copy = { ...session }
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Effect.suspend(() => sessions.update(copy)))))
      assert.throws(() => Session.remove(Theme)(copy), TypeError, "cannot be built or copied by hand")
    }))

  test("prints its key's prefix, version and attribute names", (sessions) =>
    Effect.gen(function* () {
      const created = yield* sessions.create(alice, { attributes: [SessionAttribute.value(Cart, ["hunter2"])] })
      const session = Session.set(created, Theme, "dark")
      const printed = [
        String(session),
        inspect(session, { depth: 20, showHidden: true }),
        inspect({ session }, { depth: 20 }),
        JSON.stringify(session),
        Cause.pretty(Cause.fail(session))
      ]
      for (const text of printed) {
        assert.include(text, session.key.slice(0, 8))
        assert.notInclude(text, session.key)
        assert.notInclude(text, "hunter2")
        assert.notInclude(text, '"dark"')
      }
      assert.include(String(session), "version 1, attributes: cart, theme")
      assert.isTrue(Equal.equals(session, session))
    }))
})

describe("Session, comparing", () => {
  test("equal are those of one id and version with the same recorded changes; a summary equals summaries", (sessions) =>
    Effect.gen(function* () {
      const session = yield* sessions.create(alice, { attributes: [SessionAttribute.value(Theme, "dark")] })
      const other = yield* sessions.create(alice)
      const again = yield* sessions.get(session.id, { refresh: true })
      assert.isTrue(Equal.equals(session, again))
      assert.strictEqual(Hash.hash(session), Hash.hash(again))
      assert.isFalse(Equal.equals(session, other))
      const changed = Session.set(session, Theme, "light")
      assert.isFalse(Equal.equals(session, changed))
      assert.isTrue(Equal.equals(changed, changed))
      assert.isFalse(Equal.equals(session, yield* sessions.update(changed)))
      const [summaries, more] = [yield* sessions.listForUser(alice), yield* sessions.listForUser(alice)]
      assert.lengthOf(summaries, 2)
      assert.isTrue(Equal.equals(summaries[0], more[0]))
      assert.isFalse(Equal.equals(summaries[0], summaries[1]))
      const current = yield* sessions.get(session.id)
      for (const summary of summaries) {
        assert.isFalse(Equal.equals(current, summary))
        assert.isFalse(Equal.equals(summary, current))
      }
    }))
})

describe("Session, types", () => {
  it("what can go wrong follows from the attribute", () => {
    type Get<A, Missing> = typeof Session.get<A, Missing>
    expectTypeOf<ReturnType<Get<ReadonlyArray<string>, never>>>().toEqualTypeOf<
      Effect.Effect<ReadonlyArray<string>, AttributeInvalid>
    >()
    expectTypeOf<ReturnType<Get<boolean, AttributeNotFound>>>().toEqualTypeOf<
      Effect.Effect<boolean, AttributeNotFound | AttributeInvalid>
    >()
  })

  it("the check of an update selects its error", () => {
    const use = (sessions: Sessions, session: Session) => ({
      byDefault: sessions.update(session),
      attributes: sessions.update(session, { check: "attributes" }),
      session: sessions.update(session, { check: "session", notify: false }),
      none: sessions.update(session, { check: "none" }),
      modify: sessions.modify(
        session.id,
        Session.modify(Cart, (items) => [...items, "pen"])
      ),
      failing: sessions.modify(session.id, (s) => Effect.andThen(Effect.fail("no" as const), Effect.succeed(s)), {
        check: "none"
      })
    })
    type Used = ReturnType<typeof use>
    type ErrorOf<K extends keyof Used> = Effect.Error<Used[K]>
    expectTypeOf<ErrorOf<"byDefault">>().toEqualTypeOf<WriteError | AttributeVersionMismatch>()
    expectTypeOf<ErrorOf<"attributes">>().toEqualTypeOf<WriteError | AttributeVersionMismatch>()
    expectTypeOf<ErrorOf<"session">>().toEqualTypeOf<WriteError | VersionMismatch>()
    expectTypeOf<ErrorOf<"none">>().toEqualTypeOf<WriteError>()
    expectTypeOf<ErrorOf<"modify">>().toEqualTypeOf<WriteError | AttributeVersionMismatch>()
    expectTypeOf<ErrorOf<"failing">>().toEqualTypeOf<WriteError | "no">()
    expectTypeOf<Effect.Error<ReturnType<Sessions["find"]>>>().toEqualTypeOf<SessionStoreUnavailable>()
  })
})
