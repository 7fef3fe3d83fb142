/** Statements on the way to PostgreSQL, and notices on the way back. */
import { edit, type Mutation } from "../Mutation.ts"
import { inPg } from "../TestFiles.ts"

const runner = "packages/pg/src/internal/StatementRunner.ts"
const payload = "packages/pg/src/internal/NotificationPayload.ts"
const mailbox = "packages/pg/src/internal/Mailbox.ts"
const alarms = "packages/pg/src/internal/Alarms.ts"
const { alarms: alarmsTest, database, mailbox: mailboxes, notifier, payload: payloads, statementRunner } = inPg

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "statement-never-twice",
    guarantee: "G5",
    step: "what may write is never sent twice",
    edits: [
      edit(
        runner,
        `kind === "read" ? Effect.catchIf(statement, isLost, () => statement) : statement`,
        "Effect.catchIf(statement, isLost, () => statement)"
      )
    ],
    tests: [database],
    only: "a write is not, and its outcome|a read is sent again"
  },
  {
    name: "statement-unknown",
    guarantee: "G5",
    step: "a write without an answer in time is of unknown outcome",
    edits: [
      edit(
        runner,
        `timedOut(operation, sent, sent && kind === "write", limit)`,
        "timedOut(operation, sent, false, limit)"
      )
    ],
    tests: [database],
    only: "answers that never arrive|more statements than"
  },
  {
    name: "statement-own-fiber",
    guarantee: "G5",
    step: "a statement that was sent is not cancelled because its caller was interrupted",
    edits: [edit(runner, "if (!sent) giveUp()", "giveUp()")],
    tests: [database],
    only: "does not cancel a statement|withdraws a statement"
  },
  {
    name: "statement-withdrawn",
    guarantee: "G5",
    step: "what was not sent in time is not applied later",
    edits: [edit(runner, `kind === "write", limit))\n          giveUp()`, `kind === "write", limit))`)],
    tests: [database],
    only: "a pool without a free|more statements than"
  },
  {
    name: "statement-wait",
    guarantee: "G12",
    step: "what is sent has time left to be answered",
    edits: [edit(runner, "const waitPart = 0.75", "const waitPart = 1")],
    tests: [statementRunner]
  },
  {
    name: "statement-lines",
    guarantee: "G12",
    step: "no operation's crowd stands before the others' statements",
    edits: [
      edit(
        "packages/pg/src/internal/Lines.ts",
        "if (line.admitted >= this.limit) break",
        "if (line.admitted < 0) break"
      )
    ],
    tests: [statementRunner]
  },
  {
    name: "statement-bound",
    guarantee: "G10",
    step: "statements that wait are bounded",
    edits: [edit(runner, "if (lines.count(operation) >= limits.maxPending) return", "if (jobs.size < 0) return")],
    tests: [database],
    only: "more statements than allowed|a pool without a free"
  },
  {
    name: "payload-other-version",
    guarantee: "G4",
    step: "a notice of another version of the library drops everything",
    edits: [
      edit(
        payload,
        "return otherFormat.test(payload) ? all : unreadable",
        "return otherFormat.test(payload) ? unreadable : unreadable"
      )
    ],
    tests: [payloads]
  },
  {
    name: "payload-bound",
    guarantee: "G10",
    step: "notices are bounded before they are taken apart",
    edits: [
      edit(payload, "if (items.length > maxPayloadBytes) return unreadable"),
      edit(payload, "return changes.length > maxChanges ? unreadable : {", "return {")
    ],
    tests: [payloads]
  },
  {
    name: "listener-bound",
    guarantee: "G10",
    step: "notices that wait are bounded: then the connection is given up",
    edits: [
      edit(
        "packages/pg/src/internal/Listener.ts",
        "return link.payloads.deliver() ? Effect.void",
        "return link.payloads.deliver() || true ? Effect.void"
      )
    ],
    tests: [notifier]
  },
  {
    name: "mailbox-bound",
    guarantee: "G10",
    step: "what a notice takes besides its text is counted, too",
    edits: [edit(mailbox, "payload.length + overhead", "payload.length")],
    tests: [mailboxes]
  },
  {
    name: "mailbox-left",
    guarantee: "G1",
    step: "what arrived before a connection broke is applied",
    edits: [
      edit(
        mailbox,
        "() => (this.payloads.length > 0 ? this.takeAll() : this.end) ?? this.wait",
        "() => this.end ?? (this.payloads.length > 0 ? this.takeAll() : this.wait)"
      )
    ],
    tests: [mailboxes]
  },
  {
    name: "alarm-order",
    guarantee: "G12",
    step: "an answer that has arrived is read before its statement is given up, however long this process was stopped",
    edits: [edit(alarms, "setImmediate(() => this.look())", "this.look()")],
    tests: [alarmsTest]
  },
  {
    name: "alarm-rearmed",
    guarantee: "G12",
    step: "the timer of the first statement is set again for the next one",
    edits: [edit(alarms, "        this.arm(due - now)\n")],
    tests: [alarmsTest]
  },
  {
    name: "listener-standby",
    guarantee: "G1",
    step: "a server in recovery is refused",
    edits: [edit("packages/pg/src/PgSessionNotifier.ts", "if (server.inRecovery) return yield* inRecovery()")],
    tests: [notifier],
    only: "a server in recovery|another one, and so is",
    redundant: "PostgreSQL itself refuses to listen there"
  },
  {
    name: "server-identity",
    guarantee: "G1",
    step: "a server that was started again, or another one, is told apart",
    edits: [
      edit(
        "packages/pg/src/PgSessionNotifier.ts",
        "identity: String(identity),",
        "identity: String(identity).slice(0, 1),"
      )
    ],
    tests: [notifier],
    only: "a server in recovery|another one, and so is"
  }
]
