import { assert, describe, it } from "@effect/vitest"
import { RecentMap } from "../src/internal/RecentMap.ts"

const filled = (capacity: number, count: number): RecentMap<number, string> => {
  const map = new RecentMap<number, string>(capacity)
  for (let key = 0; key < count; key++) map.put(key, `value ${key}`)
  return map
}

describe("RecentMap", () => {
  it.each([2, 3, 10, 11, 1_000])("holds %i at most, and the latest half of that in any case", (capacity) => {
    const map = new RecentMap<number, string>(capacity)
    for (let key = 0; key < 5 * capacity; key++) {
      map.put(key, `value ${key}`)
      assert.isAtMost(map.size, capacity)
    }
    const latest = Array.from({ length: Math.floor(capacity / 2) }, (_, back) => 5 * capacity - 1 - back)
    assert.isTrue(latest.every((key) => map.get(key) === `value ${key}`))
    assert.isFalse(map.has(0))
  })

  it("keeps what is asked for, however much else comes", () => {
    const map = filled(10, 3)
    for (let key = 100; key < 200; key++) {
      map.put(key, "other")
      assert.strictEqual(map.get(1), "value 1")
    }
    assert.isFalse(map.has(2))
  })

  it("has each key once, with its latest value, in whichever generation it is", () => {
    const map = filled(10, 7)
    for (let key = 0; key < 7; key++) map.put(key, "new")
    assert.strictEqual(map.get(0), "new")
    assert.strictEqual(map.get(6), "new")
    assert.isAtMost(map.size, 7)
    for (let key = 0; key < 7; key++) map.delete(key)
    assert.strictEqual(map.size, 0)
  })

  it("forgets what is deleted, or everything", () => {
    const map = filled(10, 9)
    for (const key of [0, 8]) {
      map.delete(key)
      assert.isFalse(map.has(key))
    }
    map.clear()
    assert.strictEqual(map.size, 0)
    assert.isUndefined(map.get(5))
  })
})
