import { assert, describe, it } from "@effect/vitest"
import * as BoundedStaleness from "../checks/BoundedStaleness.ts"
import { Facts } from "../checks/Facts.ts"
import * as LostUpdates from "../checks/LostUpdates.ts"
import * as LostWrites from "../checks/LostWrites.ts"
import * as ReadYourWrites from "../checks/ReadYourWrites.ts"
import * as Resurrection from "../checks/Resurrection.ts"
import type { History, Operation } from "../History.ts"
import {
  created,
  done,
  gone,
  history,
  increment,
  note,
  notApplied,
  operation,
  read,
  remove,
  rotate,
  row,
  session,
  token,
  unknown
} from "./support/Histories.ts"

const facts = (operations: ReadonlyArray<Operation>, rest?: Partial<History>) => new Facts(history(operations, rest))
const change = operation(100, 110, increment, session(2, { count: 1 }))

describe("bounded staleness", () => {
  const stale = (start: number, end = start + 1, pause = 0) =>
    BoundedStaleness.check(facts([created(), change, operation(start, end, read(), session(1), { node: "1", pause })]))

  it("finds a read that begins too late for what it is answered", () => {
    const { maxStalenessMs, violations } = stale(1_200)
    assert.deepInclude(violations[0], { guarantee: "G1" })
    assert.strictEqual(maxStalenessMs, 1_091)
  })

  it("finds an answer that comes too late", () => {
    assert.strictEqual(stale(105, 1_500).violations.length, 1)
  })

  it("allows what is younger, and what a stopped process could not say earlier", () => {
    assert.deepStrictEqual(stale(1_100), { violations: [], maxStalenessMs: 991 })
    assert.deepStrictEqual(stale(105, 1_500, 1_300), { violations: [], maxStalenessMs: 90 })
  })

  it("counts an ending as a newer state", () => {
    const operations = [created(), operation(100, 110, remove, done), operation(1_200, 1_201, read(), session(1))]
    assert.strictEqual(BoundedStaleness.check(facts(operations)).violations.length, 1)
  })

  it("does not count what is not known to anybody", () => {
    const operations = [created(), operation(100, 110, increment, unknown), operation(1_200, 1_201, read(), session(1))]
    assert.strictEqual(BoundedStaleness.check(facts(operations)).violations.length, 0)
  })
})

describe("reading one's writes", () => {
  const check = (...operations: ReadonlyArray<Operation>) =>
    ReadYourWrites.check(facts([created(), change, ...operations]))

  it("finds an older state on the node that has written", () => {
    assert.strictEqual(check(operation(120, 121, read(), session(1))).length, 1)
    assert.strictEqual(check(operation(120, 121, read(), session(1), { node: "1" })).length, 0)
    assert.strictEqual(check(operation(105, 121, read(), session(1))).length, 0)
  })

  it("finds less than the version that was asked for, on any node", () => {
    assert.strictEqual(check(operation(120, 121, read({ minVersion: 2 }), session(1), { node: "1" })).length, 1)
    assert.strictEqual(check(operation(120, 121, read({ minVersion: 2 }), session(2), { node: "1" })).length, 0)
  })

  it("finds an authoritative read that knows less than somebody did before", () => {
    assert.strictEqual(check(operation(120, 121, read({ refresh: true }), session(1), { node: "1" })).length, 1)
    assert.strictEqual(check(operation(105, 121, read({ refresh: true }), session(1), { node: "1" })).length, 0)
  })
})

describe("lost updates", () => {
  const check = (operations: ReadonlyArray<Operation>, count?: number) =>
    LostUpdates.check(
      facts([created(), ...operations], count === undefined ? {} : { rows: [row({ count, version: 9 })] })
    ).map(({ message }) => message)
  const counted = (version: number, count: number) => operation(1, 2, increment, session(version, { count }))

  it("finds a counter that is too small or too large", () => {
    assert.match(check([counted(2, 1), counted(3, 2)], 1).join(), /the count is 1 after 2 to 2/)
    assert.match(check([counted(2, 1)], 2).join(), /the count is 2 after 1 to 1/)
    assert.match(check([operation(1, 2, increment, notApplied)], 1).join(), /the count is 1 after 0 to 0/)
  })

  it("allows either outcome of what is unknown", () => {
    assert.deepStrictEqual(check([counted(2, 1), operation(3, 4, increment, unknown)], 1), [])
    assert.deepStrictEqual(check([counted(2, 1), operation(3, 4, increment, unknown)], 2), [])
    assert.strictEqual(check([counted(2, 1), operation(3, 4, increment, unknown)], 3).length, 1)
  })

  it("finds two writes with one result", () => {
    assert.match(check([counted(2, 1), counted(3, 1)]).join(), /both counted to 1/)
    assert.match(check([counted(2, 1), counted(2, 2)]).join(), /both made version 2/)
  })

  it("finds two states of one version", () => {
    assert.match(check([counted(2, 1), operation(3, 4, read(), session(2, { count: 7 }))]).join(), /version 2 was/)
    assert.deepStrictEqual(check([counted(2, 1), operation(3, 4, read(), session(2, { count: 1 }))]), [])
  })

  it("finds a refusal without a reason", () => {
    const mismatch = (expected: number, actual: number) =>
      operation(1, 2, note("x"), {
        _tag: "Mismatch",
        expected,
        actual,
        current: { ...(change.outcome._tag === "Session" ? change.outcome.session : assert.fail()), version: 2 }
      })
    assert.strictEqual(check([mismatch(2, 2)]).length, 1)
    assert.deepStrictEqual(check([mismatch(1, 2)]), [])
  })
})

describe("resurrection", () => {
  const removed = operation(100, 110, remove, done)
  const check = (operations: ReadonlyArray<Operation>, rest?: Partial<History>) =>
    Resurrection.check(facts([created(), ...operations], rest)).length

  it("finds a session that comes back on the node that ended it, or in an authoritative read", () => {
    assert.strictEqual(check([removed, operation(120, 121, read(), session(1))]), 1)
    assert.strictEqual(check([removed, operation(120, 121, read({ refresh: true }), session(1), { node: "1" })]), 1)
    assert.strictEqual(check([removed, operation(120, 121, increment, session(2), { node: "1" })]), 1)
  })

  it("finds one that comes back on a node that has said that it is over", () => {
    const said = operation(120, 121, read(), gone, { node: "1" })
    assert.strictEqual(check([removed, said, operation(130, 131, read(), session(1), { node: "1" })]), 1)
  })

  it("finds one that is in the table at the end", () => {
    assert.strictEqual(check([removed], { rows: [row()] }), 1)
    assert.strictEqual(check([removed], { rows: [row({ live: false })] }), 0)
  })

  it("finds one that outlives the end of all of its user's sessions", () => {
    const all = operation(100, 110, { _tag: "DeleteUser", user: "solo", except: undefined }, done)
    assert.strictEqual(check([all, operation(120, 121, read(), session(1))]), 1)
    const others = operation(100, 110, { _tag: "DeleteUser", user: "solo", except: created().id.toString() }, done)
    assert.strictEqual(check([others, operation(120, 121, read(), session(1))]), 1)
  })

  it("allows memory of other nodes, reads that began before, and ids that may be former ones", () => {
    assert.strictEqual(check([removed, operation(120, 121, read(), session(1), { node: "1" })]), 0)
    assert.strictEqual(check([removed, operation(105, 121, read(), session(1))]), 0)
    const rotated = operation(20, 30, rotate, session(2, { token: token("second") }))
    assert.strictEqual(check([rotated, operation(40, 41, read(), gone), operation(50, 51, read(), session(2))]), 0)
  })
})

describe("lost writes", () => {
  const check = (operations: ReadonlyArray<Operation>, rest?: Partial<History>, begun = created()) =>
    LostWrites.check(facts([begun, ...operations], rest)).map(({ message }) => message)

  it("finds a session that is missed although nobody can have ended it", () => {
    assert.strictEqual(check([operation(20, 21, read(), gone)]).length, 1)
    assert.strictEqual(check([], { rows: [] }).length, 1)
    assert.deepStrictEqual(check([], { rows: [row()] }), [])
  })

  it("knows who may have ended it", () => {
    const missed = operation(200, 201, read(), gone)
    const unanswered = operation(20, 30, remove, unknown)
    const login = (start: number) =>
      operation(
        start,
        start + 1,
        { _tag: "Create", user: "solo", group: undefined, expiresIn: undefined, idleTimeout: undefined },
        unknown
      )
    assert.deepStrictEqual(check([unanswered, missed]), [])
    assert.deepStrictEqual(check([login(20), login(30), missed]), [])
    assert.strictEqual(check([login(20), missed]).length, 1)
    assert.strictEqual(check([operation(20, 30, remove, notApplied), missed]).length, 1)
    assert.deepStrictEqual(check([missed], {}, created({ expiresIn: 100 })), [])
    assert.strictEqual(check([missed], {}, created({ expiresIn: 1_000 })).length, 1)
  })

  it("does not take a former id for the session's", () => {
    const rotated = operation(20, 30, rotate, session(2, { token: token("second") }))
    assert.deepStrictEqual(check([rotated, operation(40, 41, read(), gone)]), [])
    assert.strictEqual(check([rotated, operation(40, 41, read({ token: token("second") }), gone)]).length, 1)
  })

  it("finds an acknowledged version that is missing at the end", () => {
    assert.match(check([change], { rows: [row({ version: 1 })] }).join(), /ends at version 1/)
  })

  it("finds a write that was undone", () => {
    const first = operation(20, 21, note("a"), session(2, { note: "a" }))
    const second = operation(30, 31, note("b"), session(3, { note: "b" }))
    assert.match(check([first, second], { rows: [row({ version: 3, note: "a" })] }).join(), /ends with "a"/)
    assert.deepStrictEqual(check([first, second], { rows: [row({ version: 3, note: "b" })] }), [])
    const open = operation(30, 31, note("c"), unknown)
    assert.deepStrictEqual(check([first, open], { rows: [row({ version: 3, note: "c" })] }), [])
    assert.deepStrictEqual(check([first, open], { rows: [row({ version: 2, note: "a" })] }), [])
  })
})
