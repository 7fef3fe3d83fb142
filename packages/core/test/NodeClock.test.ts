import { assert, describe, it } from "@effect/vitest"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { NodeClock } from "../src/internal/NodeClock.ts"

/** Both clocks of a machine, set by hand. */
const machine = () => {
  const state = { wall: 1_000_000, monotonic: 5_000 }
  const millis = () => state.wall
  const nanos = () => BigInt(Math.round(state.wall * 1_000_000))
  const monotonic = () => BigInt(Math.round(state.monotonic * 1_000_000))
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep: () => Effect.void
  }
  const pass = (monotonic: number, wall = monotonic) => {
    state.monotonic += monotonic
    state.wall += wall
  }
  return { clock: new NodeClock(clock), pass }
}

/** What the node's clock says has passed. */
const elapsed = (advance: (pass: (monotonic: number, wall?: number) => void) => void): number => {
  const { clock, pass } = machine()
  const before = clock.now()
  advance(pass)
  return clock.now() - before
}

const day = 86_400_000

describe("NodeClock", () => {
  it("counts what passes", () => {
    assert.strictEqual(
      elapsed((pass) => pass(1_234)),
      1_234
    )
  })

  it("counts what the wall clock says while the machine slept, and so the monotonic clock stood still", () => {
    assert.strictEqual(
      elapsed((pass) => pass(1, day)),
      day
    )
  })

  it("takes a wall clock that is set ahead for time that has passed", () => {
    assert.strictEqual(
      elapsed((pass) => pass(1_000, 1_000 + day)),
      1_000 + day
    )
  })

  it("never goes back, and does not stand still, when the wall clock is set back", () => {
    assert.strictEqual(
      elapsed((pass) => pass(1_000, 1_000 - day)),
      1_000
    )
  })

  it("adds up every jump forward, whatever was set back in between", () => {
    const { clock, pass } = machine()
    const before = clock.now()
    for (let n = 0; n < 3; n++) {
      pass(10, 10 + day)
      clock.now()
      pass(10, 10 - day)
      clock.now()
    }
    assert.strictEqual(clock.now() - before, 3 * day + 60)
  })

  it("does not add up the jitter between the clocks", () => {
    const { clock, pass } = machine()
    const before = clock.now()
    for (let n = 0; n < 1_000; n++) {
      pass(10, n % 2 === 0 ? 11.5 : 8.5)
      clock.now()
    }
    assert.approximately(clock.now() - before, 10_000, 2)
  })

  it("follows a wall clock that runs fast, in the long run", () => {
    const { clock, pass } = machine()
    const before = clock.now()
    for (let n = 0; n < 1_000; n++) {
      pass(10, 10.5)
      clock.now()
    }
    assert.isAtLeast(clock.now() - before, 10_500 - 3)
  })

  it("never goes back, whatever the clocks do", () => {
    const { clock, pass } = machine()
    let last = clock.now()
    for (let n = 0; n < 2_000; n++) {
      pass((n * 7) % 5, ((n * 7919) % 2_001) - 1_000)
      const now = clock.now()
      assert.isAtLeast(now, last)
      last = now
    }
  })
})
