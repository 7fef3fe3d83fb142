/** Most updates take a shorter statement than the rest: both come to the same, and each change has its own answer. */
import { type SessionRow, SessionStoreUnavailable, type TryOutcome, type WriteRequest } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Statements } from "../src/internal/Database.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as TryWrite from "../src/internal/TryWrite.ts"
import { aRotation, attribute, aWrite, created, Fixture, hour } from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

/** `tryWrite` whose statements are counted, and fail where the test says so. */
const observed = Effect.gen(function* () {
  const { names } = yield* Fixture
  const database = yield* DatabaseLive.make({ names, connection: { url: databaseUrl, maxConnections: 4 } })
  const counts = { short: 0, general: 0 }
  const control: { fail: "short" | "general" | undefined } = { fail: undefined }
  const write: Statements["write"] = (operation, sql, parameters) =>
    Effect.suspend(() => {
      const kind = parameters.length === 7 ? "short" : "general"
      counts[kind]++
      return control.fail === kind
        ? new SessionStoreUnavailable({ operation, reason: "Unreachable", outcome: "Unknown", detail: "cut" })
        : database.write(operation, sql, parameters)
    })
  return { counts, control, tryWrite: TryWrite.make({ ...database, write }) }
})

const tags = (outcomes: ReadonlyArray<TryOutcome>) => outcomes.map(({ _tag }) => _tag)

/** The row after a change that was accepted on its base. */
const after = (row: SessionRow, request: WriteRequest): SessionRow => {
  const version = row.version + 1n
  const attributes = new Map(row.attributes)
  for (const name of request.remove) attributes.delete(name)
  for (const { name, value } of request.set) attributes.set(name, { value, version, expiresAt: undefined })
  return { ...row, version, attributes }
}

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage.tryWrite", (it) => {
  it.effect("keeps values, versions and sizes exact, whatever is set and removed", () =>
    Effect.gen(function* () {
      const { query, storage } = yield* Fixture
      const { counts, tryWrite } = yield* observed
      let state = 1
      const random = (limit: number) => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
        return Math.floor((state / 2 ** 32) * limit)
      }
      const texts = ["", "a", "ünï", "🐘", 'q"u\\o', "\u0000", "\ud800", "x".repeat(3_000)]
      const names = ["a", "b", 'q"\\', "ünï", "v"]
      let rows: ReadonlyArray<SessionRow> = yield* Effect.forEach(times(8), () => created(storage))
      for (let round = 0; round < 60; round++) {
        const part = rows.filter(() => random(3) > 0)
        const requests = part.map((row) =>
          aWrite(row, {
            set: names.filter(() => random(3) === 0).map((name) => attribute(name, texts[random(texts.length)])),
            remove: names.filter(() => random(4) === 0),
            notify: random(2) === 0
          })
        )
        const { outcomes } = yield* tryWrite(requests)
        assert.deepStrictEqual(new Set(tags(outcomes)), new Set(part.length === 0 ? [] : ["Accepted"]))
        const changed = new Map(part.map((row, index) => [row.key, after(row, requests[index] ?? aWrite(row))]))
        rows = rows.map((row) => changed.get(row.key) ?? row)
      }
      assert.strictEqual(counts.general, 0)
      assert.isAbove(counts.short, 50)
      const { rows: stored } = yield* storage.load(rows.map(({ key }) => key))
      const escaped = (value: string) => value.replace("\ud800", "\\ud800")
      for (const row of rows) {
        const found = stored.find(({ key }) => key === row.key)
        assert.strictEqual(found?.version, row.version)
        assert.deepStrictEqual(
          new Map(found?.attributes),
          new Map([...row.attributes].map(([name, entry]) => [name, { ...entry, value: escaped(entry.value) }]))
        )
      }
      const wrong = yield* query(`select s.key from @sessions s where s.attribute_bytes <> (
        select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0) from jsonb_each(s.attributes) a)`)
      assert.deepStrictEqual(wrong, [])
    })
  )

  it.effect("leaves to the general statement what is not as the caller has it, and what only that one can do", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const { counts, tryWrite } = yield* observed
      const set = [attribute("a", 1)]
      const plain = yield* created(storage)
      const stale = yield* created(storage)
      yield* storage.write([aWrite(stale, { set: [attribute("b", 1)] })])
      const lasting = yield* created(storage, { attributes: [attribute("a", 1, hour)] })
      const large = yield* created(storage)
      const others = yield* Effect.forEach(times(4), () => created(storage))
      const [limited, forged, expected, lived] = others
      assert(limited !== undefined && forged !== undefined && expected !== undefined && lived !== undefined)
      const { outcomes } = yield* tryWrite([
        aWrite(plain, { set }),
        aWrite(stale, { set }),
        aWrite(lasting, { set }),
        aWrite(large, { set: [attribute("a", "x".repeat(100))], maxBytes: 50 }),
        aWrite(limited, { set, idleTimeout: hour }),
        aWrite({ ...forged, secretHash: plain.secretHash }, { set }),
        aWrite(expected, { set, expectedAttributes: [["a", 7n]] }),
        aWrite(lived, { set: [attribute("a", 1, hour)] })
      ])
      assert.deepStrictEqual(tags(outcomes), [
        "Accepted",
        "Accepted",
        "Accepted",
        "TooLarge",
        "Accepted",
        "Gone",
        "AttributeVersionMismatch",
        "Accepted"
      ])
      assert.isAbove(counts.general, 0)
      const [again] = (yield* storage.load([stale.key])).rows
      assert.deepStrictEqual([...(again?.attributes.keys() ?? [])].toSorted(), ["a", "b"])
      assert.strictEqual(again?.version, 3n)
    })
  )

  it.effect("leaves to the general statement what time has changed, though the version still stands", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const { tryWrite } = yield* observed
      const set = [attribute("a", 1)]
      const ended = yield* created(storage, { lifetime: 1 })
      const idle = yield* created(storage, { idleTimeout: 1 })
      const replaced = yield* created(storage)
      const rotated = yield* storage.rotate(aRotation(replaced, { grace: 1 }))
      assert(rotated._tag === "Rotated")
      const lapsed = yield* created(storage, { attributes: [attribute("b", 1, 1)] })
      const { now } = yield* storage.load([])
      yield* Effect.repeat(storage.load([]), { until: (answer) => answer.now > now + 1 })
      const requests = [
        aWrite(ended, { set }),
        aWrite(idle, { set }),
        aWrite({ ...rotated.row, secretHash: replaced.secretHash }, { set }),
        aWrite(lapsed, { set, expectedAttributes: [["b", 1n]] })
      ]
      const expected = ["Gone", "Gone", "Gone", "AttributeVersionMismatch"]
      const alone = yield* Effect.forEach(requests, (request) => tryWrite([request]))
      assert.deepStrictEqual(tags(alone.flatMap(({ outcomes }) => outcomes)), expected)
      assert.deepStrictEqual(tags((yield* tryWrite(requests)).outcomes), expected)
    })
  )

  it.effect("a statement that fails is the failure of its own changes only", () =>
    Effect.gen(function* () {
      const { storage } = yield* Fixture
      const { control, tryWrite } = yield* observed
      const rows = yield* Effect.forEach(times(2), () => created(storage))
      const [one, two] = rows
      assert(one !== undefined && two !== undefined)
      const requests = [aWrite(one), aWrite(two, { idleTimeout: hour })]
      control.fail = "general"
      assert.deepStrictEqual(tags((yield* tryWrite(requests)).outcomes), ["Accepted", "Unavailable"])
      control.fail = "short"
      const [current] = (yield* storage.load([one.key])).rows
      const again = yield* tryWrite([aWrite(current ?? one), aWrite(two, { idleTimeout: hour })])
      assert.deepStrictEqual(tags(again.outcomes), ["Unavailable", "Accepted"])
      // Where all fail there is nothing to answer.
      const error = yield* Effect.flip(tryWrite([aWrite(one)]))
      assert.strictEqual(error.outcome, "Unknown")
    })
  )

  it.effect("a change whose outcome is unknown is told so, although another statement was not sent at all", () =>
    Effect.gen(function* () {
      const { names, storage } = yield* Fixture
      const one = yield* created(storage)
      const two = yield* created(storage)
      const database = yield* DatabaseLive.make({ names, connection: { url: databaseUrl, maxConnections: 1 } })
      const tryWrite = TryWrite.make({
        ...database,
        write: (operation, _, parameters) =>
          parameters.length === 7
            ? new SessionStoreUnavailable({ operation, reason: "Timeout", outcome: "NotApplied", detail: "not sent" })
            : new SessionStoreUnavailable({ operation, reason: "Unreachable", outcome: "Unknown", detail: "cut" })
      })
      const { outcomes } = yield* tryWrite([aWrite(one), aWrite(two, { idleTimeout: hour })])
      assert.deepStrictEqual(
        outcomes.map((outcome) => outcome._tag === "Unavailable" && outcome.error.outcome),
        ["NotApplied", "Unknown"]
      )
    })
  )
})
