/**
 * What listeners cost who writes: 64 callers update on one node, in one database alone, in another with seven nodes more that
 * listen. PostgreSQL wakes the listeners of a database only, so that both can be measured in turns.
 *
 * The seven are processes of their own, as they are in production: in one process they would share the thread that writes. All
 * share two or more processors with PostgreSQL, so that the result is worse than with a machine each.
 */
import { Session } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Child from "../Child.ts"
import { measure, NotMeasured, rateRatio, runs } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const callers = 64
const updates = 3_200
const Heard = Schema.Tuple([Schema.Finite, Schema.Finite])

/** A node that updates, in a database of its own with so many nodes. */
export const writer = Effect.fnUntraced(function* (server: Node.Url, nodes: number, operations: number = updates) {
  const url = yield* Node.database(server, `nodes_${nodes}`)
  const sessions = yield* Node.node({ url })
  const latest = [...(yield* Workload.create(sessions, Workload.one))]
  const ids = latest.map(({ id }) => Redacted.value(id))
  const others = yield* Effect.forEach(
    Array.from({ length: nodes - 1 }),
    () => Child.start("Listener", { BENCH_URL: Redacted.value(url) }),
    { concurrency: 2 }
  )
  const [attribute] = Workload.one.attributes
  let counter = 0
  const update = (index: number) =>
    Effect.gen(function* () {
      const which = index % Workload.sessionCount
      const session = latest[which] as Session
      const saved = yield* sessions.update(Session.set(session, attribute, `value${counter++}`))
      latest[which] = saved
      return saved.version === session.version + 1n
    })
  return {
    contender: {
      name: `update, ${callers} callers, ${nodes} node${nodes === 1 ? "" : "s"}`,
      operations,
      run: Workload.shared(operations, callers, update)
    },
    /** Takes all sessions into the memory of the others. */
    fill: Effect.forEach(others, ({ ask }) => ask("read", Schema.Finite, ids), { discard: true }),
    /** What the others have heard, and the time of a processor that all of them have used. */
    heard: Effect.forEach(others, ({ ask }) => ask("heard", Heard))
  }
})

export const suite: Suite = {
  name: "nodes",
  slowToSetUp: true,
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable()
        const one = yield* writer(url, 1)
        const eight = yield* writer(url, 8)
        yield* eight.fill
        const before = yield* eight.heard
        const rows = yield* measure([one.contender, eight.contender], rounds(11))
        // The last notices are on their way.
        let after = yield* eight.heard
        for (let i = 0; i < 100 && after.some(([dropped]) => dropped < Workload.sessionCount); i++) {
          yield* Effect.sleep("10 millis")
          after = yield* eight.heard
        }
        if (after.some(([dropped]) => dropped < Workload.sessionCount)) {
          return yield* new NotMeasured({ message: "Not every node has dropped every session" })
        }
        const [alone, together] = rows
        const heard = updates * runs(updates, rounds(11))
        const cpu = after.map(([, millis], index) => (millis - (before[index]?.[1] ?? 0)) / heard)
        return {
          tables: [{ title: "Updates with other nodes that listen, in processes of their own", rows }],
          figures: {
            "nodes8.update.vsNodes1": rateRatio(together, alone),
            // Of one listening node, per update of another.
            "nodes8.listener.cpuMicrosPerUpdate": (1_000 * cpu.reduce((sum, each) => sum + each, 0)) / cpu.length
          }
        }
      })
    )
}
