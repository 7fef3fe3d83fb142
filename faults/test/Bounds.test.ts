import { assert, describe, it } from "@effect/vitest"
import * as Expiry from "../checks/Expiry.ts"
import { Facts } from "../checks/Facts.ts"
import * as Limits from "../checks/Limits.ts"
import * as MutualExclusion from "../checks/MutualExclusion.ts"
import * as OrderlyEnd from "../checks/OrderlyEnd.ts"
import * as Robustness from "../checks/Robustness.ts"
import * as Secrets from "../checks/Secrets.ts"
import * as Storms from "../checks/Storms.ts"
import { unavailableMillis } from "../checks/Unavailability.ts"
import type { History, Operation } from "../History.ts"
import {
  created,
  gone,
  history,
  key,
  locked,
  operation,
  read,
  row,
  session,
  token,
  unknown
} from "./support/Histories.ts"

describe("expiry", () => {
  const check = (...operations: ReadonlyArray<Operation>) => Expiry.check(new Facts(history(operations))).length

  it("finds a session that is served after its absolute limit", () => {
    const begun = created({ expiresIn: 1_000 })
    assert.strictEqual(check(begun, operation(1_100, 1_101, read(), session(1))), 1)
    assert.strictEqual(check(begun, operation(1_000, 1_101, read(), session(1))), 0)
  })

  it("finds one that is served after its idle limit", () => {
    const begun = created({ idleTimeout: 1_000 })
    const used = operation(500, 510, read(), session(1))
    const looked = operation(500, 510, read({ touch: false }), session(1))
    assert.strictEqual(check(begun, used, operation(1_600, 1_601, read(), session(1))), 1)
    assert.strictEqual(check(begun, used, operation(1_400, 1_401, read(), session(1))), 0)
    assert.strictEqual(check(begun, looked, operation(1_400, 1_401, read(), session(1))), 1)
    const open = operation(500, 510, read(), unknown)
    assert.strictEqual(check(begun, open, operation(1_600, 1_601, read(), session(1))), 0)
  })

  it("finds one that is taken for idle although it was used", () => {
    const begun = created({ idleTimeout: 1_000 })
    const used = operation(900, 910, read(), session(1), { node: "1" })
    assert.strictEqual(check(begun, used, operation(1_800, 1_801, read(), gone)), 1)
    assert.strictEqual(check(begun, used, operation(1_900, 1_901, read(), gone)), 0)
    assert.strictEqual(check(begun, operation(1_800, 1_801, read(), gone)), 0)
  })

  it("finds an attribute that is served after its time to live", () => {
    const elevated = operation(100, 110, { _tag: "Elevate", token: token("first") }, session(2, { elevated: true }))
    const found = (start: number) => operation(start, start + 1, read(), session(2, { elevated: true }))
    assert.strictEqual(check(created(), elevated, found(700)), 1)
    assert.strictEqual(check(created(), elevated, found(600)), 0)
  })
})

describe("limits", () => {
  it("finds too many sessions in the table, and in a list", () => {
    assert.strictEqual(Limits.check(history([], { overLimit: [{ user: "alice", sessions: 3 }] })).length, 1)
    const sessions = ["a", "b", "c"].map((name) => ({ key: name, version: 1 }))
    const list = (count: number) =>
      operation(1, 2, { _tag: "List", user: "alice" }, { _tag: "Listed", sessions: sessions.slice(0, count) })
    assert.strictEqual(Limits.check(history([list(3)])).length, 1)
    assert.deepStrictEqual(Limits.check(history([list(2)])), [])
  })
})

describe("mutual exclusion", () => {
  const check = (operations: ReadonlyArray<Operation>, rest?: Partial<History>) =>
    MutualExclusion.check(history(operations, rest)).map(({ message }) => message)

  it("finds tokens that are granted twice or that shrink", () => {
    assert.match(check([locked(0, 5), locked(100, 5)]).join(), /token 5 was granted to/)
    assert.match(check([locked(0, 5), locked(100, 4)]).join(), /with token 4, after 5/)
    assert.deepStrictEqual(check([locked(0, 4), locked(100, 5)]), [])
  })

  it("finds work that goes on after somebody else's grant", () => {
    const late = (pause: number, stubborn = false) =>
      locked(0, 1, {
        stubborn,
        steps: [
          { at: 10, pause: 0 },
          { at: 500, pause }
        ],
        ended: "LockLost"
      })
    assert.match(check([late(0), locked(200, 2)]).join(), /went on working/)
    // The process was stopped, and could not know.
    assert.deepStrictEqual(check([late(400), locked(200, 2)]), [])
    assert.deepStrictEqual(check([late(0, true), locked(200, 2)]), [])
  })

  it("finds a write that should have been fenced, whatever kept it so long", () => {
    const steps = [
      { at: 10, pause: 0 },
      { at: 500, pause: 400 }
    ]
    const stopped = locked(0, 1, { steps, written: 1, session: true, stubborn: true, ended: "LockLost" })
    assert.match(check([stopped, locked(200, 2, { session: true })]).join(), /wrote after/)
  })

  it("finds a holder that is refused", () => {
    assert.match(check([locked(0, 1, { fenced: true })]).join(), /was refused/)
    assert.deepStrictEqual(check([locked(0, 1, { fenced: true, ended: "LockLost" })]), [])
  })

  it("finds counters that are not exact", () => {
    const twice = [locked(0, 1, { written: 1 }), locked(100, 2, { written: 2 })]
    assert.deepStrictEqual(check(twice, { counters: new Map([["lock", 2]]) }), [])
    assert.match(check(twice, { counters: new Map([["lock", 1]]) }).join(), /is 1 after 2 to 2/)
    assert.match(check([locked(0, 1, { written: 1 }), locked(100, 2, { written: 1 })]).join(), /the same count/)
    const inSession = [locked(0, 1, { written: 1, session: true }), locked(100, 2, { session: true })]
    assert.deepStrictEqual(check(inSession, { rows: [row({ guarded: 2 })] }), [])
    assert.match(check(inSession, { rows: [row({ guarded: 3 })] }).join(), /is 3 after 1 to 2/)
  })
})

describe("secrets", () => {
  it("finds leaks, and ids that were made up", () => {
    assert.strictEqual(Secrets.check(history([], { leaks: [{ where: "a log", what: "a secret" }] })).length, 1)
    const forged = { _tag: "Forge", token: token("forged") } as const
    assert.strictEqual(Secrets.check(history([operation(1, 2, forged, session(1))])).length, 1)
    assert.deepStrictEqual(Secrets.check(history([operation(1, 2, forged, gone)])), [])
  })
})

describe("robustness", () => {
  it("finds nodes that end by themselves, defects, unexpected errors, silence, growth, and nodes that stay deaf", () => {
    const end = { node: "0", how: "ByItself", status: "1", at: 30_000, tookMillis: 0 } as const
    const full = { node: "0", what: "cached", value: 11, bound: 10 }
    const broken: ReadonlyArray<Partial<History>> = [
      { ends: [end] },
      { operations: [operation(1, 2, read(), { _tag: "Defect", message: "?" })] },
      { operations: [operation(1, 2, read(), { _tag: "Refused", error: "AttributeInvalid" })] },
      { health: [full] },
      { unrecovered: ["0"] }
    ]
    const killed = { ...end, how: "Killed" as const }
    const open = (start: number) => operation(start, Infinity, read(), { _tag: "Unanswered" })
    assert.strictEqual(Robustness.check(history([open(0)], { ends: [killed] })).length, 1)
    assert.strictEqual(Robustness.check(history([open(29_000)], { ends: [killed] })).length, 0)
    for (const rest of broken) assert.strictEqual(Robustness.check(history([], rest)).length, 1)
    const fine = { ends: [killed], health: [{ ...full, value: 10 }] }
    assert.deepStrictEqual(Robustness.check(history([operation(1, 2, read(), unknown)], fine)), [])
  })
})

describe("the orderly end", () => {
  const asked = { node: "0", how: "Asked", status: "0", at: 0 } as const
  const farewell = {
    used: [{ key, at: 1_000 }],
    stored: new Map([[key, 1_000]]),
    nodes: 1,
    locksBefore: ["l"],
    locksAfter: []
  }

  it("finds one that takes too long", () => {
    assert.strictEqual(OrderlyEnd.check(history([], { ends: [{ ...asked, tookMillis: 9_000 }] })).length, 1)
    assert.deepStrictEqual(OrderlyEnd.check(history([], { ends: [{ ...asked, tookMillis: 2_000 }] })), [])
  })

  it("finds a last use that is missing, and a lock that stays held", () => {
    assert.deepStrictEqual(OrderlyEnd.check(history([], { farewell })), [])
    const missing = { ...farewell, stored: new Map([[key, 500]]) }
    assert.strictEqual(OrderlyEnd.check(history([], { farewell: missing })).length, 1)
    assert.strictEqual(OrderlyEnd.check(history([], { farewell: { ...farewell, locksAfter: ["l"] } })).length, 1)
    assert.strictEqual(OrderlyEnd.check(history([], { farewell: { ...farewell, locksBefore: [] } })).length, 1)
  })
})

describe("storms", () => {
  it("finds more statements than allowed, and none at all", () => {
    const check = (value: number) =>
      Storms.check(history([], { statements: [{ node: "0", what: "a reconnect", value, bound: 10 }] })).length
    assert.strictEqual(check(11), 1)
    assert.strictEqual(check(0), 1)
    assert.strictEqual(check(10), 0)
  })
})

describe("unavailability", () => {
  it("is the time in which somebody was refused, counted once", () => {
    const refused = (start: number, end: number) => operation(start, end, read(), unknown)
    const operations = [refused(0, 10), refused(5, 20), refused(30, 40), operation(0, 100, read(), session(1))]
    assert.strictEqual(unavailableMillis(history(operations)), 30)
  })
})
