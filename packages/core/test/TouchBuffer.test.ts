import { assert, describe, it } from "@effect/vitest"
import { type Activity, TouchBuffer } from "../src/internal/TouchBuffer.ts"
import { generate, SessionId } from "../src/SessionId.ts"

const newKey = () => SessionId.key(generate())

const used = (buffer: TouchBuffer, at: number, idleFlushBy = Infinity, key = newKey()): Activity => {
  const activity = buffer.activity(key)
  activity.touchedAt = at
  buffer.queue(activity, at, idleFlushBy)
  return activity
}

const make = () => new TouchBuffer(1_000, 1_000_000)

describe("TouchBuffer", () => {
  it("gathers for the interval, or for as long as the idle limit allows", () => {
    const buffer = make()
    const usual = used(buffer, 0)
    const urgent = used(buffer, 0, 300)
    assert.strictEqual(buffer.nextFlushAt, 300)
    assert.deepStrictEqual(buffer.take(299, 10), [])
    assert.deepStrictEqual(buffer.take(300, 10), [urgent])
    assert.strictEqual(buffer.nextFlushAt, 1_000)
    assert.deepStrictEqual(buffer.take(1_000, 10), [usual])
    assert.strictEqual(buffer.nextFlushAt, Infinity)
    assert.strictEqual(buffer.size, 0)
    assert.deepStrictEqual([usual.queued, urgent.queued], [false, false])
  })

  it("says when the next flush is due earlier than before, and only then", () => {
    const buffer = make()
    let earlier = 0
    buffer.onEarlier = () => earlier++
    used(buffer, 0)
    used(buffer, 10)
    assert.strictEqual(earlier, 1)
    used(buffer, 20, 500)
    assert.strictEqual(earlier, 2)
  })

  it("hands out at most as many as asked for, and what is left stays due", () => {
    const buffer = make()
    for (let n = 0; n < 25; n++) used(buffer, n)
    assert.lengthOf(buffer.take(2_000, 10), 10)
    assert.isAtMost(buffer.nextFlushAt, 2_000)
    assert.lengthOf(buffer.take(2_000, 10), 10)
    assert.lengthOf(buffer.take(2_000, 10), 5)
  })

  it("looks at no more marks than it hands out, where those come first", () => {
    const buffer = make()
    let looks = 0
    for (let n = 0; n < 10_000; n++) {
      const activity = used(buffer, n)
      const flushBy = activity.flushBy
      Object.defineProperty(activity, "flushBy", { get: () => (looks++, flushBy), set: () => {} })
    }
    let taken = 0
    for (let batch = 0; batch < 20; batch++) taken += buffer.take(Infinity, 500).length
    assert.strictEqual(taken, 10_000)
    assert.isAtMost(looks, 3 * 10_000)
    assert.strictEqual(buffer.nextFlushAt, Infinity)
  })

  it("knows when the next is due after a part of those that were due could not be written", () => {
    const buffer = make()
    const all = [used(buffer, 0), used(buffer, 1), used(buffer, 2, 50), used(buffer, 3, 40), used(buffer, 4)]
    let earlier = 0
    buffer.onEarlier = () => earlier++
    assert.deepStrictEqual(buffer.take(2_000, 2), all.slice(0, 2))
    assert.strictEqual(buffer.nextFlushAt, -Infinity, "nobody has looked at the others")
    buffer.putBack(all.slice(0, 2), 1_500)
    assert.strictEqual(buffer.nextFlushAt, 40)
    assert.strictEqual(earlier, 1, "who waits for the next must look again")
    assert.lengthOf(buffer.take(45, 10), 1)
    assert.strictEqual(buffer.nextFlushAt, 50)
  })

  it("keeps the mark of a session while its entry is forgotten and loaded again", () => {
    const buffer = make()
    const activity = used(buffer, 5)
    assert.strictEqual(buffer.activity(activity.key), activity)
    buffer.take(Infinity, 10)
    assert.notStrictEqual(buffer.activity(activity.key), activity)
  })

  it("puts back what could not be written, without losing a use since then", () => {
    const buffer = make()
    const activity = used(buffer, 5)
    const [taken] = buffer.take(Infinity, 10)
    assert.strictEqual(taken, activity)
    // The session is used again, through an entry that was made meanwhile.
    const newer = used(buffer, 50, Infinity, activity.key)
    buffer.putBack([activity], 100)
    assert.strictEqual(buffer.size, 1)
    const [again] = buffer.take(Infinity, 10)
    assert.strictEqual(again, newer)
    assert.strictEqual(again?.touchedAt, 50)
  })

  it("puts back what could not be written, and does not go back in time", () => {
    const buffer = make()
    const late = used(buffer, 80)
    buffer.take(Infinity, 10)
    const early = used(buffer, 50, Infinity, late.key)
    buffer.putBack([late], 100)
    assert.strictEqual(early.touchedAt, 80)
  })

  it("is due at the time that was given for what was put back", () => {
    const buffer = make()
    const activity = used(buffer, 5)
    buffer.take(Infinity, 10)
    buffer.putBack([activity], 77)
    assert.strictEqual(buffer.nextFlushAt, 77)
    assert.isTrue(activity.queued)
  })

  it("merges marks that were made on different entries of a session, whichever comes first", () => {
    const key = newKey()
    for (const [first, second] of [
      [1, 2],
      [2, 1]
    ] as const) {
      const buffer = make()
      const [waiting, other] = [buffer.activity(key), buffer.activity(key)]
      waiting.touchedAt = first
      buffer.queue(waiting, first, Infinity)
      other.touchedAt = second
      buffer.queue(other, second, 50)
      assert.strictEqual(buffer.size, 1)
      assert.isFalse(other.queued, "its next use must be queued, too")
      assert.strictEqual(buffer.nextFlushAt, 50)
      assert.deepStrictEqual(buffer.take(50, 10), [waiting])
      assert.strictEqual(waiting.touchedAt, 2)
    }
  })

  it("is due at once when it is full, whatever is due", () => {
    const buffer = new TouchBuffer(1_000, 3)
    used(buffer, 0)
    used(buffer, 0)
    assert.strictEqual(buffer.nextFlushAt, 1_000)
    used(buffer, 0)
    assert.isBelow(buffer.nextFlushAt, 0)
    assert.lengthOf(buffer.take(0, 10), 3)
    assert.strictEqual(buffer.nextFlushAt, Infinity)
  })

  it("is due at the time that was given when it is full of what could not be written", () => {
    const buffer = new TouchBuffer(1_000, 3)
    let earlier = 0
    const all = [used(buffer, 0), used(buffer, 0), used(buffer, 0)]
    buffer.onEarlier = () => earlier++
    buffer.take(0, 10)
    buffer.putBack(all, 500)
    assert.strictEqual(buffer.nextFlushAt, 500)
    assert.strictEqual(earlier, 1)
    used(buffer, 100)
    assert.strictEqual(buffer.nextFlushAt, 500)
    assert.isFalse(buffer.isFull)
    used(buffer, 100)
    used(buffer, 100)
    assert.isTrue(buffer.isFull, "twice its capacity")
  })
})
