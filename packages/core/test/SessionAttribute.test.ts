import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import { inspect } from "node:util"
import { decode, encode, SessionAttribute } from "../src/SessionAttribute.ts"
import { type AttributeInvalid, type AttributeNotFound, InvalidSessionConfig } from "../src/SessionError.ts"

const show = (value: unknown): string => String(value)

/** Stores a value and reads it back, as a database would hand it over. */
const stored = <A>(schema: Parameters<typeof SessionAttribute.make<A>>[1], value: NoInfer<A>): A => {
  const attribute = SessionAttribute.make("a", schema)
  const text = encode(attribute, value)
  if (Result.isFailure(text)) return assert.fail(text.failure.issue)
  const { exit } = decode(attribute, text.success)
  return Exit.isSuccess(exit) ? exit.value : assert.fail(String(exit.cause))
}

const refusal = <A>(schema: Parameters<typeof SessionAttribute.make<A>>[1], value: A): AttributeInvalid => {
  const text = encode(SessionAttribute.make("a", schema), value)
  return Result.isFailure(text) ? text.failure : assert.fail(`accepted: ${text.success}`)
}

class Person extends Schema.Class<Person>("Person")({ name: Schema.String, since: Schema.DateFromString }) {}

describe("SessionAttribute.make", () => {
  it("takes every name that the database can hold", () => {
    for (const name of [
      "a",
      "\u{1F6D2}",
      "__proto__",
      "constructor",
      "a b",
      "\"'`;--",
      "x".repeat(255),
      "é".repeat(255)
    ]) {
      assert.strictEqual(SessionAttribute.make(name, Schema.String).name, name)
    }
  })

  it("refuses others where they are defined, by name, value and range", () => {
    for (const name of ["", "x".repeat(256), "\u{1F6D2}".repeat(128), "a\u0000b", "\ud83d", "\udc00x"]) {
      try {
        SessionAttribute.make(name, Schema.String)
        assert.fail(`accepted ${JSON.stringify(name)}`)
      } catch (error) {
        assert.instanceOf(error, InvalidSessionConfig)
        assert.strictEqual(error.setting, "attribute name")
        assert.include(error.message, "1 to 255 characters")
        assert.isBelow(error.message.length, 200)
      }
    }
  })

  it("refuses a time to live of nothing; an infinite one is none", () => {
    for (const timeToLive of [0, -1, "0 millis", 0.5] as const) {
      assert.throws(() => SessionAttribute.make("a", Schema.String, { timeToLive }), InvalidSessionConfig, "timeToLive")
      const attribute = SessionAttribute.make("a", Schema.String)
      assert.throws(() => SessionAttribute.value(attribute, "x", { timeToLive }), InvalidSessionConfig, "timeToLive")
    }
    assert.isUndefined(SessionAttribute.make("a", Schema.String, { timeToLive: "Infinity" }).timeToLive)
    assert.deepStrictEqual(
      SessionAttribute.make("a", Schema.String, { timeToLive: "15 minutes" }).timeToLive,
      Duration.minutes(15)
    )
  })

  it("prints its name", () => {
    assert.strictEqual(show(SessionAttribute.make("cart", Schema.String)), "SessionAttribute(cart)")
  })

  it("types: an initial value means that it is never missing", () => {
    const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
    const Theme = SessionAttribute.make("theme", Schema.Literals(["light", "dark"]))
    const Elevated = SessionAttribute.make("elevated", Schema.Boolean, { timeToLive: "15 minutes" })
    expectTypeOf(Cart).toEqualTypeOf<SessionAttribute<ReadonlyArray<string>, never>>()
    expectTypeOf(Theme).toEqualTypeOf<SessionAttribute<"light" | "dark", AttributeNotFound>>()
    expectTypeOf(Elevated).toEqualTypeOf<SessionAttribute<boolean>>()
    // Invariant: neither reading nor writing may widen or narrow.
    expectTypeOf<SessionAttribute<"light">>().not.toExtend<SessionAttribute<string>>()
    expectTypeOf<SessionAttribute<string>>().not.toExtend<SessionAttribute<"light">>()
    expectTypeOf<SessionAttribute<string, never>>().toExtend<SessionAttribute<string>>()
  })
})

describe("SessionAttribute, what comes back", () => {
  it("is what went in, where the schema can encode it", () => {
    const map = new Map([
      ["a", 1n],
      ["__proto__", 2n]
    ])
    assert.deepStrictEqual(stored(Schema.ReadonlyMap(Schema.String, Schema.BigInt), map), map)
    assert.deepStrictEqual(stored(Schema.ReadonlySet(Schema.Number), new Set([1, -0, 3])), new Set([1, 0, 3]))
    assert.deepStrictEqual(stored(Schema.Date, new Date(5)), new Date(5))
    assert.strictEqual(stored(Schema.BigInt, 2n ** 200n), 2n ** 200n)
    const person = stored(Person, new Person({ name: "Ada", since: new Date(7) }))
    assert.instanceOf(person, Person)
    assert.strictEqual(person.since.getTime(), 7)
    assert.deepStrictEqual(stored(Schema.Option(Schema.String), Option.some("x")), Option.some("x"))
    assert.deepStrictEqual(stored(Schema.UndefinedOr(Schema.String), undefined), undefined)
    assert.deepStrictEqual(
      stored(Schema.Struct({ a: Schema.optional(Schema.String), b: Schema.NullOr(Schema.Number) }), { b: null }),
      { b: null }
    )
  })

  it.each([
    "",
    "\u0000",
    "a\u0000b",
    "\ud800",
    "\udc00\ud800",
    "\u{1F600}",
    "\\u0000",
    '"',
    "\u2028",
    "\u007f",
    "'; --",
    "$$"
  ])("is the text that went in: %j", (text) => {
    assert.strictEqual(stored(Schema.String, text), text)
    assert.deepStrictEqual(stored(Schema.Record(Schema.String, Schema.String), { [text]: text }), { [text]: text })
  })

  it.each([0, -0, 1.5, Number.MAX_VALUE, Number.MIN_VALUE, Number.MAX_SAFE_INTEGER, NaN, Infinity, -Infinity])(
    "is the number that went in, or it is refused: %s",
    (number) => {
      const attribute = SessionAttribute.make("a", Schema.Number)
      const text = encode(attribute, number)
      if (Result.isFailure(text)) {
        assert.isFalse(Number.isFinite(number))
        return
      }
      const { exit } = decode(attribute, text.success)
      assert.isTrue(Exit.isSuccess(exit) && Object.is(exit.value, number), text.success)
    }
  )

  it("is not confused by names that JavaScript gives a meaning", () => {
    const json = '{"__proto__":{"admin":true},"constructor":1,"toString":2}'
    const unknown = decode(SessionAttribute.make("a", Schema.Unknown), json).exit
    assert.isTrue(
      Exit.isSuccess(unknown) && Predicate.isObject(unknown.value) && Object.hasOwn(unknown.value, "__proto__")
    )
    const record = Schema.Record(Schema.String, Schema.Json)
    const value = stored(record, { ...({ ["__proto__"]: { admin: true } } as const), ok: 1 })
    assert.isUndefined(Reflect.get(value, "admin"))
    assert.isTrue(Object.hasOwn(value, "__proto__"))
    assert.isUndefined(Reflect.get({}, "admin"))
  })

  it("is decoded with the schema's defaults and checks", () => {
    const Limited = SessionAttribute.make("a", Schema.String.check(Schema.isMaxLength(3)))
    assert.isTrue(Exit.isFailure(decode(Limited, '"four"').exit))
    assert.strictEqual(refusal(Schema.String.check(Schema.isMaxLength(3)), "four").operation, "encode")
  })
})

describe("SessionAttribute, what is refused", () => {
  it("where the schema lets through what JSON cannot carry", () => {
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    for (const value of [
      undefined,
      { a: undefined },
      [() => 1],
      new Map(),
      new Date(0),
      1n,
      Symbol("s"),
      cyclic,
      NaN
    ]) {
      const error = refusal(Schema.Unknown, value)
      assert.strictEqual(error.attribute, "a")
      assert.strictEqual(error.operation, "encode")
      assert.include(error.message, "cannot be stored")
    }
  })

  it("by path and reason, and without the value", () => {
    const Items = Schema.Struct({ items: Schema.Array(Schema.Struct({ price: Schema.Number })) })
    const attribute = SessionAttribute.make("basket", Items)
    const exits: ReadonlyArray<Exit.Exit<unknown, AttributeInvalid>> = [
      decode(attribute, '{"items":[{"price":1},{"price":"hunter2"}]}').exit,
      decode(attribute, '{"items":"hunter2"}').exit,
      decode(attribute, '"hunter2"').exit,
      decode(attribute, "hunter2").exit,
      decode(attribute, "").exit,
      decode(attribute, '{"items":[{}]}').exit,
      decode(
        SessionAttribute.make("u", Schema.Union([Schema.Number, Schema.Struct({ a: Schema.Number })])),
        '"hunter2"'
      ).exit,
      decode(SessionAttribute.make("c", Schema.String.check(Schema.isMaxLength(2))), '"hunter2"').exit
    ]
    for (const exit of exits) {
      assert.isTrue(Exit.isFailure(exit))
      assert.notInclude(
        `${String(exit)} ${inspect(exit, { depth: 20, showHidden: true })} ${JSON.stringify(exit)}`,
        "hunter2"
      )
    }
    assert.include(String(exits[0]), "items[1].price")
    assert.include(String(exits[5]), "items[0].price")
  })

  it("where a codec throws, fails or is asynchronous", () => {
    const throwing = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transform(() => {
          throw new Error("hunter2")
        }),
        encode: SchemaGetter.transform(() => {
          throw new Error("hunter2")
        })
      })
    )
    const failing = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((text: string) =>
          Effect.fail(new SchemaIssue.InvalidValue({ message: text }))
        ),
        encode: SchemaGetter.transform((text: string) => text)
      })
    )
    const asynchronous = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.sleep(1), text)),
        encode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.sleep(1), text))
      })
    )
    assert.notInclude(refusal(throwing, "x").message, "hunter2")
    assert.include(refusal(asynchronous, "x").message, "asynchronous")
    for (const schema of [throwing, failing, asynchronous]) {
      const { exit } = decode(SessionAttribute.make("a", schema), '"hunter2"')
      assert.isTrue(Exit.isFailure(exit))
      assert.notInclude(String(exit), "hunter2")
    }
  })
})
