import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Hash from "effect/Hash"
import * as HashMap from "effect/HashMap"
import { deepFreeze } from "../src/internal/DeepFreeze.ts"

class Point {
  x = 1
}

class Counter {
  #count = 0
  increment(): number {
    return ++this.#count
  }
}

describe("DeepFreeze", () => {
  it("freezes objects and arrays in depth", () => {
    const bare = Object.setPrototypeOf({ deep: [1] }, null) as { readonly deep: Array<number> }
    const value = { list: [{ a: 1 }], bare }
    assert.isTrue(deepFreeze(value))
    assert.throws(() => value.list.push({ a: 2 }), TypeError)
    assert.throws(() => bare.deep.push(2), TypeError)
    assert.throws(() => {
      for (const each of value.list) each.a = 2
    }, TypeError)
  })

  it("freezes Maps, Sets and Dates, whose state no freeze reaches, and what they hold", () => {
    const map = new Map([[{ k: 1 }, { v: [1] }]])
    const set = new Set([{ m: 1 }])
    const date = new Date(0)
    assert.isTrue(deepFreeze({ map, set, date }))
    assert.throws(() => map.set({ k: 2 }, { v: [] }), TypeError, "immutable")
    assert.throws(() => map.delete({ k: 1 }), TypeError)
    assert.throws(() => map.clear(), TypeError)
    assert.throws(() => set.add({ m: 2 }), TypeError)
    assert.throws(() => set.clear(), TypeError)
    assert.throws(() => date.setTime(1), TypeError)
    assert.throws(() => date.setFullYear(2000), TypeError)
    assert.strictEqual(date.getTime(), 0)
    for (const [key, { v }] of map) {
      assert.throws(() => {
        key.k = 2
      }, TypeError)
      assert.throws(() => v.push(2), TypeError)
    }
    for (const member of set) {
      assert.throws(() => {
        member.m = 2
      }, TypeError)
    }
    assert.strictEqual(map.size, 1)
    assert.strictEqual(set.size, 1)
  })

  it("ends on cycles", () => {
    const cyclic: { self?: unknown } = {}
    cyclic.self = [cyclic]
    assert.isTrue(deepFreeze(cyclic))
    assert.isTrue(Object.isFrozen(cyclic))
  })

  it("says so where something cannot be frozen", () => {
    for (const value of [
      new Uint8Array(1),
      [new Uint8Array(1)],
      { buffer: new ArrayBuffer(1) },
      new URL("http://a/"),
      () => 1,
      new Map([[1, new Uint8Array(1)]])
    ]) {
      assert.isFalse(deepFreeze(value))
    }
  })

  it("leaves instances of classes alone, which may break or change although frozen, and freezes what is around them", () => {
    const value = { point: new Point(), counter: new Counter(), list: [1] }
    assert.isFalse(deepFreeze(value))
    value.point.x = 2
    assert.strictEqual(value.counter.increment(), 1)
    assert.throws(() => value.list.push(2), TypeError)
    for (const each of [new Point(), new Counter(), [new Point()], new Map([[1, new Point()]])]) {
      assert.isFalse(deepFreeze(each))
    }
  })

  it("leaves Effect's data types, which remember what they compute, usable", () => {
    const utc = DateTime.makeUnsafe(0)
    const zoned = DateTime.makeZonedUnsafe(0, { timeZone: "Europe/London" })
    const decimal = BigDecimal.fromStringUnsafe("1.500")
    const chunk = Chunk.appendAll(Chunk.append(Chunk.make(1), 2), Chunk.make(3))
    const hashed = HashMap.make(["a", 1])
    assert.isFalse(deepFreeze({ utc, zoned, decimal, chunk, hashed }))
    assert.strictEqual(DateTime.toPartsUtc(utc).year, 1970)
    assert.include(DateTime.formatIsoZoned(zoned), "1970-01-01T01:00:00")
    assert.strictEqual(BigDecimal.format(BigDecimal.normalize(decimal)), "1.5")
    assert.deepStrictEqual(Chunk.toReadonlyArray(chunk), [1, 2, 3])
    assert.strictEqual(Hash.hash(hashed), Hash.hash(HashMap.make(["a", 1])))
  })

  it("does nothing to primitives", () => {
    for (const value of [1, "a", true, null, undefined, 1n, Symbol("s")]) assert.isTrue(deepFreeze(value))
  })
})
