/** Values are opaque text, and their size is counted exactly. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionStorage } from "../../SessionStorage.ts"
import { attribute, created, newHash, newUser, stands, tagged, unlimited, written } from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** JSON texts that change when something takes them for more than text. */
export const opaqueValues: ReadonlyArray<string> = [
  "null",
  '""',
  "-0",
  "1e400",
  "123456789012345678901234567890.123456789012345678901234567890",
  "1.10",
  '"\\u0000"',
  '"\\ud800 alone"',
  '"\\udc00\\ud800 reversed"',
  '"\\u00e9 \u00e9 e\u0301"',
  '"\u2028\u2029\ufeff\u{1F600}"',
  '"\\"quoted\\" \\\\ \' -- $1 $$ %s"',
  '{"b":1,"a":2,"b":3}',
  '{ "spaces" :  [ 1 , 2 ] }',
  '{"__proto__":{"polluted":true},"constructor":null,"":0}',
  `${"[".repeat(100)}${"]".repeat(100)}`,
  JSON.stringify("x".repeat(100_000)),
  JSON.stringify("\u{1F600}".repeat(10_000))
]

/** Registers the tests. */
export const storageValues = ({ it, passed, tolerance }: Harness): void => {
  it.effect("values come back as the text that they were, from every operation", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const set = opaqueValues.map((value, index) => attribute(`value ${index}`, value))
      const texts = (row: { readonly attributes: ReadonlyMap<string, { readonly value: string }> } | undefined) =>
        opaqueValues.map((_, index) => row?.attributes.get(`value ${index}`)?.value)

      const userId = newUser()
      const row = yield* created({ userId, attributes: set })
      expect(texts(row)).toEqual(opaqueValues)
      expect(texts(yield* stands(row.key))).toEqual(opaqueValues)
      expect(texts((yield* storage.list(userId)).rows[0])).toEqual(opaqueValues)

      const other = yield* created()
      const outcome = tagged(yield* written(other, { set, baseVersion: 0n }), "Accepted")
      expect(texts(outcome.row)).toEqual(opaqueValues)
      const mismatch = tagged(yield* written(other, { expectedVersion: 1n }), "VersionMismatch")
      expect(texts(mismatch.row)).toEqual(opaqueValues)

      const rotated = tagged(
        yield* storage.rotate({
          key: other.key,
          proof: other.secretHash,
          secretHash: newHash(),
          grace: 0,
          login: { userId: newUser(), lifetime: 50_000, idleTimeout: undefined, limit: unlimited },
          set,
          maxBytes: 1_000_000
        }),
        "Rotated"
      )
      expect(texts(rotated.row)).toEqual(opaqueValues)
    })
  )

  it.effect("100 attributes are as good as one", () =>
    Effect.gen(function* () {
      const attributes = Array.from({ length: 100 }, (_, index) => attribute(`n${index}`, String(index)))
      const row = yield* created({ attributes })
      expect(row.attributes.size).toBe(100)
      tagged(yield* written(row, { set: attributes.slice(50).map((a) => attribute(a.name, '"x"')) }), "Accepted")
      const { attributes: changed } = yield* stands(row.key)
      expect(changed.size).toBe(100)
      expect(Array.from(changed.values()).filter(({ version }) => version === 2n)).toHaveLength(50)
    })
  )

  const sizes: ReadonlyArray<[name: string, value: string, bytes: number]> = [
    ["name", "1", 5],
    ["name", '"\u00e9"', 8],
    ["\u{1F600}", '"\u{1F600}"', 10],
    ["e\u0301\u00e9", '"\\u0000"', 13],
    ['\\"', '"\\""', 6]
  ]

  it.effect.each(sizes)(
    "the size of a session is in UTF-8 bytes of names and values: %j = %j",
    ([name, value, bytes]) =>
      Effect.gen(function* () {
        const row = yield* created({ attributes: [attribute("kept", "1234")] })
        const set = [attribute(name, value)]
        const refused = tagged(yield* written(row, { set, maxBytes: 8 + bytes - 1 }), "TooLarge")
        expect(refused.bytes).toBe(8 + bytes)
        expect(yield* stands(row.key)).toEqual(row)
        tagged(yield* written(row, { set, maxBytes: 8 + bytes }), "Accepted")
      })
  )

  it.effect("what a change replaces or removes does not count, and what it adds does", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("aa", "12345678"), attribute("bb", "12345678")] })
      const change = { set: [attribute("aa", "1"), attribute("cc", "1")], remove: ["bb"] }
      expect(tagged(yield* written(row, { ...change, maxBytes: 5 }), "TooLarge").bytes).toBe(6)
      tagged(yield* written(row, { ...change, maxBytes: 6 }), "Accepted")
      // A limit that was lowered since refuses every change that leaves the session above it.
      expect(tagged(yield* written(row, { maxBytes: 5 }), "TooLarge").bytes).toBe(6)
      tagged(yield* written(row, { remove: ["cc"], maxBytes: 5 }), "Accepted")
    })
  )

  it.effect("expired attributes take no room", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("old", "123456", 1), attribute("new", "123")] })
      yield* passed(row.createdAt + 1 + tolerance)
      expect(tagged(yield* written(row, { set: [attribute("x", "1")], maxBytes: 7 }), "TooLarge").bytes).toBe(8)
      tagged(yield* written(row, { set: [attribute("x", "1")], maxBytes: 8 }), "Accepted")
    })
  )
}
