/**
 * G9: the database, the notifications, the logs, the spans and the error messages
 * know a session by its key, and at most a SHA-256 of its secret. A dump of the
 * database logs nobody in.
 */
import {
  Session,
  SessionAttribute,
  type SessionEvent,
  SessionId,
  type Sessions,
  SessionStore,
  UserId
} from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { PgSession } from "../../src/PgSession.ts"
import { eventually } from "../support/Faults.ts"
import { alice, build, lookAround, node, Note, proxyTo, quiet, test } from "../support/Nodes.ts"
import * as Observed from "../support/Observed.ts"
import { databaseUrl, TestDatabase } from "../support/TestDatabase.ts"

const value = "hunter2-attribute-value"
const Card = SessionAttribute.make("card", Schema.Struct({ number: Schema.String, tries: Schema.Number }))

const tokenOf = (session: Session): string => Redacted.value(session.id)
const secretOf = (token: string): string => token.slice(22)

/** Whoever reads ten characters of a secret reads too much. */
const fragments = (secret: string): ReadonlyArray<string> =>
  Array.from({ length: Math.floor((secret.length - 10) / 3) + 1 }, (_, n) => secret.slice(n * 3, n * 3 + 10))

const assertSecret = (text: string, where: string, tokens: ReadonlyArray<string>) => {
  for (const token of tokens) {
    for (const fragment of fragments(secretOf(token))) assert.notInclude(text, fragment, where)
  }
}

/** Everything that can be done with sessions, what fails included. Answers all ids, all errors and all that was returned. */
const everything = Effect.fnUntraced(function* (sessions: Sessions) {
  const tokens: Array<string> = []
  const returned: Array<unknown> = []
  const failures: Array<Exit.Exit<unknown, unknown>> = []
  const failing = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.map(Effect.exit(effect), (exit) => {
      assert.isTrue(Exit.isFailure(exit))
      failures.push(exit)
    })
  const keep = (session: Session) => {
    tokens.push(tokenOf(session))
    returned.push(session)
    return session
  }
  const session = keep(
    yield* sessions.create(alice, {
      attributes: [SessionAttribute.value(Card, { number: value, tries: 1 }), SessionAttribute.value(Note, value)]
    })
  )
  const changed = keep(yield* sessions.update(Session.set(session, Note, `${value} 2`)))
  returned.push(Session.set(changed, Card, { number: value, tries: 2 }))
  const rotated = keep(yield* sessions.rotate(session.id, { grace: "0 seconds" }))
  keep(yield* sessions.get(rotated.id, { refresh: true }))
  returned.push(yield* sessions.find(rotated.id), yield* sessions.listForUser(alice), yield* sessions.health)
  // Somebody kept the former secret.
  yield* failing(sessions.get(session.id))
  yield* failing(sessions.get(session.id, { refresh: true }))
  // Lost races, refused values, wrong types, wrong sizes.
  yield* failing(sessions.update(Session.set(session, Note, value), { check: "none" }))
  const stale = yield* sessions.get(rotated.id)
  yield* sessions.update(Session.set(stale, Note, value))
  yield* failing(sessions.update(Session.set(stale, Note, `${value} 3`)))
  yield* failing(sessions.update(Session.set(stale, Note, `${value} 3`), { check: "session" }))
  yield* failing(sessions.update(Session.set(stale, Note, value.repeat(10_000)), { check: "none" }))
  const Wrong = SessionAttribute.make("card", Schema.Struct({ number: Schema.Number }))
  yield* failing(Session.get(stale, Wrong))
  const Checked = SessionAttribute.make("note", Schema.String.check(Schema.isMaxLength(3)))
  yield* failing(Session.get(stale, Checked))
  yield* failing(sessions.update(Session.set(stale, Checked, value)))
  yield* failing(sessions.update(Session.set(stale, SessionAttribute.make("x", Schema.Unknown), () => value)))
  const guest = keep(yield* sessions.createAnonymous())
  keep(
    yield* sessions.rotate(guest.id, { userId: UserId.make("bob"), attributes: [SessionAttribute.value(Note, value)] })
  )
  yield* sessions.deleteAttributeForUser(alice, Note)
  yield* sessions.delete(rotated.id)
  yield* failing(sessions.get(rotated.id))
  yield* sessions.deleteAllForUser(UserId.make("bob"))
  return { tokens, returned, failures }
})

const events = Effect.fnUntraced(function* (sessions: Sessions) {
  const seen: Array<SessionEvent> = []
  yield* Effect.forkScoped(
    Stream.runForEach(sessions.events, (event) => Effect.sync(() => seen.push(event))),
    {
      startImmediately: true
    }
  )
  return seen
})

describe("whatever is done", () => {
  test(
    "neither the database, nor notifications, logs, spans, events, errors or printed sessions tell a secret or a value",
    Effect.gen(function* () {
      const { names, query, sql } = yield* lookAround
      const observed = Observed.make()
      const a = yield* observed.observe(node({ statementTimeout: "1 second", maxAttributeBytes: 1_000 }))
      const queue = yield* sql.listen(names.channel)
      const seen = yield* events(a)
      const { failures, returned, tokens } = yield* observed.observe(everything(a))
      // What is in the tables when a session is there, with a former secret in its grace.
      const last = yield* observed.observe(a.create(alice, { attributes: [SessionAttribute.value(Note, "stored")] }))
      const renewed = yield* observed.observe(a.rotate(last.id, { grace: "1 hour" }))
      tokens.push(tokenOf(last), tokenOf(renewed))
      yield* sql.notify(names.channel, "end")
      const notifications: Array<string> = []
      while (notifications.at(-1) !== "end") notifications.push((yield* Queue.take(queue)).payload)

      const tables = yield* query("select table_name::text from information_schema.tables where table_schema = $1", [
        names.schemaName
      ])
      assert.isAtLeast(tables.length, 3)
      const dump: Array<string> = []
      for (const [table] of tables) {
        for (const [row] of yield* query(`select t::text from ${names.schema}."${String(table)}" t`))
          dump.push(String(row))
      }
      assert.include(dump.join("\n"), renewed.key)
      assert.include(
        dump.join("\n"),
        createHash("sha256")
          .update(secretOf(tokenOf(renewed)))
          .digest("base64url")
      )
      assert.isAbove(notifications.length, 5)
      assert.isAtLeast(failures.length, 10)
      assert.isAbove(observed.statements(), 10)

      const errors = failures
        .map((exit) => [Observed.printed(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""].join("\n"))
        .join("\n")
      const places: ReadonlyArray<readonly [where: string, text: string]> = [
        ["the database", dump.join("\n")],
        ["notifications", notifications.join("\n")],
        ["logs and spans", observed.text()],
        ["errors", errors],
        ["events", seen.map(Observed.printed).join("\n")],
        ["what was returned", returned.map(Observed.printed).join("\n")]
      ]
      for (const [where, text] of places) {
        assert.isAbove(text.length, 100, where)
        assertSecret(text, where, tokens)
        if (where !== "the database") assert.notInclude(text, "hunter2", where)
      }
      // The secret's hash is the database's own business.
      assert.notInclude(
        observed.text(),
        createHash("sha256")
          .update(secretOf(tokens[0] ?? ""))
          .digest("base64url")
      )
      assert.isTrue(seen.some(({ _tag }) => _tag === "SecretReused"))
    })
  )

  test(
    "nor do they when PostgreSQL fails: refused statements, lost connections, silence, missing tables",
    Effect.gen(function* () {
      const { names, query } = yield* lookAround
      const observed = Observed.make()
      const proxy = yield* proxyTo()
      const password = new URL(Redacted.value(databaseUrl)).password
      const a = yield* observed.observe(
        node({ url: proxy.url(databaseUrl), statementTimeout: "300 millis", maxStaleness: "300 millis" })
      )
      const session = yield* a.create(alice, { attributes: [SessionAttribute.value(Note, value)] })
      const tokens = [tokenOf(session)]
      const failures: Array<unknown> = []
      const attempts = Effect.gen(function* () {
        const all: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          a.get(session.id, { refresh: true }),
          a.update(Session.set(session, Note, value), { check: "none" }),
          a.create(alice, { attributes: [SessionAttribute.value(Note, value)] }),
          a.rotate(session.id, { attributes: [SessionAttribute.value(Note, value)] }),
          a.delete(session.id)
        ]
        const exits = yield* Effect.forEach(all, Effect.exit, { concurrency: "unbounded" })
        for (const exit of exits) {
          assert.isTrue(Exit.isFailure(exit))
          failures.push(exit)
          if (Exit.isFailure(exit)) failures.push(Cause.pretty(exit.cause), Cause.squash(exit.cause))
        }
      })
      yield* proxy.pause
      yield* observed.observe(attempts)
      yield* Effect.andThen(proxy.reset, proxy.refuse)
      yield* observed.observe(attempts)
      yield* Effect.andThen(proxy.accept, proxy.resume)
      yield* eventually(Effect.map(Effect.exit(a.listForUser(alice)), Exit.isSuccess))
      // Data exceptions quote the data.
      yield* query(`create function ${names.schema}.quote() returns trigger language plpgsql as $body$
        begin raise exception using errcode = '22023', message = 'what about ' || new.attributes::text; end $body$`)
      yield* query(
        `create trigger quote before update on @sessions for each row execute function ${names.schema}.quote()`
      )
      yield* observed.observe(
        Effect.map(Effect.exit(a.update(Session.set(session, Note, value), { check: "none" })), (exit) => {
          assert.isTrue(Exit.isFailure(exit))
          failures.push(exit)
        })
      )
      yield* query("drop trigger quote on @sessions")
      yield* query("alter table @sessions add constraint refuse check (version < 1) not valid")
      yield* observed.observe(
        Effect.map(Effect.exit(a.update(Session.set(session, Note, value), { check: "none" })), (exit) =>
          failures.push(exit)
        )
      )
      yield* query("drop table @sessions cascade")
      yield* observed.observe(attempts)
      assert.isAbove(observed.lines(), 0)
      const text = [observed.text(), ...failures.map(Observed.printed)].join("\n")
      assertSecret(text, "failures", tokens)
      assert.notInclude(text, "hunter2")
      assert.notInclude(text, password)
      assert.include(text, "42P01")
      assert.include(text, "22023")
      assert.include(text, names.sessions.slice(0, 10), "what failed is said, though")
    })
  )

  test(
    "a layer that cannot start does not tell the password",
    Effect.gen(function* () {
      const observed = Observed.make()
      const url = new URL(Redacted.value(databaseUrl))
      url.password = "hunter2-password"
      const exits = yield* Effect.forEach(
        [
          url.href,
          "postgres://u:hunter2-password@127.0.0.1:1/x",
          "postgres://u:hunter2-password@[",
          "hunter2-password"
        ],
        (text) =>
          Effect.exit(
            observed.observe(build(PgSession.layer({ url: Redacted.make(text), statementTimeout: "1 second" })))
          )
      )
      for (const exit of exits) {
        assert.isTrue(Exit.isFailure(exit))
        assert.notInclude(Observed.printed(exit), "hunter2")
        if (Exit.isFailure(exit)) assert.notInclude(Cause.pretty(exit.cause), "hunter2")
      }
      assert.notInclude(observed.text(), "hunter2")
    })
  )
})

describe("a dump of the database", () => {
  test(
    "logs nobody in: no hash, no key and nothing made of them is an id",
    Effect.gen(function* () {
      const { query } = yield* lookAround
      const { schema, url } = yield* TestDatabase
      const a = yield* node()
      const first = yield* a.create(alice)
      const session = yield* a.rotate(first.id, { grace: "1 hour" })
      const [row] = yield* query("select * from @sessions where key = $1", [session.key])
      const stored = (row ?? []).filter((column) => typeof column === "string" && column.length === 43).map(String)
      assert.lengthOf(stored, 2, "the hash, and the former one")
      // A node that has never seen the session, and one that has it in memory.
      const fresh = yield* build(PgSession.layer({ url, schemaName: schema }))
      for (const text of stored) {
        for (const candidate of [
          session.key + text,
          text + session.key,
          session.key + Buffer.from(text).toString("base64url").slice(0, 43)
        ]) {
          const id = SessionId.fromString(candidate)
          if (Option.isNone(id)) continue
          for (const sessions of [a, fresh]) {
            for (const options of [undefined, quiet, { refresh: true }]) {
              assert.isTrue(Option.isNone(yield* sessions.find(id.value, options)))
            }
            assert.strictEqual((yield* Effect.flip(sessions.rotate(id.value)))._tag, "SessionNotFound")
            assert.strictEqual(
              (yield* Effect.flip(sessions.modify(id.value, Session.set(Note, "mine"))))._tag,
              "SessionNotFound"
            )
            yield* sessions.delete(id.value)
          }
        }
      }
      assert.strictEqual((yield* fresh.get(session.id)).version, 2n)
      assert.strictEqual((yield* fresh.get(first.id)).version, 2n, "while its grace lasts")
    })
  )
})

test(
  "logging a session, an id or an error shows what may be shown",
  Effect.gen(function* () {
    const observed = Observed.make()
    const a = yield* node()
    const session = yield* a.create(alice, { attributes: [SessionAttribute.value(Note, value)] })
    yield* a.update(Session.set(session, Note, "other"))
    const error = yield* Effect.flip(a.update(Session.set(session, Note, value), { check: "session" }))
    yield* observed.observe(
      Effect.gen(function* () {
        yield* Effect.log(session, session.id, error)
        yield* Effect.logError("failed", Cause.fail(error))
        yield* Effect.logDebug({ nested: { session, id: session.id, error } })
        yield* Effect.annotateLogs(Effect.logTrace("annotated"), { session, id: session.id })
        yield* Effect.withSpan(Effect.ignore(Effect.fail(error)), "span", { attributes: { session, id: session.id } })
        yield* Effect.exit(Effect.withSpan(Effect.fail(error), "failing"))
      })
    )
    const text = observed.text()
    assert.isAbove(observed.lines(), 10)
    assert.include(text, session.key.slice(0, 8))
    assertSecret(text, "logs", [tokenOf(session)])
    assert.notInclude(text, "hunter2")
    assert.strictEqual(SessionStore.key, "@effect-pg-session/core/SessionStore")
  })
)
