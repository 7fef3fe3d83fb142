/**
 * The memory storage against a model that is small enough to be believed: random
 * operations on a few sessions of two users, with time passing in between. After
 * each operation the outcome, what anybody can see of any session, and what the
 * nodes were told must be the model's.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryDatabase from "../src/internal/memory/MemoryDatabase.ts"
import * as MemoryNotifier from "../src/internal/memory/MemoryNotifier.ts"
import * as MemoryStorage from "../src/internal/memory/MemoryStorage.ts"
import { UserId } from "../src/SessionId.ts"
import type { SecretHash, SessionKey } from "../src/SessionId.ts"
import { SessionStorage } from "../src/SessionStorage.ts"
import type { SessionRow } from "../src/SessionStorage.ts"
import { credential, newHash, observed, only } from "../src/testing/conformance/Harness.ts"

const users = [UserId.make("alice"), UserId.make("bob")] as const

// Durations are short and few, so that deadlines meet operations often.
const duration = Schema.Literals([10, 40, 100, 1_000])
const lifetime = Schema.Literals([40, 200, 1_000, 5_000])
const slot = Schema.Literals([0, 1, 2])
const user = Schema.Literals([0, 1])
const secret = Schema.Literals(["current", "current", "former", "wrong"])
const name = Schema.Literals(["a", "b"])
const write = Schema.Struct({ name, timeToLive: Schema.UndefinedOr(duration) })

const Create = Schema.Struct({
  _tag: Schema.tag("Create"),
  user: Schema.UndefinedOr(user),
  lifetime,
  idle: Schema.UndefinedOr(lifetime),
  set: Schema.UndefinedOr(write),
  max: Schema.Literals([1, 2]),
  reject: Schema.Boolean
})

const Write = Schema.Struct({
  _tag: Schema.tag("Write"),
  slot,
  secret,
  behind: Schema.UndefinedOr(Schema.Literals([0n, 1n])),
  expect: Schema.UndefinedOr(Schema.Struct({ name, absent: Schema.Boolean })),
  set: Schema.UndefinedOr(write),
  remove: Schema.UndefinedOr(name),
  lifetime: Schema.UndefinedOr(lifetime),
  idle: Schema.UndefinedOr(Schema.NullOr(duration)),
  notify: Schema.Boolean
})

const Rotate = Schema.Struct({
  _tag: Schema.tag("Rotate"),
  slot,
  secret,
  grace: duration,
  login: Schema.UndefinedOr(Schema.Struct({ user, lifetime, max: Schema.Literals([1, 2]), reject: Schema.Boolean })),
  set: Schema.UndefinedOr(write)
})

// What keeps sessions alive is more frequent than what ends them.
const Operation = Schema.Union([
  Create,
  Create,
  Create,
  Write,
  Write,
  Write,
  Rotate,
  Rotate,
  Rotate,
  Schema.Struct({ _tag: Schema.tag("Touch"), slot, age: duration }),
  Schema.Struct({ _tag: Schema.tag("Delete"), slot, secret: Schema.UndefinedOr(secret) }),
  Schema.Struct({ _tag: Schema.tag("DeleteUser"), user, except: Schema.UndefinedOr(slot) }),
  Schema.Struct({ _tag: Schema.tag("DeleteAttribute"), user, name }),
  Schema.Struct({ _tag: Schema.tag("Sweep") }),
  Schema.Struct({ _tag: Schema.tag("Wait"), time: Schema.Literals([5, 10, 20, 100]) })
])
type Operation = typeof Operation.Type

/** A session as the model has it; it is never removed, it ends. */
interface Modelled {
  readonly key: SessionKey
  /** Every secret it ever had, with the end of its validity. */
  readonly secrets: Array<{ readonly hash: SecretHash; until: number }>
  userId: UserId | undefined
  version: bigint
  login: number
  used: number
  end: number
  idle: number
  /** Ended by somebody, or reported by a sweep. */
  ended: boolean
  attributes: Record<string, { readonly version: bigint; readonly until: number }>
}

class Model {
  readonly sessions: Array<Modelled> = []
  now = 0

  isLive = (session: Modelled): boolean =>
    !session.ended && this.now < session.end && this.now < session.used + session.idle

  ofUser = (userId: UserId): Array<Modelled> =>
    this.sessions
      .filter((session) => session.userId === userId && this.isLive(session))
      .sort((left, right) => left.login - right.login || (left.key < right.key ? -1 : 1))

  attributesOf = (session: Modelled) =>
    Object.fromEntries(
      Object.entries(session.attributes)
        .filter(([, { until }]) => this.now < until)
        .map(([name, { version }]) => [name, version])
    )

  proves = (session: Modelled, hash: SecretHash): boolean =>
    session.secrets.some((known) => known.hash === hash && this.now < known.until)

  secretOf = (session: Modelled, which: typeof secret.Type): SecretHash =>
    (which === "wrong" ? undefined : session.secrets.at(which === "current" ? -1 : -2)?.hash) ?? newHash()

  /** Ends the oldest sessions until one more fits. */
  evict = (userId: UserId, max: number, except?: Modelled): ReadonlyArray<SessionKey> => {
    const others = this.ofUser(userId).filter((session) => session !== except)
    return others.slice(0, Math.max(0, others.length - max + 1)).map((session) => {
      session.ended = true
      return session.key
    })
  }

  isFull = (userId: UserId, max: number, except?: Modelled): boolean =>
    this.ofUser(userId).filter((session) => session !== except).length >= max

  set = (session: Modelled, change: typeof write.Type | undefined): void => {
    if (change === undefined) return
    const until = this.now + (change.timeToLive ?? Number.POSITIVE_INFINITY)
    session.attributes = { ...session.attributes, [change.name]: { version: session.version, until } }
  }
}

const writes = (change: typeof write.Type | undefined) =>
  change === undefined ? [] : [{ name: change.name, value: "1", timeToLive: change.timeToLive }]

const sorted = (keys: Iterable<string>): ReadonlyArray<string> => Array.from(keys).sort()

/** Runs an operation on both; answers the outcomes and what each says was told to the nodes: `key kind version`, or a user. */
const step = Effect.fnUntraced(function* (model: Model, operation: Operation) {
  const storage = yield* SessionStorage
  const told: Array<string> = []
  const tell = (kind: string) => (key: SessionKey) => told.push(`${key} ${kind}`)
  const limitOf = (options: { readonly max: number; readonly reject: boolean }) => ({
    max: options.max,
    onLimit: options.reject ? ("reject" as const) : ("evictOldest" as const)
  })

  switch (operation._tag) {
    case "Create": {
      const { hash, key } = credential()
      const userId = operation.user === undefined ? undefined : users[operation.user]
      const outcome = yield* storage.create({
        key,
        secretHash: hash,
        userId,
        groupId: undefined,
        lifetime: operation.lifetime,
        idleTimeout: operation.idle,
        attributes: writes(operation.set),
        limit: limitOf(operation)
      })
      if (userId !== undefined && operation.reject && model.isFull(userId, operation.max)) {
        assert.strictEqual(outcome._tag, "TooManySessions")
        return told
      }
      assert(outcome._tag === "Created")
      const evicted = userId === undefined ? [] : model.evict(userId, operation.max)
      evicted.forEach(tell("Evicted undefined"))
      assert.deepStrictEqual(sorted(outcome.evicted.map((session) => session.key)), sorted(evicted))
      const session: Modelled = {
        key,
        secrets: [{ hash, until: Number.POSITIVE_INFINITY }],
        userId,
        version: 1n,
        login: model.now,
        used: model.now,
        end: model.now + operation.lifetime,
        idle: operation.idle ?? Number.POSITIVE_INFINITY,
        ended: false,
        attributes: {}
      }
      model.set(session, operation.set)
      model.sessions.push(session)
      return told
    }
    case "Write": {
      const session = model.sessions.at(-1 - operation.slot)
      if (session === undefined) return told
      const proof = model.secretOf(session, operation.secret)
      const versions = model.attributesOf(session)
      const expected = operation.expect
      const actual = expected === undefined ? 0n : (versions[expected.name] ?? 0n)
      const expectedVersion = operation.behind === undefined ? undefined : session.version - operation.behind
      const { outcomes } = yield* storage.write([
        {
          key: session.key,
          proof,
          baseVersion: session.version,
          expectedVersion,
          expectedAttributes: expected === undefined ? [] : [[expected.name, expected.absent ? 0n : session.version]],
          set: writes(operation.set),
          remove: operation.remove === undefined ? [] : [operation.remove],
          groupId: undefined,
          lifetime: operation.lifetime,
          idleTimeout: operation.idle,
          notify: operation.notify,
          maxBytes: 1_000,
          fence: undefined
        }
      ])
      const outcome = only(outcomes)._tag
      if (!model.isLive(session) || !model.proves(session, proof)) assert.strictEqual(outcome, "Gone")
      else if (operation.behind === 1n) assert.strictEqual(outcome, "VersionMismatch")
      else if (expected !== undefined && actual !== (expected.absent ? 0n : session.version)) {
        assert.strictEqual(outcome, "AttributeVersionMismatch")
      } else {
        assert.strictEqual(outcome, "Accepted")
        session.version++
        if (operation.remove !== undefined) {
          const { [operation.remove]: _, ...kept } = session.attributes
          session.attributes = kept
        }
        model.set(session, operation.set)
        const end = operation.lifetime === undefined ? session.end : model.now + operation.lifetime
        const idle = operation.idle === undefined ? session.idle : (operation.idle ?? Number.POSITIVE_INFINITY)
        if (operation.notify || end < session.end || idle < session.idle)
          tell(`Updated ${session.version}`)(session.key)
        Object.assign(session, { end, idle, used: model.now })
      }
      return told
    }
    case "Touch": {
      const session = model.sessions.at(-1 - operation.slot)
      if (session === undefined) return told
      const { touched } = yield* storage.touch([{ key: session.key, age: operation.age }])
      const isLive = model.isLive(session)
      if (isLive) session.used = Math.max(session.used, model.now - operation.age)
      assert.deepStrictEqual(touched, isLive ? [{ key: session.key, lastAccessedAt: session.used }] : [])
      return told
    }
    case "Rotate": {
      const session = model.sessions.at(-1 - operation.slot)
      if (session === undefined) return told
      const proof = model.secretOf(session, operation.secret)
      const secretHash = newHash()
      const { login } = operation
      const userId = login === undefined ? undefined : users[login.user]
      const outcome = yield* storage.rotate({
        key: session.key,
        proof,
        secretHash,
        grace: operation.grace,
        login:
          login === undefined || userId === undefined
            ? undefined
            : { userId, lifetime: login.lifetime, idleTimeout: undefined, limit: limitOf(login) },
        set: writes(operation.set),
        maxBytes: 1_000
      })
      if (!model.isLive(session) || !model.proves(session, proof)) {
        assert.strictEqual(outcome._tag, "Gone")
        return told
      }
      const changes = userId !== undefined && userId !== session.userId
      if (changes && login?.reject === true && model.isFull(userId, login.max, session)) {
        assert.strictEqual(outcome._tag, "TooManySessions")
        return told
      }
      assert.strictEqual(outcome._tag, "Rotated")
      if (changes) model.evict(userId, login?.max ?? 0, session).forEach(tell("Evicted undefined"))
      if (changes && session.userId !== undefined) session.attributes = {}
      const current = session.secrets.at(-1)
      for (const known of session.secrets) known.until = 0
      if (current !== undefined) current.until = changes ? model.now : model.now + operation.grace
      session.secrets.push({ hash: secretHash, until: Number.POSITIVE_INFINITY })
      session.version++
      model.set(session, operation.set)
      session.used = model.now
      if (login !== undefined) {
        Object.assign(session, {
          userId,
          login: model.now,
          end: model.now + login.lifetime,
          idle: Number.POSITIVE_INFINITY
        })
      }
      tell(`Rotated ${session.version}`)(session.key)
      return told
    }
    case "Delete": {
      const session = model.sessions.at(-1 - operation.slot)
      if (session === undefined) return told
      const proof = operation.secret === undefined ? undefined : model.secretOf(session, operation.secret)
      const { keys } = yield* storage.delete({ _tag: "Session", key: session.key, proof })
      const ends = model.isLive(session) && (proof === undefined || model.proves(session, proof))
      if (ends) {
        session.ended = true
        tell("Deleted undefined")(session.key)
      }
      assert.deepStrictEqual(keys, ends ? [session.key] : [])
      return told
    }
    case "DeleteUser": {
      const userId = users[operation.user]
      const except = operation.except === undefined ? undefined : model.sessions.at(-1 - operation.except)
      const { keys } = yield* storage.delete({ _tag: "User", userId, except: except?.key })
      const ended = model.ofUser(userId).filter((session) => session !== except)
      for (const session of ended) session.ended = true
      assert.deepStrictEqual(sorted(keys), sorted(ended.map(({ key }) => key)))
      if (except === undefined && ended.length > 0) told.push(userId)
      else ended.forEach(({ key }) => tell("Deleted undefined")(key))
      return told
    }
    case "DeleteAttribute": {
      const userId = users[operation.user]
      const { changed } = yield* storage.deleteAttribute(userId, operation.name)
      const having = model.ofUser(userId).filter((session) => operation.name in model.attributesOf(session))
      for (const session of having) {
        session.version++
        const { [operation.name]: _, ...kept } = session.attributes
        session.attributes = kept
        tell(`Updated ${session.version}`)(session.key)
      }
      assert.deepStrictEqual(
        sorted(changed.map(({ key, version }) => `${key} ${version}`)),
        sorted(having.map(({ key, version }) => `${key} ${version}`))
      )
      return told
    }
    case "Sweep": {
      const outcome = yield* storage.sweep({ after: undefined, limit: 1_000 })
      assert(outcome._tag === "Swept")
      const expired = model.sessions.filter((session) => !session.ended && !model.isLive(session))
      for (const session of expired) {
        session.ended = true
        tell("Expired undefined")(session.key)
      }
      assert.deepStrictEqual(sorted(outcome.expired.map(({ key }) => key)), sorted(expired.map(({ key }) => key)))
      for (const session of model.sessions.filter(model.isLive)) {
        const kept = Object.entries(session.attributes).filter(([, { until }]) => model.now < until)
        if (kept.length === Object.keys(session.attributes).length) continue
        session.attributes = Object.fromEntries(kept)
        session.version++
        tell(`Updated ${session.version}`)(session.key)
      }
      return told
    }
    case "Wait": {
      yield* TestClock.adjust(operation.time)
      model.now += operation.time
      return told
    }
  }
})

const visible = (row: SessionRow, now: number) => ({
  key: row.key,
  userId: row.userId,
  version: row.version,
  used: row.lastAccessedAt,
  end: row.expiresAt,
  idle: row.idleTimeout ?? Number.POSITIVE_INFINITY,
  attributes: Object.fromEntries(
    Array.from(row.attributes)
      .filter(([, { expiresAt }]) => expiresAt === undefined || now < expiresAt)
      .map(([name, { version }]) => [name, version])
  )
})

const byKey = (left: { readonly key: string }, right: { readonly key: string }) => (left.key < right.key ? -1 : 1)

/** What can be seen from outside is the model's. */
const compare = Effect.fnUntraced(function* (model: Model) {
  const storage = yield* SessionStorage
  const { now, rows } = yield* storage.load(model.sessions.map(({ key }) => key))
  assert.strictEqual(now, model.now)
  const expected = model.sessions.filter(model.isLive).map((session) => ({
    key: session.key,
    userId: session.userId,
    version: session.version,
    used: session.used,
    end: session.end,
    idle: session.idle,
    attributes: model.attributesOf(session)
  }))
  assert.deepStrictEqual(rows.map((row) => visible(row, now)).sort(byKey), expected.sort(byKey))
  for (const userId of users) {
    const list = yield* storage.list(userId)
    assert.deepStrictEqual(
      list.rows.map(({ key }) => key),
      model
        .ofUser(userId)
        .toReversed()
        .map(({ key }) => key)
    )
  }
})

const nodes = Layer.mergeAll(MemoryStorage.layer, MemoryNotifier.layer).pipe(Layer.provide(MemoryDatabase.layer))

describe("MemoryStorage", () => {
  it.effect.prop(
    "behaves as the model, whatever is done in whatever order",
    [Schema.Array(Operation)],
    ([operations]) =>
      Effect.gen(function* () {
        const model = new Model()
        // Time goes on from run to run.
        model.now = (yield* (yield* SessionStorage).load([])).now
        for (const operation of operations) {
          const { notices, result: told } = yield* observed(step(model, operation))
          const heard = notices.flatMap((notice): ReadonlyArray<string> => {
            if (notice._tag === "User") return [notice.userId]
            return notice._tag === "Changes" ? notice.changes.map((c) => `${c.key} ${c.kind} ${c.version}`) : []
          })
          assert.deepStrictEqual(sorted(heard), sorted(told))
          yield* compare(model)
        }
      }).pipe(Effect.provide(nodes)),
    { arbitrary: { runs: 300, size: 80 }, timeout: 60_000 }
  )
})
