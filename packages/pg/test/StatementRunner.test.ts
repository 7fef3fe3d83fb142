/** Statements on a transport of the test's own, which decides when there is a connection, and when an answer. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Row } from "../src/internal/Database.ts"
import * as StatementRunner from "../src/internal/StatementRunner.ts"

/** Statements wait in line until they are given a connection, and then for their answer. */
const setUp = Effect.fnUntraced(function* (limits: Partial<StatementRunner.Limits> = {}) {
  const inLine: Array<{ readonly sql: string; readonly connect: () => void; readonly answer: () => void }> = []
  const withdrawn: Array<string> = []
  const transport: StatementRunner.Transport = (sql, _, onSend) =>
    Effect.suspend(() => {
      const connected = Deferred.makeUnsafe<void>()
      const answered = Deferred.makeUnsafe<ReadonlyArray<Row>>()
      inLine.push({
        sql,
        connect: () => Deferred.doneUnsafe(connected, Effect.void),
        answer: () => Deferred.doneUnsafe(answered, Effect.succeed([[sql]]))
      })
      return Deferred.await(connected).pipe(
        Effect.onInterrupt(() => Effect.sync(() => withdrawn.push(sql))),
        Effect.andThen(Effect.sync(onSend)),
        Effect.andThen(Deferred.await(answered))
      )
    })
  const runner = yield* StatementRunner.make(transport, {
    statementTimeout: 10_000,
    maxPending: 1_000,
    maxPerOperation: 2,
    ...limits
  })
  const write = (operation: string, sql: string) =>
    Effect.forkChild(Effect.result(runner.write(operation, sql, [])), { startImmediately: true })
  return { inLine, withdrawn, write }
})

/** Connects and answers a statement. Its place is free a turn of the event loop later, not on top of what goes on in the pool. */
const finish = (statement: { readonly connect: () => void; readonly answer: () => void } | undefined) =>
  Effect.andThen(
    Effect.sync(() => {
      statement?.connect()
      statement?.answer()
    }),
    Effect.sleep(0)
  )

describe("too many statements", () => {
  it.live("of one operation wait for each other, and not before the others'", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { inLine, write } = yield* setUp()
        for (let index = 0; index < 100; index++) yield* write("create the session", `create ${index}`)
        const extended = yield* write("extend the lock", "extend")
        assert.deepStrictEqual(
          inLine.map(({ sql }) => sql),
          ["create 0", "create 1", "extend"]
        )
        yield* finish(inLine[2])
        assert.deepInclude(yield* Fiber.join(extended), { success: [["extend"]] })
        yield* finish(inLine[0])
        assert.strictEqual(inLine[3]?.sql, "create 2")
        assert.lengthOf(inLine, 4)
      })
    )
  )

  it.live("of one operation are refused, and no others for it", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { inLine, write } = yield* setUp({ maxPending: 3 })
        for (let index = 0; index < 3; index++) yield* write("acquire the lock", `acquire ${index}`)
        const refused = yield* Fiber.join(yield* write("acquire the lock", "acquire one more"))
        assert.strictEqual(refused._tag, "Failure")
        if (refused._tag === "Failure")
          assert.deepInclude(refused.failure, { reason: "Overloaded", outcome: "NotApplied" })
        const loaded = yield* write("load sessions", "load")
        assert.strictEqual(inLine[2]?.sql, "load")
        yield* finish(inLine[2])
        assert.deepInclude(yield* Fiber.join(loaded), { success: [["load"]] })
        // One that is done makes room for one.
        yield* finish(inLine[0])
        const waiting = yield* write("acquire the lock", "acquire again")
        assert.isUndefined(waiting.pollUnsafe())
        assert.strictEqual((yield* Fiber.join(yield* write("acquire the lock", "one too many")))._tag, "Failure")
      })
    )
  )

  it.live("are not sent when hardly any time is left for their answers", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { inLine, withdrawn, write } = yield* setUp({ statementTimeout: 400, maxPerOperation: 1 })
        const first = yield* write("create the session", "in line")
        const second = yield* write("create the session", "behind it")
        for (const fiber of [first, second]) {
          const result = yield* Fiber.join(fiber)
          assert.strictEqual(result._tag, "Failure")
          if (result._tag === "Failure") {
            assert.deepInclude(result.failure, { reason: "Timeout", outcome: "NotApplied" })
            assert.include(result.failure.detail, "within 300 ms")
          }
        }
        yield* Effect.repeat(Effect.yieldNow, { until: () => withdrawn.length === inLine.length })
        assert.deepStrictEqual(
          withdrawn,
          inLine.map(({ sql }) => sql)
        )
        // Nothing of them is left that somebody could wait for.
        const third = yield* write("create the session", "third")
        inLine.at(-1)?.connect()
        inLine.at(-1)?.answer()
        assert.deepInclude(yield* Fiber.join(third), { success: [["third"]] })
      })
    )
  )

  it.live("have all of their time once they are sent", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { inLine, write } = yield* setUp({ statementTimeout: 2_000 })
        const slow = yield* write("create the session", "slow")
        inLine[0]?.connect()
        yield* Effect.sleep(1_600)
        inLine[0]?.answer()
        assert.deepInclude(yield* Fiber.join(slow), { success: [["slow"]] })
        const silent = yield* write("create the session", "silent")
        inLine[1]?.connect()
        const result = yield* Fiber.join(silent)
        assert.strictEqual(result._tag, "Failure")
        if (result._tag === "Failure") {
          assert.deepInclude(result.failure, { reason: "Timeout", outcome: "Unknown" })
          assert.include(result.failure.detail, "within 2000 ms")
        }
      })
    )
  )

  it.live("that wait when it closes are told so", () =>
    Effect.gen(function* () {
      const waiting = yield* Effect.scoped(
        Effect.gen(function* () {
          const { write } = yield* setUp({ maxPerOperation: 1 })
          return [yield* write("create the session", "in line"), yield* write("create the session", "behind it")]
        })
      )
      for (const fiber of waiting) {
        assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Failure" })
        const result = yield* Fiber.join(fiber)
        if (result._tag === "Failure") assert.deepInclude(result.failure, { reason: "Closed", outcome: "NotApplied" })
      }
    })
  )
})
