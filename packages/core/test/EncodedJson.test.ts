import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { stringify } from "../src/internal/EncodedJson.ts"

const accepted = (value: unknown): string => {
  const result = stringify(value)
  return Result.isSuccess(result) ? result.success : assert.fail(result.failure)
}

const refused = (value: unknown): string => {
  const result = stringify(value)
  return Result.isFailure(result) ? result.failure : assert.fail(`accepted: ${result.success}`)
}

const nested = (depth: number): unknown => {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value }
  return value
}

describe("EncodedJson", () => {
  it.prop("what it accepts comes back as it was", [Schema.Json], ([value]) => {
    const text = accepted(value)
    assert.deepStrictEqual(JSON.parse(text), value)
  })

  it("keeps what JSON.stringify loses", () => {
    assert.isTrue(Object.is(JSON.parse(accepted(-0)), -0))
    assert.deepStrictEqual(JSON.parse(accepted({ a: [-0] })), { a: [-0] })
    assert.strictEqual(JSON.parse(accepted(Number.MIN_VALUE)), Number.MIN_VALUE)
    assert.strictEqual(JSON.parse(accepted("\u0000\ud800\u{1F600}")), "\u0000\ud800\u{1F600}")
    const odd = JSON.parse('{"__proto__":{"a":1},"constructor":2}') as unknown
    const back: unknown = JSON.parse(accepted(odd))
    assert.isTrue(typeof back === "object" && back !== null && Object.hasOwn(back, "__proto__"))
    assert.strictEqual(accepted(odd), '{"__proto__":{"a":1},"constructor":2}')
    assert.strictEqual(accepted(Object.assign(Object.create(null), { a: 1 })), '{"a":1}')
  })

  it("refuses by name what JSON cannot carry", () => {
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    const cases: ReadonlyArray<readonly [unknown, string]> = [
      [undefined, "type undefined"],
      [{ a: undefined }, "at .a: a value of type undefined"],
      [[1, undefined], "at [1]: a value of type undefined"],
      [NaN, "not finite"],
      [{ a: [{ b: Infinity }] }, "at .a[0].b: a number that is not finite"],
      [-Infinity, "not finite"],
      [1n, "type bigint"],
      [() => 1, "type function"],
      [{ f: () => 1 }, "at .f: a value of type function"],
      [Symbol("s"), "type symbol"],
      [new Map([[1, 2]]), "an instance of a class"],
      [new Set([1]), "an instance of a class"],
      [new Date(0), "an instance of a class"],
      [{ a: new Date(0) }, "at .a: an instance of a class"],
      [/x/, "an instance of a class"],
      [Object(1), "an instance of a class"],
      [new Uint8Array(2), "an instance of a class"],
      [cyclic, "cyclic"],
      [nested(201), "nested deeper than 200"]
    ]
    for (const [value, why] of cases) assert.include(refused(value), why)
  })

  it("refuses holes, and what toJSON would have replaced", () => {
    // eslint-disable-next-line no-sparse-arrays
    assert.include(refused([1, , 3]), "at [1]")
    assert.include(refused({ toJSON: () => "something else" }), "type function")
  })

  it("takes 200 levels, and no more", () => {
    const value = nested(200)
    assert.deepStrictEqual(JSON.parse(accepted(value)), value)
    refused(nested(201))
    refused(nested(100_000))
  })

  it("says where, not what", () => {
    assert.notInclude(refused({ name: "hunter2", secret: [() => "hunter2"] }), "hunter2")
  })
})
