/**
 * A node in a process of its own that locks things, driven by lines on its
 * standard input and answering in lines of JSON.
 *
 *     count <times>   increments the only row of the table `counter`, not atomically, under a lock
 *     hold <id>       holds a lock until it is lost; on the next line it writes to the session, whatever happened meanwhile
 */
import { Session, SessionAttribute, SessionId, SessionLocks, SessionStore } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { createInterface } from "node:readline"
import { PgSessionLive } from "../../src/PgSession.ts"

const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })

const answer = (value: Readonly<Record<string, unknown>>) =>
  Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const nextLine = Effect.map(
  Effect.promise(() => lines.next()),
  ({ done, value }) => (done === true ? [] : value.split(" "))
)

const count = Effect.fnUntraced(function* (times: number) {
  const locks = yield* SessionLocks
  const sql = yield* PgClient.PgClient
  const counter = sql(yield* Config.String("COUNTER"))
  const increment = Effect.gen(function* () {
    const [row] = yield* sql<{ readonly value: number }>`select value from ${counter}`
    yield* sql`update ${counter} set value = ${(row?.value ?? 0) + 1}`
  })
  for (let round = 0; round < times; round++) {
    yield* locks.withLock("counter", () => increment, { wait: "forever", leaseTime: "10 seconds" })
  }
})

const hold = Effect.fnUntraced(function* (id: SessionId) {
  const locks = yield* SessionLocks
  const sessions = yield* SessionStore
  let late = "nothing"
  const ended = yield* Effect.result(
    locks.withLock(
      "held",
      (lease) =>
        Effect.gen(function* () {
          yield* answer({ ready: true })
          yield* nextLine
          const written = yield* Effect.result(
            sessions.modify(id, Session.set(Note, "late"), { fence: lease, check: "none" })
          )
          late = Result.isSuccess(written) ? "accepted" : written.failure._tag
        }).pipe(Effect.uninterruptible, Effect.andThen(Effect.never)),
      { leaseTime: "1500 millis", heartbeatInterval: "300 millis" }
    )
  )
  yield* answer({ late, ended: Result.isSuccess(ended) ? "finished" : ended.failure._tag })
})

const program = Effect.gen(function* () {
  yield* answer({ ready: true })
  while (true) {
    const [command, word = ""] = yield* nextLine
    const id = Option.getOrUndefined(SessionId.fromString(word))
    if (command === "count") {
      yield* count(Number(word))
      yield* answer({ ready: true })
    } else if (command === "hold" && id !== undefined) {
      yield* hold(id)
    } else {
      return
    }
  }
})

const client = Layer.orDie(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))

NodeRuntime.runMain(
  program.pipe(Effect.provide([PgSessionLive, client]), Effect.ensuring(Effect.sync(() => process.stdin.destroy())))
)
