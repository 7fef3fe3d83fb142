/** What holds however many callers race: versions, limits, ends. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { SessionNotifier } from "../../SessionNotifier.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import type { SessionRow } from "../../SessionStorage.ts"
import {
  attribute,
  changesOf,
  created,
  createRequest,
  drained,
  hour,
  loaded,
  newUser,
  stands,
  sweptAll,
  tagged,
  writeRequest,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"
import { loginOf, rotated, rotateRequest } from "./StorageRotation.ts"

const unbounded = { concurrency: "unbounded" } as const
const times = <A>(count: number, f: (index: number) => A): Array<A> =>
  Array.from({ length: count }, (_, index) => f(index))

/** Registers the tests. */
export const storageConcurrency = ({ it }: Harness): void => {
  it.effect("of 16 changes of one version exactly one is accepted", () =>
    Effect.gen(function* () {
      let row = yield* created()
      for (let round = 0; round < 5; round++) {
        const { version } = row
        const outcomes = yield* Effect.all(
          times(16, (index) => written(row, { expectedVersion: version, set: [attribute("winner", String(index))] })),
          unbounded
        )
        const winners = outcomes.flatMap((outcome, index) => (outcome._tag === "Accepted" ? [index] : []))
        expect(winners).toHaveLength(1)
        row = yield* stands(row.key)
        expect(row.version).toBe(version + 1n)
        expect(row.attributes.get("winner")?.value).toBe(String(winners[0]))
        for (const outcome of outcomes) {
          if (outcome._tag !== "Accepted") expect(tagged(outcome, "VersionMismatch").row).toEqual(row)
        }
      }
    })
  )

  it.effect("counting with attribute versions loses no count", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("count", "0")] })
      const increment = Effect.gen(function* () {
        for (;;) {
          const { attributes } = yield* stands(row.key)
          const count = attributes.get("count")
          assert(count !== undefined)
          const outcome = yield* written(row, {
            expectedAttributes: [["count", count.version]],
            set: [attribute("count", String(Number(count.value) + 1))]
          })
          if (outcome._tag === "Accepted") return outcome.version
        }
      })
      const versions = yield* Effect.all(
        times(32, () => increment),
        { concurrency: 8 }
      )
      const after = yield* stands(row.key)
      expect(after.attributes.get("count")).toEqual({ value: "32", version: 33n, expiresAt: undefined })
      expect(new Set(versions).size).toBe(32)
    })
  )

  it.effect("changes of different attributes all happen, each at a version of its own", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const outcomes = yield* Effect.all(
        times(16, (index) => written(row, { set: [attribute(`a${index}`)] })),
        unbounded
      )
      const versions = outcomes.map((outcome) => tagged(outcome, "Accepted").version)
      expect(new Set(versions)).toEqual(new Set(times(16, (index) => BigInt(index + 2))))
      const { attributes, version } = yield* stands(row.key)
      expect(version).toBe(17n)
      expect(times(16, (index) => attributes.get(`a${index}`)?.version)).toEqual(versions)
    })
  )

  const logins: ReadonlyArray<[name: string, start: Effect.Effect<SessionRow | undefined, unknown, SessionStorage>]> = [
    ["creations", Effect.succeed(undefined)],
    ["logins of guests", created()]
  ]
  for (const [name, start] of logins) {
    it.effect(`20 concurrent ${name} never leave a user with more than 5 sessions, and evict each once`, () =>
      Effect.gen(function* () {
        const storage = yield* SessionStorage
        const userId = newUser()
        const limit = { max: 5, onLimit: "evictOldest" } as const
        const guests = yield* Effect.all(times(20, () => start))
        let done = false
        const watch = Effect.gen(function* () {
          for (;;) {
            assert.isAtMost((yield* storage.list(userId)).rows.length, 5)
            if (done) return
            yield* Effect.yieldNow
          }
        })
        const login = (guest: SessionRow | undefined) =>
          guest === undefined
            ? Effect.map(storage.create(createRequest({ userId, limit })), (outcome) => tagged(outcome, "Created"))
            : rotated(guest, { login: loginOf(userId, limit) })
        const race = Effect.all(guests.map(login), unbounded).pipe(
          Effect.ensuring(Effect.sync(() => void (done = true)))
        )
        const [outcomes] = yield* Effect.all([race, watch], unbounded)
        const { rows } = yield* storage.list(userId)
        expect(rows).toHaveLength(5)
        const ends = [
          ...outcomes.flatMap(({ evicted }) => evicted.map(({ key }) => key)),
          ...rows.map(({ key }) => key)
        ]
        expect(ends.toSorted()).toEqual(outcomes.map(({ row }) => row.key).toSorted())
      })
    )
  }

  it.effect("of 20 concurrent creations with a limit of 5 that rejects, 5 succeed", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const limit = { max: 5, onLimit: "reject" } as const
      const outcomes = yield* Effect.all(
        times(20, () => storage.create(createRequest({ userId, limit }))),
        unbounded
      )
      expect(outcomes.filter(({ _tag }) => _tag === "Created")).toHaveLength(5)
      expect(outcomes.filter(({ _tag }) => _tag === "TooManySessions")).toHaveLength(15)
      expect((yield* storage.list(userId)).rows).toHaveLength(5)
    })
  )

  it.effect("concurrent deletions report each session once", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      const rows = yield* Effect.all(
        times(10, () => created({ userId })),
        unbounded
      )
      const answers = yield* Effect.all(
        [
          ...times(4, () => storage.delete({ _tag: "User", userId, except: undefined })),
          ...rows.map(({ key }) => storage.delete({ _tag: "Session", key, proof: undefined })),
          ...times(2, () => storage.delete({ _tag: "User", userId, except: rows[3]?.key })),
          Effect.map(
            storage.create(createRequest({ userId, limit: { max: 1, onLimit: "evictOldest" } })),
            (outcome) => ({
              keys: tagged(outcome, "Created").evicted.map(({ key }) => key)
            })
          )
        ],
        unbounded
      )
      const reported = answers.flatMap(({ keys }) => keys)
      expect(new Set(reported).size).toBe(reported.length)
      expect((yield* storage.load(rows.map(({ key }) => key))).rows).toEqual([])
    })
  )

  it.effect("a session that is ended while others use it stays ended", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const userId = newUser()
      for (let round = 0; round < 10; round++) {
        const row = yield* created({ userId, idleTimeout: hour, attributes: [attribute("cart")] })
        yield* Effect.all(
          [
            written(row, { set: [attribute("cart", "2")], lifetime: 2 * hour }),
            storage.touch([{ key: row.key, age: 0 }]),
            storage.rotate(rotateRequest(row, { grace: hour })),
            storage.deleteAttribute(userId, "cart"),
            storage.delete(
              round % 2 === 0
                ? { _tag: "User", userId, except: undefined }
                : { _tag: "Session", key: row.key, proof: undefined }
            ),
            written(row, { set: [attribute("cart", "3")] }),
            storage.touch([{ key: row.key, age: 0 }]),
            storage.rotate(rotateRequest(row, { grace: hour }))
          ],
          unbounded
        )
        expect(yield* loaded(row.key)).toBeUndefined()
        expect((yield* storage.list(userId)).rows).toEqual([])
        const { expired } = yield* sweptAll(1_000)
        assert.isFalse(
          expired.some(({ key }) => key === row.key),
          "it ended once already"
        )
      }
    })
  )

  it.effect("a change whose caller stops waiting happens with its notice, or not at all", () =>
    Effect.gen(function* () {
      const notifier = yield* SessionNotifier
      const row = yield* created()
      const connection = yield* notifier.connect
      for (let round = 0; round < 20; round++) {
        const caller = yield* Effect.forkChild(written(row), { startImmediately: true })
        for (let step = 0; step < round % 5; step++) yield* Effect.yieldNow
        yield* Fiber.interrupt(caller)
      }
      const { version } = tagged(yield* written(row), "Accepted")
      const announced = changesOf(yield* drained(connection), row.key).map((change) => change.version ?? 0n)
      // One that was given up may still come after the last one that was awaited.
      expect(announced.filter((other) => other <= version)).toEqual(
        times(Number(version) - 1, (index) => BigInt(index + 2))
      )
    })
  )

  it.effect("of concurrent rotations with one secret and no grace exactly one succeeds", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created({ userId: newUser() })
      const outcomes = yield* Effect.all(
        times(8, () => storage.rotate(rotateRequest(row))),
        unbounded
      )
      const winners = outcomes.flatMap((outcome) => (outcome._tag === "Rotated" ? [outcome.row] : []))
      expect(winners).toHaveLength(1)
      expect(yield* stands(row.key)).toEqual(winners[0])
    })
  )

  it.effect("logins of one guest as several users leave one user with the session", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const guest = yield* created()
      const users = times(6, () => newUser())
      const outcomes = yield* Effect.all(
        users.map((userId) => storage.rotate(rotateRequest(guest, { login: loginOf(userId) }))),
        unbounded
      )
      expect(outcomes.filter(({ _tag }) => _tag === "Rotated")).toHaveLength(1)
      const lists = yield* Effect.all(users.map((userId) => storage.list(userId)))
      expect(lists.flatMap(({ rows }) => rows)).toEqual([yield* stands(guest.key)])
    })
  )

  it.effect(
    "batches over the same sessions in any order, with deletions among them, do not deadlock",
    () =>
      Effect.gen(function* () {
        const storage = yield* SessionStorage
        const userId = newUser()
        const rows = yield* Effect.all(
          times(20, () => created({ userId, attributes: [attribute("cart")] })),
          unbounded
        )
        const shuffled = (seed: number) =>
          rows.toSorted((a, b) => ((a.key.charCodeAt(seed) * 7) % 13) - ((b.key.charCodeAt(seed) * 7) % 13))
        const answers = yield* Effect.all(
          times(12, (index) => storage.write(shuffled(index).map((row) => writeRequest(row)))),
          unbounded
        )
        for (const { outcomes } of answers) for (const outcome of outcomes) tagged(outcome, "Accepted")
        const { rows: after } = yield* storage.load(rows.map(({ key }) => key))
        expect(after.every(({ version }) => version === 13n)).toBe(true)
        yield* Effect.all(
          [
            ...times(6, (index) => storage.write(shuffled(index).map((row) => writeRequest(row)))),
            ...times(6, (index) => storage.touch(shuffled(index).map(({ key }) => ({ key, age: 0 })))),
            ...rows.slice(0, 6).map((row) => storage.rotate(rotateRequest(row, { login: loginOf(newUser()) }))),
            storage.deleteAttribute(userId, "cart"),
            sweptAll(7),
            storage.delete({ _tag: "User", userId, except: undefined }),
            created({ userId, limit: { max: 5, onLimit: "evictOldest" } })
          ],
          unbounded
        )
      }),
    60_000
  )
}
