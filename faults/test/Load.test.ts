/** The judges of the soak and of the overload test: what they must find, and what they must not complain about. */
import { assert, describe, it } from "@effect/vitest"
import { median, type Sample, trends } from "../load/Flatness.ts"
import { Latencies } from "../load/Latencies.ts"
import type { PhaseReport } from "../load/OverloadProtocol.ts"
import { type Phases, recoveredAt, violationsOf } from "../load/OverloadVerdict.ts"
import { kinds } from "../load/OverloadWork.ts"
import * as Random from "../Random.ts"

describe("latencies", () => {
  it("are known to a few percent, and forgotten once taken", () => {
    const latencies = new Latencies()
    for (let millis = 1; millis <= 1_000; millis++) latencies.record(millis)
    const { count, p50, p99 } = latencies.take()
    assert.strictEqual(count, 1_000)
    assert.isTrue(p50 >= 500 && p50 <= 525, String(p50))
    assert.isTrue(p99 >= 990 && p99 <= 1_040, String(p99))
    assert.deepStrictEqual(latencies.take(), { count: 0, p50: 0, p99: 0 })
  })
})

describe("flatness", () => {
  const duration = 600_000
  /** A sample every five seconds. */
  const samples = (figure: string, value: (at: number) => number): ReadonlyArray<Sample> =>
    Array.from({ length: 120 }, (_, index) => {
      const at = (index + 1) * 5_000
      return { of: "a node", at, figures: { [figure]: value(at) } }
    })
  const isFlat = (figure: string, value: (at: number) => number) =>
    trends(samples(figure, value), duration).every(({ flat }) => flat)

  it("takes medians", () => {
    assert.strictEqual(median([3, 1, 2]), 2)
    assert.strictEqual(median([4, 1, 2, 3]), 2.5)
  })

  it("refuses a slow leak of memory that the noise hides", () => {
    const random = Random.make(1, "noise")
    const noise = () => random.next() * 6 - 3
    // One percent a minute of 60 MB; the noise is ten times that.
    assert.isFalse(isFlat("heapMegabytes", (at) => 60 + noise() + (at / 60_000) * 0.6 * 1.5))
    assert.isTrue(isFlat("heapMegabytes", () => 60 + noise()))
  })

  it("refuses one more descriptor, timer or connection every minute", () => {
    assert.isFalse(isFlat("descriptors", (at) => 36 + Math.floor(at / 60_000)))
    assert.isFalse(isFlat("connections", (at) => 12 + Math.floor(at / 60_000)))
    assert.isFalse(isFlat("timers", (at) => 20 + 6 * Math.floor(at / 60_000)))
    assert.isTrue(isFlat("descriptors", (at) => 36 + (at % 10_000 === 0 ? 1 : 0)))
  })

  it("refuses what is kept for ever", () => {
    for (const figure of ["cached", "pendingActivity", "watched", "held", "waiting", "sessionRows", "lockRows"]) {
      assert.isFalse(
        isFlat(figure, (at) => at / 200),
        figure
      )
    }
  })

  it("lets caches fill while it is warm-up, and falls be falls", () => {
    assert.isTrue(isFlat("cached", (at) => Math.min(3_000, at / 40)))
    assert.isFalse(isFlat("cached", (at) => Math.min(3_000, at / 180)))
    assert.isTrue(isFlat("rssMegabytes", (at) => 400 - at / 10_000))
  })

  it("does not judge by a few samples", () => {
    assert.throws(() => trends(samples("heapMegabytes", () => 1).slice(0, 40), duration), /times only/)
    assert.throws(() => trends(samples("heapMegabytes", () => 1).slice(100), duration), /times only/)
  })
})

describe("the verdict on overload", () => {
  const outcomes = (done: number, others: Readonly<Record<string, number>> = {}) =>
    Object.fromEntries(kinds.map((kind) => [kind, { Done: done, ...others }]))
  const report = (rest: Partial<PhaseReport> = {}): PhaseReport => ({
    duration: 1_000,
    drained: 10,
    outcomes: outcomes(100),
    late: {},
    latencies: {},
    cachedReads: { count: 100, p50: 0.1, p99: 20 },
    cachedReadsRefused: 0,
    windows: [1, 2, 3, 4, 5, 6, 7, 8].map((at) => ({ at: at * 250, done: 100, refused: 0, p99: 10 })),
    looks: 4,
    unsynced: 0,
    mostUnderWay: 100,
    mostHeapMegabytes: 100,
    mostRssMegabytes: 200,
    defects: [],
    ...rest
  })
  const refusing = { "Unavailable: Overloaded": 200, "Unavailable: Timeout": 50 }
  const overload = (rest: Partial<PhaseReport> = {}): Phases => ({
    capacity: report(),
    before: report(),
    overload: report({ outcomes: outcomes(90, refusing), ...rest }),
    after: report()
  })
  const messages = (phases: Phases) => violationsOf(phases).join()

  it("has nothing to say of one that goes on working and refuses the rest", () => {
    assert.deepStrictEqual(violationsOf(overload()), [])
  })

  it("finds a collapse, of everything or of one kind", () => {
    assert.match(messages(overload({ outcomes: outcomes(40, refusing) })), /40 % of what can be done was done/)
    const starved = { ...outcomes(100, refusing), lock: { Done: 1, ...refusing } }
    assert.match(messages(overload({ outcomes: starved })), /of the kind "lock"/)
  })

  it("finds what is refused otherwise than it should be, also after the load, and a load that was none", () => {
    assert.match(messages(overload({ outcomes: outcomes(90, { Defect: 1 }) })), /ended with Defect/)
    assert.match(messages(overload({ late: { "Unavailable: Unreachable": 1 } })), /Unreachable/)
    assert.match(messages(overload({ outcomes: outcomes(90) })), /nothing was refused/)
    assert.match(messages(overload({ defects: ["unhandled rejection: x"] })), /unhandled rejection/)
  })

  it("finds reads from memory that are slow, refused or missing, and memory that grows", () => {
    assert.match(messages(overload({ cachedReads: { count: 100, p50: 1, p99: 5_000 } })), /one in a hundred/)
    assert.match(messages(overload({ cachedReads: { count: 0, p50: 0, p99: 0 } })), /of 0 reads/)
    assert.match(messages(overload({ cachedReadsRefused: 101 })), /were refused/)
    assert.strictEqual(messages(overload({ cachedReadsRefused: 99 })), "")
    assert.match(messages(overload({ mostHeapMegabytes: 3_000 })), /MB of heap/)
  })

  it("finds answers that never come, and a node that stays slow", () => {
    assert.match(messages(overload({ drained: 60_000 })), /the last answer/)
    const windows = Array.from({ length: 32 }, (_, index) => ({ at: (index + 1) * 250, done: 10, refused: 0, p99: 10 }))
    const slowUntil = (until: number) =>
      windows.map((window) => (window.at <= until ? { ...window, p99: 900 } : window))
    const after = (slow: number): Phases => ({ ...overload(), after: report({ windows: slowUntil(slow) }) })
    assert.strictEqual(recoveredAt(after(0)), 0)
    assert.strictEqual(recoveredAt(after(1_000)), 1_000)
    assert.strictEqual(recoveredAt(after(8_000)), Infinity)
    const pause = windows.map((window) => (window.at === 4_000 ? { ...window, p99: 900 } : window))
    assert.strictEqual(recoveredAt({ ...overload(), after: report({ windows: pause }) }), 0)
    assert.deepStrictEqual(violationsOf(after(1_000)), [])
    assert.match(messages(after(5_000)), /as quick as before/)
  })
})
