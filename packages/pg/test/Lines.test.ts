import { assert, describe, it } from "@effect/vitest"
import { Lines } from "../src/internal/Lines.ts"

/** Enters a line, and notes the name once it is its turn. */
const setUp = (limit: number) => {
  const lines = new Lines(limit)
  const started: Array<string> = []
  return { started, enter: (operation: string, name: string) => lines.enter(operation, () => started.push(name)) }
}

describe("Lines", () => {
  it("admit so many of an operation, and the next one, in their order, when one has left", () => {
    const { enter, started } = setUp(2)
    const first = enter("create", "a")
    enter("create", "b")
    enter("create", "c")
    enter("create", "d")
    assert.deepStrictEqual(started, ["a", "b"])
    first.leave()
    first.leave()
    assert.deepStrictEqual(started, ["a", "b", "c"])
  })

  it("let nobody wait for another operation's crowd", () => {
    const { enter, started } = setUp(1)
    for (let index = 0; index < 10_000; index++) enter("create", "create")
    enter("extend the lock", "extend")
    assert.deepStrictEqual(started, ["create", "extend"])
  })

  it("pass over those that have gone away", () => {
    const { enter, started } = setUp(1)
    const first = enter("create", "a")
    enter("create", "b").leave()
    enter("create", "c")
    first.leave()
    assert.deepStrictEqual(started, ["a", "c"])
  })

  it("end thousands that are over at once without running out of stack", () => {
    const lines = new Lines(1)
    const first = lines.enter("create", () => {})
    let done = 0
    const places = Array.from({ length: 50_000 }, (_, index) =>
      lines.enter("create", () => {
        done++
        places[index]?.leave()
      })
    )
    first.leave()
    assert.strictEqual(done, 50_000)
  })
})
