/** Sessions that are created together: as if one after the other, and none is another one's trouble. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SessionStoreUnavailable } from "../../SessionError.ts"
import { GroupId, type SessionKey, UserId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { CreateOutcome, CreateRequest, SessionLimit, SessionRow } from "../../SessionStorage.ts"
import {
  attribute,
  changesOf,
  created,
  createRequest,
  hour,
  newUser,
  observed,
  stands,
  tagged,
  uniqueName,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

export const evict = (max: number): SessionLimit => ({ max, onLimit: "evictOldest" })
export const reject = (max: number): SessionLimit => ({ max, onLimit: "reject" })
const unbounded = { concurrency: "unbounded" } as const
export const times = <A>(count: number, f: (index: number) => A): Array<A> =>
  Array.from({ length: count }, (_, index) => f(index))

/** Creates together what can be, and the rest one after the other, as the store does. */
export const createdTogether = Effect.fnUntraced(function* (requests: ReadonlyArray<CreateRequest>) {
  const storage = yield* SessionStorage
  const { outcomes } = yield* storage.tryCreate(requests)
  assert.lengthOf(outcomes, requests.length)
  const exits: Array<Exit.Exit<CreateOutcome, SessionStoreUnavailable>> = []
  for (const [index, request] of requests.entries()) {
    const outcome = outcomes[index] ?? assert.fail("no outcome")
    exits.push(outcome._tag === "Undone" ? yield* Effect.exit(storage.create(request)) : Exit.succeed(outcome))
  }
  return exits
})

/** The same where nothing may fail. */
export const allCreated = Effect.fnUntraced(function* (requests: ReadonlyArray<CreateRequest>) {
  return yield* Effect.all(yield* createdTogether(requests))
})

/** Which sessions they are, in no order. */
export const keysOf = (rows: ReadonlyArray<{ readonly key: SessionKey }>) => new Set(rows.map(({ key }) => key))

/** Sessions of a new user, each younger than the one before. */
export const userWith = Effect.fnUntraced(function* (passed: Harness["passed"], count: number) {
  const userId = newUser()
  const rows: Array<SessionRow> = []
  for (let index = 0; index < count; index++) {
    const row = yield* created({ userId })
    rows.push(row)
    yield* passed(row.createdAt)
  }
  return { userId, rows }
})

/** Registers the tests. */
export const storageLogins = ({ it, passed }: Harness): void => {
  it.effect("sessions of users and guests are created at once, and stand as answered", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const requests = [
        createRequest(),
        createRequest({ userId: newUser(), idleTimeout: 1_234, attributes: [attribute("cart", '["pen"]')] }),
        createRequest({ groupId: GroupId.make(uniqueName()), lifetime: 2 * hour }),
        createRequest({
          userId: newUser(),
          groupId: GroupId.make(uniqueName()),
          attributes: [
            attribute("a", '"1"', 5_000),
            attribute("b", "2"),
            attribute("c", "3", hour),
            attribute("b", "4")
          ]
        }),
        createRequest({ attributes: [attribute("a", "null", 1_000)] }),
        createRequest({ userId: newUser(), lifetime: Infinity, limit: evict(Infinity) })
      ]
      const { now, outcomes } = yield* storage.tryCreate(requests)
      const rows = outcomes.map((outcome) => tagged(outcome, "Created").row)
      expect(rows.map(({ key }) => key)).toEqual(requests.map(({ key }) => key))
      for (const [index, row] of rows.entries()) {
        expect(row).toEqual(yield* stands(row.key))
        expect(row).toMatchObject({ version: 1n, createdAt: now, lastAccessedAt: now, userId: requests[index]?.userId })
      }
      expect(rows[3]?.attributes).toEqual(
        new Map([
          ["a", { value: '"1"', version: 1n, expiresAt: now + 5_000 }],
          ["b", { value: "4", version: 1n, expiresAt: undefined }],
          ["c", { value: "3", version: 1n, expiresAt: now + hour }]
        ])
      )
    })
  )

  it.effect("a session that was created along with others is changed, and its size counted, like any other", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const requests = times(3, () => createRequest({ attributes: [attribute("a", '"ä"'), attribute("b", "1", hour)] }))
      const { outcomes } = yield* storage.tryCreate(requests)
      for (const outcome of outcomes) {
        const { row } = tagged(outcome, "Created")
        // a: 1 + 4 bytes, b: 1 + 1, c: 1 + 1
        expect(yield* written(row, { set: [attribute("c")], maxBytes: 8 })).toEqual({ _tag: "TooLarge", bytes: 9 })
        tagged(yield* written(row, { set: [attribute("c")], maxBytes: 9 }), "Accepted")
      }
    })
  )

  it.effect("an empty batch, and one of 200, are answered", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      expect((yield* storage.tryCreate([])).outcomes).toEqual([])
      const { outcomes } = yield* storage.tryCreate(times(200, () => createRequest({ userId: newUser() })))
      const keys = outcomes.map((outcome) => tagged(outcome, "Created").row.key)
      expect((yield* storage.load(keys)).rows).toHaveLength(200)
    })
  )

  it.effect("names of any kind are taken as they are", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const texts = ["NULL", 'a "quoted", one', "back\\slash", "{curly}", "comma,", " ", "null", "🐘 ä", "';--", "\n"]
      const requests = texts.map((text) =>
        createRequest({ userId: UserId.make(uniqueName(text)), groupId: GroupId.make(text) })
      )
      const plain = createRequest({ userId: UserId.make("NULL"), limit: evict(1) })
      for (const request of [...requests, plain]) {
        // Of a user with this name there may be sessions.
        assert(request.userId !== undefined)
        yield* storage.delete({ _tag: "User", userId: request.userId, except: undefined })
      }
      const { outcomes } = yield* storage.tryCreate([...requests, plain])
      for (const [index, request] of [...requests, plain].entries()) {
        const { row } = tagged(outcomes[index] ?? assert.fail("no outcome"), "Created")
        expect(row).toMatchObject({ userId: request.userId, groupId: request.groupId })
        assert(request.userId !== undefined)
        expect((yield* storage.list(request.userId)).rows).toEqual([row])
      }
    })
  )

  it.effect("a key that exists is refused, ends nobody's session, and is nobody else's trouble", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const taken = yield* created({ attributes: [attribute("cart")] })
      const full = yield* userWith(passed, 2)
      const other = yield* userWith(passed, 2)
      const requests = [
        createRequest({ userId: newUser() }),
        createRequest({ key: taken.key, userId: full.userId, limit: evict(2) }),
        createRequest({ userId: other.userId, limit: evict(2) }),
        createRequest()
      ]
      const [before, refused, ...after] = yield* createdTogether(requests)
      assert(refused !== undefined && before !== undefined)
      expect(yield* Effect.flip(refused)).toMatchObject({ outcome: "NotApplied", reason: "DatabaseError" })
      const outcomes = yield* Effect.all([before, ...after])
      expect(outcomes.map((outcome) => tagged(outcome, "Created").evicted)).toEqual([
        [],
        [{ key: other.rows[0]?.key, userId: other.userId }],
        []
      ])
      expect(yield* stands(taken.key)).toEqual(taken)
      expect(keysOf((yield* storage.list(full.userId)).rows)).toEqual(keysOf(full.rows))
    })
  )

  it.effect("of two with the same key one is created", () =>
    Effect.gen(function* () {
      const first = createRequest({ userId: newUser() })
      const second = createRequest({ key: first.key })
      const bystander = createRequest()
      const exits = yield* createdTogether([first, bystander, second])
      expect(exits.map((exit) => exit._tag)).toEqual(["Success", "Success", "Failure"])
      expect(yield* stands(first.key)).toMatchObject({ userId: first.userId, secretHash: first.secretHash })
      yield* stands(bystander.key)
    })
  )

  it.effect("evictions are announced, each once, creations and refusals are not", () =>
    Effect.gen(function* () {
      const full = yield* Effect.all(
        times(200, () => userWith(passed, 1)),
        unbounded
      )
      const strict = yield* userWith(passed, 1)
      const requests = [
        ...full.map(({ userId }) => createRequest({ userId, limit: evict(1) })),
        createRequest({ userId: strict.userId, limit: reject(1) }),
        createRequest({ userId: newUser() })
      ]
      const { notices, result } = yield* observed(allCreated(requests))
      expect(result.map(({ _tag }) => _tag)).toEqual([...times(200, () => "Created"), "TooManySessions", "Created"])
      for (const { rows } of full) {
        const key = rows[0]?.key ?? assert.fail("no session")
        expect(changesOf(notices, key)).toEqual([{ key, kind: "Evicted", version: undefined }])
      }
      for (const { key } of [...requests, ...strict.rows]) expect(changesOf(notices, key)).toEqual([])
    })
  )
}
