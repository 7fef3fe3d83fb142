/**
 * Reads that the database answers: a miss against a bare SELECT by primary key of the same row through the same client
 * library, one at a time and 64 at once. The cache holds a tenth of the sessions, and they are visited in turn, so that
 * none is ever found there.
 */
import type { Session } from "@effect-pg-session/core"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import { measure, NotMeasured, rateRatio, timeRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import type { Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const { sessionCount } = Workload
const alone = 400
const together = 6_400
const callers = 64
/** Computing before a bare SELECT: where it takes more than this longer, waking up is what costs. */
const busyMicros = 100

const measureWorkload = Effect.fnUntraced(function* (url: Node.Url, workload: Workload.Workload, rounds: number) {
  const sessions = yield* Node.node({ url, cacheCapacity: sessionCount / 10 })
  const sql = yield* Node.client(url)
  const created = yield* Workload.create(sessions, workload)
  const keys = created.map(({ key }) => key)
  const ids = created.map(({ id }) => id)

  let next = 0
  const miss = () =>
    Effect.suspend(() => {
      const which = next++ % sessionCount
      return Effect.map(sessions.get(ids[which] as Session["id"]), ({ key }) => key === keys[which])
    })
  let nextBare = 0
  const select = (busyMillis = 0) =>
    Effect.suspend(() => {
      const until = performance.now() + busyMillis
      while (performance.now() < until);
      const which = nextBare++ % sessionCount
      return Effect.map(
        sql<{ key: string; version: string }>`select * from sessions where key = ${keys[which]}`,
        ([row]) => row?.key === keys[which]
      )
    })

  yield* sessions.clearLocalCache
  const before = (yield* sessions.health).cache
  const rows = yield* measure(
    [
      { name: "get, a miss", operations: alone, run: Workload.shared(alone, 1, miss) },
      { name: "floor: SELECT by primary key", operations: alone, run: Workload.shared(alone, 1, () => select()) },
      { name: `get, a miss, ${callers} at once`, operations: together, run: Workload.shared(together, callers, miss) },
      {
        name: `a SELECT each, ${callers} at once`,
        operations: together,
        run: Workload.shared(together, callers, () => select())
      },
      {
        name: `SELECT, and ${busyMicros} µs of computing before each`,
        operations: alone,
        run: Workload.shared(alone, 1, () => select(busyMicros / 1_000))
      }
    ],
    rounds
  )
  const after = (yield* sessions.health).cache
  if (after.hits !== before.hits) {
    return yield* new NotMeasured({ message: `${after.hits - before.hits} reads were answered from memory` })
  }
  const [one, oneBare, many, manyBare, busy] = rows
  const id = (name: string) => name.replace(".", `.${workload.infix}`)
  return {
    table: { title: `Reads from the database, ${sessionCount} sessions, ${workload.title}`, rows },
    figures: {
      [id("read.miss.vsSelect")]: timeRatio(one, oneBare),
      [id("read.miss64.vsSelect64")]: rateRatio(many, manyBare),
      [id("read.miss.busySelect.vsSelect")]: timeRatio(busy, oneBare)
    }
  }
}, Effect.scoped)

export const suite: Suite = {
  name: "misses",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make()
        const one = yield* measureWorkload(url, Workload.one, rounds(15))
        const ten = quick ? undefined : yield* measureWorkload(url, Workload.ten, rounds(5))
        return {
          tables: [one.table, ...(ten === undefined ? [] : [ten.table])],
          figures: { ...one.figures, ...ten?.figures }
        }
      })
    )
}
