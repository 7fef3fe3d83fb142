import { assert, describe, it } from "@effect/vitest"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { AttributeTable } from "../src/internal/AttributeTable.ts"
import * as SessionAttribute from "../src/SessionAttribute.ts"
import type { StoredAttribute } from "../src/SessionRow.ts"

const stored = (value: string, version = 1n, expiresAt?: number): StoredAttribute => ({ value, version, expiresAt })

const table = (attributes: ReadonlyMap<string, StoredAttribute>, previous?: AttributeTable) =>
  AttributeTable.from(attributes, previous)

const many = (count: number) =>
  new Map(Array.from({ length: count }, (_, n) => [`name ${n}`, stored(JSON.stringify(n), BigInt(n))]))

const Text = SessionAttribute.SessionAttribute.make("a", Schema.String)
const Items = SessionAttribute.SessionAttribute.make("a", Schema.Array(Schema.Finite))

describe("AttributeTable", () => {
  it.each([0, 1, 2, 8, 9, 32, 33, 500])("is a map of %i attributes, in their order", (count) => {
    const attributes = many(count)
    const made = table(attributes)
    const plain = (each: StoredAttribute | undefined) => each && stored(each.value, each.version, each.expiresAt)
    assert.strictEqual(made.size, count)
    assert.deepStrictEqual([...made.keys()], [...attributes.keys()])
    assert.deepStrictEqual(
      Array.from(made, ([name, each]) => [name, plain(each)]),
      [...attributes]
    )
    assert.deepStrictEqual([...made.values()].map(plain), [...attributes.values()])
    const seen: Array<[string, StoredAttribute | undefined]> = []
    made.forEach((each, name, map) => {
      assert.strictEqual(map, made)
      seen.push([name, plain(each)])
    })
    assert.deepStrictEqual(seen, [...attributes])
    for (const [name, each] of attributes) {
      assert.isTrue(made.has(name))
      assert.deepStrictEqual(plain(made.get(name)), each)
    }
    assert.isFalse(made.has("another"))
    assert.isUndefined(made.get("another"))
  })

  it.each([1, 8, 9, 33])("of %i attributes, some can be set and removed, which leaves it as it was", (count) => {
    const attributes = many(count)
    const made = table(attributes)
    const plain = (each: AttributeTable) => Array.from(each, ([name, { value, version }]) => [name, value, version])
    const before = plain(made)
    const cases: ReadonlyArray<readonly [set: ReadonlyArray<string>, removed: ReadonlyArray<string>]> = [
      [[], []],
      [["name 0"], []],
      [["name 0", `name ${count - 1}`], []],
      [["another"], []],
      [["name 0", "another"], []],
      [[], ["name 0"]],
      [["another"], ["name 0", "absent"]],
      [["name 0"], ["name 0"]]
    ]
    for (const [set, removed] of cases) {
      const expected = new Map(attributes)
      for (const name of removed) expected.delete(name)
      for (const name of set) expected.set(name, stored(name, 7n))
      const changed = made.with(
        set.map((name) => [name, stored(name, 7n)]),
        removed
      )
      assert.deepStrictEqual(plain(changed), plain(table(expected)))
      for (const [name, slot] of changed) if (!set.includes(name)) assert.strictEqual(slot, made.get(name))
    }
    assert.deepStrictEqual(plain(made), before)
  })

  it("names that are those of an object's properties are only names", () => {
    const names = ["__proto__", "constructor", "length", "0", "-1"]
    const made = table(new Map(names.map((name) => [name, stored(JSON.stringify(name))])))
    for (const name of names) assert.strictEqual(made.get(name)?.value, JSON.stringify(name))
    for (const name of ["toString", "1", "indexOf"]) assert.isUndefined(made.get(name))
  })

  it("what is the same in the one before keeps what was decoded, by whoever reads it", () => {
    const first = table(
      new Map([
        ["a", stored("[1,2]")],
        ["b", stored("1")]
      ])
    )
    const decoded = first.get("a")?.read(Items)
    assert(decoded !== undefined && Exit.isSuccess(decoded))
    assert.deepStrictEqual(decoded.value, [1, 2])
    const second = table(
      new Map([
        ["c", stored("2", 2n)],
        ["a", stored("[1,2]")]
      ]),
      first
    )
    const known = second.get("a")?.memo(Items)
    assert(known !== undefined && Exit.isSuccess(known))
    assert.strictEqual(known.value, decoded.value)
    for (const other of [stored("[1]"), stored("[1,2]", 2n), stored("[1,2]", 1n, 5)]) {
      assert.isUndefined(
        table(new Map([["a", other]]), first)
          .get("a")
          ?.memo(Items)
      )
    }
  })

  it("what one definition has decoded no other one is given", () => {
    const slot = table(new Map([["a", stored("[1]")]])).get("a")
    assert(slot !== undefined)
    const failed = slot.read(Text)
    assert.isTrue(Exit.isFailure(failed))
    assert.strictEqual(slot.read(Text), slot.read(Text), "a failure is remembered, too")
    assert.deepStrictEqual(slot.read(Text), failed)
    assert.deepStrictEqual(slot.read(Items), Exit.succeed([1]))
    assert.isUndefined(slot.memo(Text))
    assert.isTrue(Exit.isFailure(slot.read(Text)))
  })

  it.each(['"plain"', '""', '"ü"', '"\\n"', '"\\u0000"', '"\\ud800"', '"a\\"b"', '"'.padEnd(500, "x") + '"'])(
    "a text is decoded as JSON is: %s",
    (text) => {
      assert.deepStrictEqual(
        table(new Map([["a", stored(text)]]))
          .get("a")
          ?.read(Text),
        Exit.succeed(JSON.parse(text))
      )
    }
  )

  it.each(['"', '"a', 'a"', '"a"b"', '"a\nb"', '"a\\"', "", '"\t"'])("what is no JSON is refused: %j", (text) => {
    const exit = table(new Map([["a", stored(text)]]))
      .get("a")
      ?.read(Text)
    assert(exit !== undefined && Exit.isFailure(exit))
  })

  it("names from users do not fill the memory", () => {
    // More lists of names than are kept: those that were forgotten work as before.
    const tables = Array.from({ length: 3_000 }, (_, n) => table(new Map([[`name ${n}`, stored(String(n))]])))
    for (const [n, made] of tables.entries()) assert.strictEqual(made.get(`name ${n}`)?.value, String(n))
  })
})
