import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { Alarms } from "../src/internal/Alarms.ts"

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setImmediate", "performance"] })
})
afterEach(() => {
  vi.useRealTimers()
})

const make = (onRing: (item: string) => void = () => {}) => {
  const rung: Array<string> = []
  const alarms = new Alarms<string>(100, (item) => {
    rung.push(item)
    onRing(item)
  })
  return { alarms, rung }
}

describe("Alarms", () => {
  it("each rings when its time is over, in order, and only once", () => {
    const { alarms, rung } = make()
    alarms.set("a")
    vi.advanceTimersByTime(40)
    alarms.set("b")
    vi.advanceTimersByTime(59)
    assert.deepStrictEqual(rung, [])
    vi.advanceTimersByTime(2)
    assert.deepStrictEqual(rung, ["a"])
    vi.advanceTimersByTime(38)
    assert.deepStrictEqual(rung, ["a"])
    vi.advanceTimersByTime(2)
    assert.deepStrictEqual(rung, ["a", "b"])
    vi.advanceTimersByTime(1_000)
    assert.deepStrictEqual(rung, ["a", "b"])
  })

  it("what was cleared does not ring, and delays nobody", () => {
    const { alarms, rung } = make()
    alarms.set("a")
    vi.advanceTimersByTime(50)
    alarms.set("b")
    alarms.clear("a")
    vi.advanceTimersByTime(99)
    assert.deepStrictEqual(rung, [])
    vi.advanceTimersByTime(2)
    assert.deepStrictEqual(rung, ["b"])
  })

  it("one timer does for all, and none is left when nothing is waiting", () => {
    const { alarms, rung } = make()
    for (let item = 0; item < 1_000; item++) {
      alarms.set(`${item}`)
      alarms.clear(`${item}`)
    }
    alarms.set("last")
    assert.strictEqual(vi.getTimerCount(), 1)
    vi.advanceTimersByTime(101)
    assert.deepStrictEqual(rung, ["last"])
    assert.strictEqual(vi.getTimerCount(), 0)
  })

  it("sockets are read before it rings: the turn after its timer", () => {
    const { alarms, rung } = make()
    alarms.set("a")
    // The process was stopped: its timers are late, and what has arrived was not read.
    vi.advanceTimersToNextTimer()
    assert.deepStrictEqual(rung, [])
    alarms.clear("a")
    vi.advanceTimersByTime(1)
    assert.deepStrictEqual(rung, [])
  })

  it("one that rings may clear others and set new ones", () => {
    const { alarms, rung } = make((item) => {
      if (item !== "a") return
      alarms.clear("b")
      alarms.set("d")
    })
    for (const item of ["a", "b", "c"]) alarms.set(item)
    vi.advanceTimersByTime(101)
    assert.deepStrictEqual(rung, ["a", "c"])
    assert.strictEqual(vi.getTimerCount(), 1)
    vi.advanceTimersByTime(101)
    assert.deepStrictEqual(rung, ["a", "c", "d"])
  })

  it("nothing rings after the end", () => {
    const { alarms, rung } = make()
    alarms.set("a")
    alarms.close()
    assert.strictEqual(vi.getTimerCount(), 0)
    vi.advanceTimersByTime(1_000)
    assert.deepStrictEqual(rung, [])
  })

  it("takes longer than a timer can wait", () => {
    const rung: Array<string> = []
    const alarms = new Alarms<string>(Number.POSITIVE_INFINITY, (item) => rung.push(item))
    alarms.set("a")
    vi.advanceTimersByTime(2 ** 31)
    assert.deepStrictEqual(rung, [])
    assert.strictEqual(vi.getTimerCount(), 1)
    alarms.close()
  })
})
