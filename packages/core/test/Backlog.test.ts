import { setImmediate as nextTurn } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { Backlog, type Waiting } from "../src/internal/Backlog.ts"
import { collect } from "./support/Heap.ts"

/** A request; somebody counts how often any of them is looked at. */
class Request implements Waiting<number> {
  readonly item: number
  readonly key: string | undefined
  readonly weight: number
  private current: Waiting<number>["state"] = "Waiting"
  private readonly looks: { count: number }

  constructor(item: number, key: string | undefined, weight: number, looks: { count: number }) {
    this.item = item
    this.key = key
    this.weight = weight
    this.looks = looks
  }

  get state(): Waiting<number>["state"] {
    this.looks.count++
    return this.current
  }

  set state(state: Waiting<number>["state"]) {
    this.current = state
  }
}

const make = () => {
  const backlog = new Backlog<Request>()
  const looks = { count: 0 }
  let added = 0
  return {
    backlog,
    looks,
    add: (key?: string, weight = 0) => {
      const request = new Request(added++, key, weight, looks)
      backlog.add(request)
      return request
    },
    /** A batch that is settled at once. */
    take: (limit = Infinity, maxWeight = Infinity) => {
      const batch = backlog.take(limit, ({ weight }) => weight, maxWeight)
      backlog.done(batch)
      return batch
    },
    /** A batch that is under way. */
    begin: () => backlog.take(Infinity, ({ weight }) => weight, Infinity)
  }
}

const items = (requests: ReadonlyArray<Request>) => requests.map(({ item }) => item)

describe("Backlog", () => {
  it("gives requests without a key in order, at most as many as asked for", () => {
    const { add, backlog, take } = make()
    for (let n = 0; n < 5; n++) add()
    assert.strictEqual(backlog.size, 5)
    assert.deepStrictEqual(items(take(3)), [0, 1, 2])
    assert.strictEqual(backlog.size, 2)
    assert.deepStrictEqual(items(take(3)), [3, 4])
    assert.deepStrictEqual(items(take(3)), [])
  })

  it("has nobody left to withdraw after everything was taken", () => {
    const { add, backlog } = make()
    const requests = [add("a"), add("a"), add()]
    assert.lengthOf(backlog.takeAll(), 3)
    for (const request of requests) assert.isFalse(backlog.withdraw(request))
    assert.strictEqual(backlog.size, 0)
  })

  it("lets nobody with the key of a request that is under way follow it before it is settled", () => {
    const { add, backlog, begin } = make()
    add("a")
    add("a")
    const first = begin()
    assert.deepStrictEqual(items(first), [0])
    assert.isFalse(backlog.isReady)
    assert.deepStrictEqual(begin(), [])
    assert.strictEqual(backlog.size, 1)
    backlog.done(first)
    assert.deepStrictEqual(items(begin()), [1])
  })

  it("gives one of each key at a time, in order", () => {
    const { add, take } = make()
    for (const key of ["a", "a", "b", "a", "b"]) add(key)
    assert.deepStrictEqual(items(take()), [0, 2])
    assert.deepStrictEqual(items(take()), [1, 4])
    assert.deepStrictEqual(items(take()), [3])
    add("a")
    assert.deepStrictEqual(items(take()), [5])
  })

  it("ends a batch before the request that would make it too heavy, and gives one that is too heavy alone", () => {
    const { add, backlog, take } = make()
    for (const weight of [6, 4, 1, 25, 3, 3]) add(undefined, weight)
    assert.deepStrictEqual(items(take(10, 10)), [0, 1])
    assert.deepStrictEqual(items(take(10, 10)), [2])
    assert.deepStrictEqual(items(take(10, 10)), [3])
    assert.deepStrictEqual(items(take(10, 10)), [4, 5])
    assert.strictEqual(backlog.size, 0)
  })

  it("keeps the order of a key whose request did not fit into a batch", () => {
    const { add, take } = make()
    add("a", 8)
    add("b", 8)
    add("b", 1)
    assert.deepStrictEqual(items(take(10, 10)), [0])
    assert.deepStrictEqual(items(take(10, 10)), [1])
    assert.deepStrictEqual(items(take(10, 10)), [2])
  })

  it("does not give what was taken back, and gives the next one of its key in its place", () => {
    const { add, backlog, take } = make()
    const [first, second] = [add("a"), add("a")]
    add("a")
    const alone = add("b")
    for (const request of [first, second, alone, alone]) backlog.withdraw(request)
    assert.strictEqual(backlog.size, 1)
    assert.deepStrictEqual(items(take()), [2])
    assert.deepStrictEqual(items(take()), [])
  })

  it("does not weigh what was taken back", () => {
    const { add, backlog, take } = make()
    backlog.withdraw(add(undefined, 100))
    add(undefined, 5)
    add(undefined, 5)
    assert.deepStrictEqual(items(take(10, 10)), [1, 2])
  })

  it("still gives those behind requests that were taken back, however many those are", () => {
    const { add, backlog, take } = make()
    const first = Array.from({ length: 3_000 }, (_, n) => add(String(n)))
    const behind = Array.from({ length: 500 }, (_, n) => add(String(n)))
    for (const request of first) backlog.withdraw(request)
    assert.strictEqual(backlog.size, 500)
    const later = Array.from({ length: 3_000 }, (_, n) => add(String(n)))
    assert.sameMembers(items(take()), items([...behind, ...later.slice(500)]))
    assert.sameMembers(items(take()), items(later.slice(0, 500)))
  })

  it("takes nothing back that was given", () => {
    const { add, backlog, take } = make()
    const request = add()
    add()
    take(1)
    backlog.withdraw(request)
    assert.strictEqual(backlog.size, 1)
    assert.deepStrictEqual(items(take()), [1])
  })

  it("gives everything at the end, without what was taken back, and is empty then", () => {
    const { add, backlog, take } = make()
    const requests = ["a", "a", undefined, "b", "a"].map((key) => add(key))
    take(1)
    assert(requests[3] !== undefined)
    backlog.withdraw(requests[3])
    assert.sameMembers(items(backlog.takeAll()), [1, 2, 4])
    assert.strictEqual(backlog.size, 0)
    assert.deepStrictEqual(items(take()), [])
    add("a")
    assert.deepStrictEqual(items(take()), [5])
  })

  it("lets go of requests that have had their turn, also where one key always has some waiting", async () => {
    const { add, backlog, take } = make()
    const given: Array<WeakRef<Request>> = []
    add("busy")
    for (let n = 0; n < 10_000; n++) {
      add("busy")
      given.push(...take().map((request) => new WeakRef(request)))
    }
    assert.strictEqual(backlog.size, 1)
    // Nothing that was looked at in this turn can be collected in it.
    await nextTurn()
    collect()
    assert.isAtMost(given.filter((request) => request.deref() !== undefined).length, 10)
  })

  for (const [what, keyOf] of [
    ["without a key", () => undefined],
    ["of one key", () => "same"],
    ["of a key each", String],
    ["of a hundred keys", (n: number) => String(n % 100)]
  ] as const) {
    it(`forgets requests ${what} that were taken back while nothing could be sent`, () => {
      const { add, backlog, looks, take } = make()
      const first = add(keyOf(0))
      for (let n = 0; n < 20_000; n++) backlog.withdraw(add(keyOf(n)))
      assert.strictEqual(backlog.size, 1)
      looks.count = 0
      assert.deepStrictEqual(take(), [first])
      assert.deepStrictEqual(take(), [])
      assert.isAtMost(looks.count, 3_000)
    })

    it(`takes constant time for requests ${what}, also for those that are taken back`, () => {
      const { add, backlog, looks, take } = make()
      const count = 5_000
      const requests = Array.from({ length: count }, (_, n) => add(keyOf(n)))
      for (let n = 0; n < count; n += 2) {
        const request = requests[n]
        if (request !== undefined) backlog.withdraw(request)
      }
      let given = 0
      for (let batch = take(256); batch.length > 0; batch = take(256)) given += batch.length
      assert.strictEqual(given, count / 2)
      assert.isAtMost(looks.count, 10 * count)
    })
  }
})

const key = Schema.UndefinedOr(Schema.Literals(["a", "b", "several"]))

const Step = Schema.Union([
  Schema.TaggedStruct("Add", {
    key,
    weight: Schema.Literals([0, 1, 5, 20]),
    count: Schema.Literals([1, 1, 2, 10, 2_000])
  }),
  // Takes back every so many-th of those that wait.
  Schema.TaggedStruct("Withdraw", { every: Schema.Literals([1, 2, 3, 50]), from: Schema.Literals([0, 1, 2]) }),
  Schema.TaggedStruct("Take", {
    limit: Schema.Literals([1, 2, 10, 256]),
    limitsWeight: Schema.Boolean
  }),
  Schema.TaggedStruct("TakeAll", {})
])

describe("Backlog, whatever is done to it", () => {
  it.prop(
    "gives everything once, in the order of its key, one of each key at a time, and counts exactly",
    [Schema.Array(Step).check(Schema.isMaxLength(30))],
    ([steps]) => {
      const { add, backlog, take } = make()
      let model: Array<Request> = []
      const remove = (gone: ReadonlyArray<Request>) => {
        const all = new Set(gone)
        model = model.filter((request) => !all.has(request))
      }
      const takeOnce = (limit: number, maxWeight: number) => {
        const seen = new Set<string>()
        const heads = model.filter(({ key }) => key === undefined || (!seen.has(key) && seen.add(key)))
        const batch = take(limit, maxWeight)
        const keys = batch.flatMap(({ key }) => key ?? [])
        assert.strictEqual(new Set(keys).size, keys.length, "two of one key")
        const allowed = new Set(heads)
        assert.isTrue(
          batch.every((request) => allowed.delete(request)),
          "not the first of its key, or taken back"
        )
        const keyless = (requests: ReadonlyArray<Request>) => items(requests.filter(({ key }) => key === undefined))
        assert.deepStrictEqual(keyless(batch), keyless(heads).slice(0, keyless(batch).length), "out of order")
        assert.isAtMost(batch.length, limit)
        const weight = batch.reduce((sum, request) => sum + request.weight, 0)
        assert.isTrue(weight <= maxWeight || batch.length === 1, "too heavy")
        // As many as possible: whoever could have come along did, unless something heavy was in the way.
        if (maxWeight === Infinity) assert.lengthOf(batch, Math.min(limit, heads.length))
        else assert.strictEqual(batch.length > 0, heads.length > 0)
        remove(batch)
        return batch.length
      }
      for (const step of steps) {
        switch (step._tag) {
          case "Add":
            for (let n = 0; n < step.count; n++) {
              model.push(add(step.key === "several" ? String(n % 900) : step.key, step.weight))
            }
            break
          case "Withdraw": {
            const gone = model.filter((_, index) => index % step.every === step.from % step.every)
            for (const request of gone) backlog.withdraw(request)
            remove(gone)
            break
          }
          case "Take":
            takeOnce(step.limit, step.limitsWeight ? 10 : Infinity)
            break
          case "TakeAll":
            assert.sameMembers(items(backlog.takeAll()), items(model))
            model = []
        }
        assert.strictEqual(backlog.size, model.length)
      }
      const rest = new Set(model)
      for (const request of backlog.takeAll()) assert.isTrue(rest.delete(request), "given twice, or taken back")
      assert.strictEqual(rest.size, 0, "lost")
    }
  )
})
