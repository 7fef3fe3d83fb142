import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Coalescer from "../src/internal/Coalescer.ts"
import { SessionStoreUnavailable } from "../src/SessionError.ts"
import { settle } from "./support/Coherence.ts"

/** A coalescer of words whose batches wait at a gate; answers are the words in capitals. */
const make = Effect.fnUntraced(function* (options: Partial<Coalescer.Options<string, string, string>> = {}) {
  const batches: Array<ReadonlyArray<string>> = []
  const gate = yield* Latch.make()
  const coalescer = yield* Coalescer.make<string, string, string>({
    operation: "shout",
    maxBatch: 10,
    maxPending: 20,
    concurrency: 1,
    send: (items) =>
      Effect.sync(() => batches.push(items)).pipe(
        Effect.andThen(gate.await),
        Effect.as(items.map((item) => (item === "bad" ? Exit.fail("refused") : Exit.succeed(item.toUpperCase()))))
      ),
    ...options
  })
  const submit = (item: string) =>
    Effect.tap(Effect.forkChild(coalescer.submit(item), { startImmediately: true }), settle)
  return { batches, gate, coalescer, submit }
})

const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, index) => from + index)

const all = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>) => Effect.forEach(fibers, Fiber.join)

describe("Coalescer", () => {
  it.effect("a lone request waits for nobody; those that come meanwhile share a batch, in order", () =>
    Effect.gen(function* () {
      const { batches, coalescer, gate, submit } = yield* make()
      const first = yield* submit("a")
      assert.deepStrictEqual(batches, [["a"]])
      const others = [yield* submit("b"), yield* submit("c"), yield* submit("d")]
      assert.strictEqual(coalescer.pending(), 3)
      yield* gate.open
      assert.strictEqual(yield* Fiber.join(first), "A")
      assert.deepStrictEqual(yield* all(others), ["B", "C", "D"])
      assert.deepStrictEqual(batches, [["a"], ["b", "c", "d"]])
      assert.strictEqual(coalescer.pending(), 0)
    })
  )

  it.effect("one that is refused fails nobody else", () =>
    Effect.gen(function* () {
      const { gate, submit } = yield* make()
      const fibers = [yield* submit("a"), yield* submit("bad"), yield* submit("b")]
      yield* gate.open
      const results = yield* Effect.forEach(fibers, (fiber) => Effect.result(Fiber.join(fiber)))
      assert.deepStrictEqual(
        results.map(({ _tag }) => _tag),
        ["Success", "Failure", "Success"]
      )
    })
  )

  it.effect("whose turn comes too late is not sent, and told so; the others are sent", () =>
    Effect.gen(function* () {
      let now = 0
      const { batches, gate, submit } = yield* make({
        patience: { millis: 100, now: () => now },
        keyOf: (item) => item
      })
      const first = yield* submit("a")
      const late = [yield* submit("b"), yield* submit("c")]
      now = 60
      const others = [yield* submit("d"), yield* submit("c")]
      now = 120
      yield* gate.open
      assert.strictEqual(yield* Fiber.join(first), "A")
      for (const fiber of late) {
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert(error instanceof SessionStoreUnavailable)
        assert.deepInclude(error, { reason: "Timeout", outcome: "NotApplied" })
      }
      assert.deepStrictEqual(yield* all(others), ["D", "C"])
      assert.deepStrictEqual(batches.flat(), ["a", "d", "c"])
    })
  )

  it.effect("refusing many whose turn comes too late does not hold up everybody else", () =>
    Effect.gen(function* () {
      let now = 0
      const { coalescer, gate, submit } = yield* make({
        maxBatch: 10,
        maxPending: 2_000,
        patience: { millis: 100, now: () => now }
      })
      const first = yield* submit("a")
      const happened: Array<string> = []
      for (let index = 0; index < 1_000; index++) coalescer.submitUnsafe(`b${index}`, () => happened.push("refused"))
      now = 120
      const others = yield* Effect.forkChild(
        Effect.forever(
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => happened.push("another"))
          )
        )
      )
      yield* gate.open
      yield* Fiber.join(first)
      yield* settle
      yield* Fiber.interrupt(others)
      const refused = happened.flatMap((what, index) => (what === "refused" ? [index] : []))
      assert.lengthOf(refused, 1_000)
      assert.include(happened.slice(refused[0], refused[999]), "another")
    })
  )

  it.effect("batches have a size, and as many are in flight as allowed", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* make({ maxBatch: 2, concurrency: 2 })
      const fibers = yield* Effect.forEach(["a", "b", "c", "d", "e"], submit)
      assert.deepStrictEqual(batches, [["a"], ["b"]])
      yield* gate.open
      assert.deepStrictEqual(yield* all(fibers), ["A", "B", "C", "D", "E"])
      assert.isTrue(batches.every((batch) => batch.length <= 2))
    })
  )

  it.effect(
    "with a least share another batch begins where so many have gathered, and a crowd is dealt out in equal parts",
    () =>
      Effect.gen(function* () {
        const { batches, coalescer, gate, submit } = yield* make({ concurrency: 3, minShare: 4, maxPending: 100 })
        const fibers = [yield* submit("0")]
        for (const n of range(1, 4)) fibers.push(yield* submit(String(n)))
        assert.deepStrictEqual(batches, [["0"]])
        fibers.push(yield* submit("4"))
        assert.deepStrictEqual(batches.slice(1), [["1", "2", "3", "4"]])
        const crowd = yield* Effect.forEach(range(5, 22), (n) =>
          Effect.forkChild(coalescer.submit(String(n)), { startImmediately: true })
        )
        yield* settle
        assert.deepStrictEqual(
          batches.map((batch) => batch.length),
          [1, 4, 8]
        )
        yield* gate.open
        assert.lengthOf(yield* all([...fibers, ...crowd]), 22)
      })
  )

  it.effect("with a least share a few do not wait for a batch that takes very long", () =>
    Effect.gen(function* () {
      let now = 0
      const { batches, gate, submit } = yield* make({
        concurrency: 2,
        minShare: 10,
        patience: { millis: 5_000, now: () => now }
      })
      const fibers = [yield* submit("a")]
      now = 249
      fibers.push(yield* submit("b"))
      assert.deepStrictEqual(batches, [["a"]])
      now = 250
      fibers.push(yield* submit("c"))
      assert.deepStrictEqual(batches, [["a"], ["b", "c"]])
      fibers.push(yield* submit("d"))
      assert.lengthOf(batches, 2, "what was just sent may be quick")
      yield* gate.open
      assert.deepStrictEqual(yield* all(fibers), ["A", "B", "C", "D"])
    })
  )

  it.effect("a batch that had not begun when the scope closed is waited for by nobody", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { coalescer, submit } = yield* Effect.provideService(
        make({ concurrency: 2, minShare: 1 }),
        Scope.Scope,
        scope
      )
      yield* submit("a")
      // Decided upon, and not begun: it lets others come along first.
      const second = coalescer.submitUnsafe("b", () => undefined)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(second())
      yield* coalescer.drained
    })
  )

  it.effect("requests of one key never share a batch and keep their order; others overtake them", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* make({ keyOf: (item) => item.slice(0, 1) })
      const fibers = yield* Effect.forEach(["x0", "a1", "a2", "b1", "a3", "b2"], submit)
      yield* gate.open
      assert.deepStrictEqual(yield* all(fibers), ["X0", "A1", "A2", "B1", "A3", "B2"])
      assert.deepStrictEqual(batches, [["x0"], ["a1", "b1"], ["a2", "b2"], ["a3"]])
    })
  )

  it.effect("whoever comes when too many wait is refused at once, and nothing was sent for it", () =>
    Effect.gen(function* () {
      const { batches, coalescer, gate, submit } = yield* make({ maxPending: 2 })
      const fibers = yield* Effect.forEach(["a", "b", "c"], submit)
      const error = yield* Effect.flip(coalescer.submit("d"))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "Overloaded", outcome: "NotApplied" })
      yield* gate.open
      yield* all(fibers)
      assert.notInclude(batches.flat(), "d")
      assert.strictEqual(yield* coalescer.submit("e"), "E")
    })
  )

  it.effect("an interruption takes back what was not sent, and leaves what was", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* make()
      const [sent, unsent, other] = [yield* submit("a"), yield* submit("b"), yield* submit("c")]
      yield* Fiber.interrupt(unsent)
      yield* Fiber.interrupt(sent)
      yield* gate.open
      assert.strictEqual(yield* Fiber.join(other), "C")
      assert.deepStrictEqual(batches, [["a"], ["c"]])
    })
  )

  it.effect("a batch that dies fails its own requests with an unknown outcome, and the next ones go on", () =>
    Effect.gen(function* () {
      const { coalescer } = yield* make({
        send: (items) =>
          items.includes("dies") ? Effect.die("broken") : Effect.succeed(items.map((item) => Exit.succeed(item)))
      })
      const error = yield* Effect.flip(coalescer.submit("dies"))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", outcome: "Unknown" })
      assert.strictEqual(yield* coalescer.submit("fine"), "fine")
    })
  )

  it.effect("drained waits for what is pending and in flight", () =>
    Effect.gen(function* () {
      const { coalescer, gate, submit } = yield* make()
      yield* coalescer.drained
      const fibers = yield* Effect.forEach(["a", "b"], submit)
      const drained = yield* Effect.forkChild(coalescer.drained, { startImmediately: true })
      yield* settle
      assert.isUndefined(drained.pollUnsafe())
      yield* gate.open
      yield* Fiber.join(drained)
      for (const fiber of fibers) assert.isDefined(fiber.pollUnsafe())
    })
  )

  it.effect(
    "when its scope closes: what was not sent is refused, what was sent is unknown, what comes is refused",
    () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { batches, coalescer, submit } = yield* Scope.provide(make(), scope)
        const [sent, unsent] = [yield* submit("a"), yield* submit("b")]
        yield* Scope.close(scope, Exit.void)
        assert.deepInclude(yield* Effect.flip(Fiber.join(sent)), { reason: "Closed", outcome: "Unknown" })
        assert.deepInclude(yield* Effect.flip(Fiber.join(unsent)), { reason: "Closed", outcome: "NotApplied" })
        assert.deepInclude(yield* Effect.flip(coalescer.submit("c")), { reason: "Closed", outcome: "NotApplied" })
        assert.deepStrictEqual(batches, [["a"]])
      })
  )

  it.effect("a batch that dies is answered with an unknown outcome, and those who came meanwhile are served", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make()
      const { coalescer, submit } = yield* make({
        send: (items) =>
          items.includes("dies")
            ? Effect.andThen(gate.await, Effect.die("broken"))
            : Effect.succeed(items.map((item) => Exit.succeed(item)))
      })
      const dying = yield* submit("dies")
      const others = [yield* submit("a"), yield* submit("b")]
      const drained = yield* Effect.forkChild(coalescer.drained, { startImmediately: true })
      yield* gate.open
      yield* settle
      const error = yield* Effect.flip(Fiber.join(dying))
      assert.deepInclude(error, { _tag: "SessionStoreUnavailable", reason: "DatabaseError", outcome: "Unknown" })
      assert.deepStrictEqual(yield* all(others), ["a", "b"])
      assert.strictEqual(coalescer.pending(), 0)
      yield* Fiber.join(drained)
    })
  )

  it.effect("serves everybody although every batch dies", () =>
    Effect.gen(function* () {
      const { coalescer } = yield* make({ maxBatch: 1, maxPending: 100, send: () => Effect.die("broken") })
      const attempts = Array.from({ length: 50 }, (_, n) => Effect.flip(coalescer.submit(String(n))))
      const errors = yield* Effect.all(attempts, { concurrency: "unbounded" })
      assert.lengthOf(errors, 50)
      assert.strictEqual(yield* Effect.map(Effect.flip(coalescer.submit("x")), String), String(errors[0]))
      yield* coalescer.drained
    })
  )

  // Batches that need no statement never wait, so the scheduler stops the fiber wherever its budget of steps ends.
  for (const [what, budgets, lengths] of [
    ["few steps in a row", range(3, 40), range(0, 8)],
    ["as many steps in a row as usual", [2_048], range(150, 350)]
  ] as const) {
    it.effect(`wakes up for whoever comes while it comes to rest, with ${what}`, () =>
      Effect.gen(function* () {
        const hanging: Array<string> = []
        const check = Effect.fnUntraced(function* (budget: number, length: number) {
          const gate = yield* Latch.make()
          const coalescer = yield* Coalescer.make<string, string, never>({
            operation: "shout",
            maxBatch: 1,
            maxPending: 1_000,
            concurrency: 1,
            send: (items) =>
              Effect.as(
                items.includes("first") ? gate.await : Effect.void,
                items.map((item) => Exit.succeed(item))
              )
          }).pipe(Effect.provideService(References.MaxOpsBeforeYield, budget))
          const served: Array<string> = []
          const submit = (item: string) => coalescer.submitUnsafe(item, () => served.push(item))
          for (const item of ["first", ...range(0, length).map(String)]) submit(item)
          yield* gate.open
          while (served.length <= length) yield* Effect.yieldNow
          submit("late")
          for (let turn = 0; turn < 40 && !served.includes("late"); turn++) yield* Effect.yieldNow
          if (!served.includes("late")) hanging.push(`after ${length} with ${budget}`)
        })
        for (const budget of budgets) {
          for (const length of lengths) yield* Effect.scoped(check(budget, length))
        }
        assert.deepStrictEqual(hanging, [])
      })
    )
  }

  it.effect("batches have a weight: whoever would make one too heavy waits for the next one", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* make({ weigh: (item) => item.length, maxWeight: 4 })
      const fibers = yield* Effect.forEach(["a", "bb", "cc", "d", "eeeeee", "f"], submit)
      yield* gate.open
      assert.deepStrictEqual(yield* all(fibers), ["A", "BB", "CC", "D", "EEEEEE", "F"])
      assert.deepStrictEqual(batches, [["a"], ["bb", "cc"], ["d"], ["eeeeee"], ["f"]])
    })
  )

  it.effect("those who are called back are answered when its scope closes, too, and whoever comes later", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { coalescer } = yield* Scope.provide(make(), scope)
      const outcomes: Array<string> = []
      const answer = (name: string) => (exit: Exit.Exit<string, string | SessionStoreUnavailable>) => {
        const error = Option.getOrUndefined(Exit.findErrorOption(exit))
        outcomes.push(`${name} ${error instanceof SessionStoreUnavailable ? error.outcome : String(error)}`)
      }
      coalescer.submitUnsafe("sent", answer("sent"))
      yield* settle
      coalescer.submitUnsafe("unsent", answer("unsent"))
      const takeBack = coalescer.submitUnsafe("taken back", answer("taken back"))
      takeBack()
      yield* Scope.close(scope, Exit.void)
      coalescer.submitUnsafe("late", answer("late"))()
      assert.deepStrictEqual(outcomes, ["unsent NotApplied", "sent Unknown", "late NotApplied"])
    })
  )
})
