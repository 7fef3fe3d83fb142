/** What a storage does with changes: versions, checks, batches. */
import { assert, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { GroupId } from "../../SessionId.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import {
  attribute,
  created,
  createRequest,
  credential,
  loaded,
  newHash,
  only,
  stands,
  tagged,
  uniqueName,
  writeRequest,
  written
} from "./Harness.ts"
import type { Harness } from "./Harness.ts"

/** Registers the tests. */
export const storageWriting = ({ it }: Harness): void => {
  it.effect("an accepted change increments the version and stamps what it writes", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("kept"), attribute("changed"), attribute("removed")] })
      const outcome = tagged(
        yield* written(row, {
          set: [attribute("changed", "2"), attribute("added", "3")],
          remove: ["removed", "never"]
        }),
        "Accepted"
      )
      expect(outcome.version).toBe(2n)
      const changed = yield* stands(row.key)
      expect(changed.version).toBe(2n)
      expect(changed.attributes).toEqual(
        new Map([
          ["kept", { value: "1", version: 1n, expiresAt: undefined }],
          ["changed", { value: "2", version: 2n, expiresAt: undefined }],
          ["added", { value: "3", version: 2n, expiresAt: undefined }]
        ])
      )
    })
  )

  it.effect("an empty change is a change: it increments the version", () =>
    Effect.gen(function* () {
      const row = yield* created()
      expect(tagged(yield* written(row), "Accepted").version).toBe(2n)
      expect((yield* stands(row.key)).version).toBe(2n)
    })
  )

  it.effect("a name that is both set and removed is set", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("cart")] })
      tagged(yield* written(row, { set: [attribute("cart", "2")], remove: ["cart"] }), "Accepted")
      expect((yield* stands(row.key)).attributes.get("cart")).toEqual({ value: "2", version: 2n, expiresAt: undefined })
    })
  )

  it.effect("a session that is unknown, or proved by the wrong secret, is gone", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const row = yield* created()
      tagged(yield* written({ ...row, key: credential().key }, { set: [attribute("cart")] }), "Gone")
      tagged(yield* written(row, { proof: newHash(), set: [attribute("cart")] }), "Gone")
      expect(yield* stands(row.key)).toEqual(row)
      yield* storage.delete({ _tag: "Session", key: row.key, proof: undefined })
      tagged(yield* written(row, { set: [attribute("cart")] }), "Gone")
      expect(yield* loaded(row.key)).toBeUndefined()
    })
  )

  it.effect("an expected version is required exactly, and a mismatch shows what stands", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("cart")] })
      tagged(yield* written(row, { expectedVersion: 1n, set: [attribute("cart", "2")] }), "Accepted")
      const current = yield* stands(row.key)
      for (const expectedVersion of [0n, 1n, 3n, 9_007_199_254_740_993n]) {
        const outcome = tagged(
          yield* written(row, { expectedVersion, set: [attribute("cart", "3")] }),
          "VersionMismatch"
        )
        expect(outcome.row).toEqual(current)
      }
      expect(yield* stands(row.key)).toEqual(current)
      expect(tagged(yield* written(row, { expectedVersion: 2n }), "Accepted").version).toBe(3n)
    })
  )

  it.effect("expected attribute versions are required exactly; 0 means absent", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("a"), attribute("b")] })
      tagged(yield* written(row, { set: [attribute("b", "2")] }), "Accepted")
      const current = yield* stands(row.key)
      const refused: ReadonlyArray<[name: string, expected: bigint, actual: bigint]> = [
        ["a", 2n, 1n],
        ["a", 0n, 1n],
        ["b", 1n, 2n],
        ["b", 0n, 2n],
        ["absent", 1n, 0n],
        ["__proto__", 1n, 0n]
      ]
      for (const [name, expected, actual] of refused) {
        const outcome = tagged(
          yield* written(row, {
            expectedAttributes: [
              ["a", 1n],
              [name, expected]
            ],
            set: [attribute("c")]
          }),
          "AttributeVersionMismatch"
        )
        expect(outcome).toMatchObject({ attribute: name, actual })
        expect(outcome.row).toEqual(current)
      }
      expect(yield* stands(row.key)).toEqual(current)
      const expectedAttributes = [
        ["a", 1n],
        ["b", 2n],
        ["absent", 0n],
        ["constructor", 0n]
      ] as const
      tagged(yield* written(row, { expectedAttributes, set: [attribute("absent")] }), "Accepted")
    })
  )

  it.effect("what is checked need not be what is written", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("read"), attribute("written")] })
      tagged(yield* written(row, { set: [attribute("read", "2")] }), "Accepted")
      const outcome = yield* written(row, { expectedAttributes: [["read", 1n]], set: [attribute("written", "2")] })
      expect(tagged(outcome, "AttributeVersionMismatch")).toMatchObject({ attribute: "read", actual: 2n })
    })
  )

  it.effect("an attribute that was removed and added again never has a version that it had", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("cart", '"a"')] })
      const seen = new Set([1n])
      for (let round = 0; round < 5; round++) {
        tagged(yield* written(row, { remove: ["cart"] }), "Accepted")
        tagged(yield* written(row, { set: [attribute("cart", '"a"')] }), "Accepted")
        const version = (yield* stands(row.key)).attributes.get("cart")?.version
        assert(version !== undefined)
        assert.isFalse(seen.has(version))
        seen.add(version)
        const stale = yield* written(row, { expectedAttributes: [["cart", 1n]], set: [attribute("cart", '"b"')] })
        expect(tagged(stale, "AttributeVersionMismatch").actual).toBe(version)
      }
    })
  )

  it.effect("a session enters a group, stays in it, and leaves it", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const groupId = GroupId.make(uniqueName("group"))
      const row = yield* created()
      const entered = tagged(yield* written(row, { groupId }), "Accepted")
      expect(entered.row?.groupId).toBe(groupId)
      tagged(yield* written(row, { set: [attribute("cart")] }), "Accepted")
      expect((yield* stands(row.key)).groupId).toBe(groupId)
      const left = tagged(yield* written(row, { groupId: null }), "Accepted")
      assert(left.row !== undefined)
      expect(left.row.groupId).toBeUndefined()
      expect((yield* storage.delete({ _tag: "Group", groupId, except: undefined })).keys).toEqual([])
      expect(yield* stands(row.key)).toEqual(left.row)
    })
  )

  it.effect("the answer carries the whole row, unless the caller can compute it", () =>
    Effect.gen(function* () {
      const row = yield* created({ attributes: [attribute("a")] })
      const current = tagged(yield* written(row, { set: [attribute("b")] }), "Accepted")
      if (current.row !== undefined) expect(current.row).toEqual(yield* stands(row.key))
      for (const baseVersion of [0n, 1n, 7n]) {
        const stale = tagged(yield* written(row, { baseVersion, set: [attribute("c")] }), "Accepted")
        assert(stale.row !== undefined, "the base was not current")
        expect(stale.row).toEqual(yield* stands(row.key))
        expect(stale.row.version).toBe(stale.version)
      }
      for (const change of [
        { lifetime: 50_000 },
        { idleTimeout: 50_000 },
        { idleTimeout: null },
        { groupId: GroupId.make("group") },
        { groupId: null }
      ]) {
        const base = yield* stands(row.key)
        const outcome = tagged(yield* written(base, change), "Accepted")
        assert(outcome.row !== undefined, `${JSON.stringify(change)} cannot be computed`)
        expect(outcome.row).toEqual(yield* stands(row.key))
      }
    })
  )

  it.effect("attribute lifetimes count from the time in the outcome", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const { now } = tagged(yield* written(row, { set: [attribute("elevated", "true", 45_678)] }), "Accepted")
      const expiresAt = (yield* stands(row.key)).attributes.get("elevated")?.expiresAt
      assert(expiresAt !== undefined)
      // A microsecond for databases that count in them.
      assert.isAtMost(Math.abs(expiresAt - (now + 45_678)), 0.002)
    })
  )

  it.effect("in a batch each change is judged by itself, and answered in its place", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all(Array.from({ length: 6 }, () => created({ attributes: [attribute("cart")] })))
      // Against the order of keys, in which a database is likely to work.
      const [a, b, c, d, e, f] = rows.toSorted((left, right) => (left.key < right.key ? 1 : -1))
      assert(
        a !== undefined && b !== undefined && c !== undefined && d !== undefined && e !== undefined && f !== undefined
      )
      const set = [attribute("cart", "2")]
      const { outcomes } = yield* storage.write([
        writeRequest(a, { set }),
        writeRequest(b, { set, expectedVersion: 7n }),
        writeRequest(c, { set, proof: newHash() }),
        writeRequest(d, { set, expectedAttributes: [["cart", 7n]] }),
        writeRequest({ ...e, key: credential().key }, { set }),
        writeRequest(f, { set, expectedVersion: 1n, expectedAttributes: [["cart", 1n]] }),
        writeRequest(e, { set, maxBytes: 4 })
      ])
      expect(outcomes.map(({ _tag }) => _tag)).toEqual([
        "Accepted",
        "VersionMismatch",
        "Gone",
        "AttributeVersionMismatch",
        "Gone",
        "Accepted",
        "TooLarge"
      ])
      for (const row of [b, c, d, e]) expect(yield* stands(row.key)).toEqual(row)
      for (const row of [a, f]) expect((yield* stands(row.key)).attributes.get("cart")?.value).toBe("2")
    })
  )

  it.effect("where nothing is locked, a batch that must not wait is answered as one that may", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const outcomes = yield* Effect.forEach([storage.write, storage.tryWrite], (write) =>
        Effect.gen(function* () {
          const [a, b, c, e] = yield* Effect.all(
            Array.from({ length: 4 }, () => created({ attributes: [attribute("cart")] }))
          )
          assert(a !== undefined && b !== undefined && c !== undefined && e !== undefined)
          const set = [attribute("cart", "2")]
          const answer = yield* write([
            writeRequest(e, { set }),
            writeRequest(a, { set }),
            writeRequest(b, { set, expectedVersion: 7n }),
            writeRequest(c, { set, proof: newHash() }),
            writeRequest({ ...e, key: credential().key }, { set })
          ])
          for (const row of [b, c]) expect(yield* stands(row.key)).toEqual(row)
          for (const row of [a, e]) expect((yield* stands(row.key)).attributes.get("cart")?.value).toBe("2")
          return answer.outcomes.map(({ _tag }) => _tag)
        })
      )
      expect(outcomes[0]).toEqual(["Accepted", "Accepted", "VersionMismatch", "Gone", "Gone"])
      expect(outcomes[1]).toEqual(outcomes[0])
      expect((yield* storage.tryWrite([])).outcomes).toEqual([])
    })
  )

  it.effect("an empty batch and a batch of one are batches", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const before = yield* storage.create(createRequest())
      const empty = yield* storage.write([])
      expect(empty.outcomes).toEqual([])
      assert.isAtLeast(empty.now, before.now)
      const row = yield* created()
      tagged(only((yield* storage.write([writeRequest(row)])).outcomes), "Accepted")
    })
  )

  it.effect("200 sessions are changed at once", () =>
    Effect.gen(function* () {
      const storage = yield* SessionStorage
      const rows = yield* Effect.all(
        Array.from({ length: 200 }, () => created()),
        { concurrency: 8 }
      )
      const { outcomes } = yield* storage.write(
        rows.map((row, index) => writeRequest(row, { baseVersion: 0n, set: [attribute("index", String(index))] }))
      )
      const changed = outcomes.map((outcome) => tagged(outcome, "Accepted").row)
      expect(changed.map((row) => row?.key)).toEqual(rows.map(({ key }) => key))
      expect(changed.map((row) => row?.attributes.get("index")?.value)).toEqual(rows.map((_, index) => String(index)))
      expect(changed.every((row) => row?.version === 2n)).toBe(true)
    })
  )
}
