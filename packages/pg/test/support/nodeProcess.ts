/**
 * A node in a process of its own, driven by lines on its standard input and
 * answering in lines of JSON. It ends as an application does: on SIGTERM, or when
 * its program is done.
 */
import { Session, SessionAttribute, SessionId, SessionStore, UserId } from "@effect-pg-session/core"
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
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

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  yield* answer({ ready: true })
  while (true) {
    const [command, ...words] = yield* nextLine
    const id = Option.getOrUndefined(SessionId.fromString(words[0] ?? ""))
    if (command === "create") {
      const session = yield* sessions.create(UserId.make("alice"))
      yield* answer({ token: Redacted.value(session.id), version: Number(session.version) })
    } else if (command === "note" && id !== undefined) {
      const session = yield* sessions.modify(id, Session.set(Note, words[1] ?? ""))
      yield* answer({ version: Number(session.version) })
    } else if (command === "use" && id !== undefined) {
      const session = yield* sessions.get(id)
      yield* answer({ version: Number(session.version) })
    } else {
      return
    }
  }
})

// An open standard input keeps a process alive, too; only what the layer leaves behind is to be seen.
const main = Effect.ensuring(
  Effect.provide(program, PgSessionLive),
  Effect.sync(() => process.stdin.destroy())
)

if (process.env["RUN"] === "plainly") {
  // Nothing here ends the process: it ends when nothing is left to do.
  await Effect.runPromise(main)
} else {
  NodeRuntime.runMain(main)
}
