/**
 * What the conformance suites share: sessions to try things on, a way to await a
 * point in the database's time, and a way to see which notices something caused.
 * It knows the two ports and no adapter.
 */
import type { Vitest } from "@effect/vitest"
import { assert, describe, layer as provideLayer } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { randomBase64Url } from "../../internal/Crypto.ts"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import { generate, hashOfToken, keyOfToken, UserId } from "../../SessionId.ts"
import type { GroupId, SecretHash, SessionKey } from "../../SessionId.ts"
import { SessionNotifier } from "../../SessionNotifier.ts"
import type { Change, Connection, Notice } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { AttributeWrite, CreateRequest, SessionLimit, SessionRow, WriteRequest } from "../../SessionStorage.ts"

/** Both ports, on the same database. */
export type Ports = SessionStorage | SessionNotifier

/** What a suite must know of an adapter. */
export interface ConformanceOptions<R, E> {
  /** Both ports on one database; built once for the suite. Other users of that database do not disturb. */
  readonly layer: Layer.Layer<Ports | R, E>
  /**
   * Moves the database's clock: given where that clock is Effect's, and the suite runs under `TestClock`. Without it
   * time is real, and the suite waits for the few milliseconds that it needs.
   */
  readonly advance?: ((duration: Duration.Input) => Effect.Effect<void>) | undefined
  /** For one test, in milliseconds; default: 30 000. */
  readonly timeout?: number | undefined
}

/** What the parts of a suite get. */
export interface Harness<R = never> {
  readonly it: Vitest.MethodsNonLive<Ports | R>
  /** Waits until the database's clock is beyond a point in time. */
  readonly passed: (time: number) => Effect.Effect<void, SessionStoreUnavailable, SessionStorage>
  /** By how many milliseconds two looks at the clock within one statement may differ. */
  readonly tolerance: number
}

/** One part of a suite: its title and what registers its tests. */
export type Part<R> = readonly [title: string, register: (harness: Harness<R>) => void]

/** Registers the parts of a suite for an adapter. */
export const register = <R, E>(
  name: string,
  { advance, layer, timeout = 30_000 }: ConformanceOptions<R, E>,
  parts: ReadonlyArray<Part<R>>
): void => {
  const passed: Harness["passed"] = Effect.fnUntraced(function* (time) {
    const storage = yield* SessionStorage
    for (;;) {
      const { now } = yield* storage.load([])
      if (now > time) return
      const missing = Math.ceil(time - now) + 1
      yield* advance === undefined ? Effect.sleep(Math.min(missing, 10)) : advance(missing)
    }
  })
  provideLayer(layer, { excludeTestServices: advance === undefined, timeout: 60_000 })(name, (it) => {
    for (const [title, part] of parts) {
      describe(`${name}: ${title}`, { timeout }, () => {
        part({ it, passed, tolerance: advance === undefined ? 50 : 0 })
      })
    }
  })
}

/** An hour, which no test takes. */
export const hour = 3_600_000

/** What a caller has of a session. */
export interface Credential {
  readonly key: SessionKey
  readonly hash: SecretHash
}

/** A new key and secret. */
export const credential = (): Credential => {
  const token = Redacted.value(generate())
  return { key: keyOfToken(token), hash: hashOfToken(token) }
}

/** A new secret for a session. */
export const newHash = (): SecretHash => credential().hash

/** A name that nobody else uses, optionally with characters of one's choice. */
export const uniqueName = (text = "name"): string => `${text} ${randomBase64Url(9)}`

/** A user whom no other test knows. */
export const newUser = (): UserId => UserId.make(uniqueName("user"))

/** No limit that a test reaches by accident. */
export const unlimited: SessionLimit = { max: 10_000, onLimit: "reject" }

/** An attribute to be stored. */
export const attribute = (name: string, value = "1", timeToLive?: number): AttributeWrite => ({
  name,
  value,
  timeToLive
})

/** A session of a guest, for an hour, unless said otherwise. */
export const createRequest = (overrides?: Partial<CreateRequest>): CreateRequest => {
  const { hash, key } = credential()
  return {
    key,
    secretHash: hash,
    userId: undefined,
    groupId: undefined,
    lifetime: hour,
    idleTimeout: undefined,
    attributes: [],
    limit: unlimited,
    ...overrides
  }
}

/** Creates a session that must not be refused. */
export const created = Effect.fnUntraced(function* (overrides?: Partial<CreateRequest>) {
  const storage = yield* SessionStorage
  return tagged(yield* storage.create(createRequest(overrides)), "Created").row
})

/** An unchecked change of a session with a current base, unless said otherwise. */
export const writeRequest = (row: SessionRow, overrides?: Partial<WriteRequest>): WriteRequest => ({
  key: row.key,
  proof: row.secretHash,
  baseVersion: row.version,
  baseAttributes: row.attributes,
  expectedVersion: undefined,
  expectedAttributes: [],
  set: [],
  remove: [],
  groupId: undefined,
  lifetime: undefined,
  idleTimeout: undefined,
  notify: true,
  maxBytes: 1_000_000,
  fence: undefined,
  ...overrides
})

/** Writes one change and answers its outcome: by `tryWrite`, as most are, and by `write` where somebody has locked the session. */
export const written = Effect.fnUntraced(function* (row: SessionRow, overrides?: Partial<WriteRequest>) {
  const storage = yield* SessionStorage
  const request = writeRequest(row, overrides)
  const tried = only((yield* storage.tryWrite([request])).outcomes)
  if (tried._tag === "Unavailable") return yield* tried.error
  if (tried._tag !== "Busy") return tried
  return only((yield* storage.write([request])).outcomes)
})

/** The session as it stands; `undefined`: not live. */
export const loaded = Effect.fnUntraced(function* (key: SessionKey) {
  const storage = yield* SessionStorage
  const { rows } = yield* storage.load([key])
  assert.isAtMost(rows.length, 1)
  return rows[0]
})

/** The session as it stands, which must be live. */
export const stands = Effect.fnUntraced(function* (key: SessionKey) {
  const row = yield* loaded(key)
  return row ?? assert.fail("the session is not live")
})

/** The one element. */
export const only = <A>(items: ReadonlyArray<A>): A => {
  assert.lengthOf(items, 1)
  return items[0] ?? assert.fail("nothing")
}

const hasTag = <A extends { readonly _tag: string }, T extends A["_tag"]>(
  outcome: A,
  tag: T
): outcome is Extract<A, { readonly _tag: T }> => outcome._tag === tag

/** The outcome, which must have this tag. */
export const tagged = <A extends { readonly _tag: string }, T extends A["_tag"]>(
  outcome: A,
  tag: T
): Extract<A, { readonly _tag: T }> => (hasTag(outcome, tag) ? outcome : assert.fail(`${outcome._tag} is not ${tag}`))

/** Everything that arrives on a connection up to a beat that is sent now, without that beat. */
export const drained = Effect.fnUntraced(function* (connection: Connection) {
  const notifier = yield* SessionNotifier
  const nonce = randomBase64Url(16)
  yield* notifier.beat(`conformance ${nonce}`, nonce)
  return yield* takenUntil(connection, nonce)
})

/** Everything that arrives on a connection up to a beat with this nonce, without it and what follows. */
export const takenUntil = Effect.fnUntraced(function* (connection: Connection, nonce: string) {
  const notices: Array<Notice> = []
  for (;;) {
    const taken = yield* connection.take
    assert.isNotEmpty(taken)
    for (const notice of taken) {
      if (notice._tag === "Beat" && notice.nonce === nonce) return notices
      notices.push(notice)
    }
  }
})

/** Runs an effect and answers its result with the notices that it caused. */
export const observed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const connection = yield* notifier.connect
      const result = yield* effect
      const notices = yield* drained(connection)
      return { result, notices }
    })
  )

/** What the notices say of one session, in order. */
export const changesOf = (notices: ReadonlyArray<Notice>, key: SessionKey): ReadonlyArray<Change> =>
  notices.flatMap((notice) => (notice._tag === "Changes" ? notice.changes.filter((change) => change.key === key) : []))

/** The users whom the notices name as a whole. */
export const usersOf = (notices: ReadonlyArray<Notice>): ReadonlyArray<UserId> =>
  notices.flatMap((notice) => (notice._tag === "User" ? [notice.userId] : []))

/** The groups that the notices name as a whole. */
export const groupsOf = (notices: ReadonlyArray<Notice>): ReadonlyArray<GroupId> =>
  notices.flatMap((notice) => (notice._tag === "Group" ? [notice.groupId] : []))

/** Whether the notices would make a node drop a session, by whatever name. */
export const concerns = (notices: ReadonlyArray<Notice>, row: SessionRow): boolean =>
  notices.some((notice) => notice._tag === "All") ||
  changesOf(notices, row.key).length > 0 ||
  usersOf(notices).some((userId) => userId === row.userId) ||
  groupsOf(notices).some((groupId) => groupId === row.groupId)

/** Sweeps from beginning to end, waiting for its turn, and answers all that was done. */
export const sweptAll = Effect.fnUntraced(function* (limit: number) {
  const storage = yield* SessionStorage
  const expired: Array<{ readonly key: SessionKey; readonly userId: UserId | undefined }> = []
  const purged: Array<{ readonly key: SessionKey; readonly version: bigint }> = []
  let after: SessionKey | undefined
  for (;;) {
    const outcome = yield* storage.sweep({ after, limit })
    if (outcome._tag === "Busy") {
      yield* Effect.yieldNow
      continue
    }
    expired.push(...outcome.expired)
    purged.push(...outcome.purged)
    if (outcome.next === undefined) return { expired, purged }
    assert.isTrue(after === undefined || outcome.next > after, "a sweep goes forward")
    after = outcome.next
  }
})
