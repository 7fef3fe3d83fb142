/**
 * What is committed after the short statement's snapshot and before it has the row's lock: the statement sees the row as it was
 * until it locks it, and must decide by what it then has.
 */
import type { SessionRow, Storage, TryOutcome, WriteRequest } from "@effect-pg-session/core"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Statements } from "../src/internal/Database.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as TryWrite from "../src/internal/TryWrite.ts"
import {
  aRotation,
  aSession,
  attribute,
  aWrite,
  created,
  Fixture,
  hour,
  newUser,
  whileHeld
} from "./support/StorageFixture.ts"
import { databaseUrl } from "./support/TestDatabase.ts"

const gate = 7_226_011

/** `tryWrite` whose short statement, with its snapshot taken, waits before it locks a row until nobody holds the advisory lock {@link gate}. */
const paused = Effect.gen(function* () {
  const { names, query } = yield* Fixture
  const pause = names.qualified("pause")
  yield* query(`create or replace function ${pause}() returns boolean language plpgsql volatile as $$
    begin
      perform pg_advisory_lock_shared(${gate});
      return pg_advisory_unlock_shared(${gate});
    end $$`)
  const database = yield* DatabaseLive.make({ names, connection: { url: databaseUrl, maxConnections: 1 } })
  // A transaction sees only those backends wait that were there when it first looked.
  yield* database.read("connect", "select 1", [])
  const write: Statements["write"] = (operation, sql, parameters) =>
    Effect.suspend(() => {
      if (parameters.length !== 7) return database.write(operation, sql, parameters)
      const slow = sql.replace(ofTheRow, (condition) => `${condition} and ${pause}()`)
      assert.notStrictEqual(slow, sql)
      return database.write(operation, slow, parameters)
    })
  return TryWrite.make({ ...database, write })
})

/** Where the row is looked for, before it is locked. */
const ofTheRow = /where s\.key = (?:\$1|any\(array\(select unnest\(\$1::text\[\]\)\)\))/

interface Race {
  readonly name: string
  readonly meanwhile: (storage: Storage, row: SessionRow) => Effect.Effect<unknown, unknown>
  readonly request?: Partial<WriteRequest>
  readonly outcome: TryOutcome["_tag"]
  /** The version of the row after both, and its attributes; `undefined`: it is gone. */
  readonly version: bigint | undefined
  readonly attributes?: ReadonlyArray<string>
}

const set = [attribute("a", "new")]
const both = ["a", "b"]

const races: ReadonlyArray<Race> = [
  {
    name: "a touch",
    meanwhile: (storage, { key }) => storage.touch([{ key, age: 0 }]),
    outcome: "Accepted",
    version: 2n,
    attributes: ["a"]
  },
  {
    name: "a change of another attribute",
    meanwhile: (storage, row) => storage.write([aWrite(row, { set: [attribute("b", "other")] })]),
    request: { expectedAttributes: [["a", 1n]] },
    outcome: "Accepted",
    version: 3n,
    attributes: both
  },
  {
    name: "a change of the same attribute",
    meanwhile: (storage, row) => storage.write([aWrite(row, { set: [attribute("a", "other, and longer")] })]),
    request: { expectedAttributes: [["a", 1n]] },
    outcome: "AttributeVersionMismatch",
    version: 2n,
    attributes: ["a"]
  },
  {
    name: "a change of the same attribute that is not checked",
    meanwhile: (storage, row) => storage.write([aWrite(row, { set: [attribute("a", "other, and longer")] })]),
    outcome: "Accepted",
    version: 3n,
    attributes: ["a"]
  },
  {
    name: "a change where the whole session is checked",
    meanwhile: (storage, row) => storage.write([aWrite(row, { set: [attribute("b", "other")] })]),
    request: { expectedVersion: 1n },
    outcome: "VersionMismatch",
    version: 2n,
    attributes: both
  },
  {
    name: "a removal of what is set",
    meanwhile: (storage, row) => storage.write([aWrite(row, { remove: ["a"] })]),
    outcome: "Accepted",
    version: 3n,
    attributes: ["a"]
  },
  {
    name: "a rotation without grace",
    meanwhile: (storage, row) => storage.rotate(aRotation(row)),
    outcome: "Gone",
    version: 2n,
    attributes: ["a"]
  },
  {
    name: "a rotation with grace",
    meanwhile: (storage, row) => storage.rotate(aRotation(row, { grace: hour })),
    outcome: "Accepted",
    version: 3n,
    attributes: ["a"]
  },
  {
    name: "a login",
    meanwhile: (storage, row) =>
      storage.rotate(
        aRotation(row, {
          grace: hour,
          login: {
            userId: newUser(),
            lifetime: hour,
            idleTimeout: undefined,
            limit: { max: 5, onLimit: "evictOldest" }
          }
        })
      ),
    outcome: "Gone",
    version: 2n,
    attributes: ["a"]
  },
  {
    name: "a lifetime that becomes an instant",
    meanwhile: (storage, row) => storage.write([aWrite(row, { lifetime: 0 })]),
    outcome: "Gone",
    version: undefined
  },
  {
    name: "an end",
    meanwhile: (storage, { key }) => storage.delete({ _tag: "Session", key, proof: undefined }),
    outcome: "Gone",
    version: undefined
  },
  {
    name: "an end and a beginning of another session under the key",
    meanwhile: (storage, { key }) =>
      Effect.andThen(
        storage.delete({ _tag: "Session", key, proof: undefined }),
        storage.create(aSession({ key, attributes: [attribute("b", "other")] }))
      ),
    outcome: "Gone",
    version: 1n,
    attributes: ["b"]
  }
]

layer(Fixture.layer, { excludeTestServices: true })("PgSessionStorage.tryWrite, while", (it) => {
  for (const alone of [true, false]) {
    for (const { attributes, meanwhile, name, outcome, request, version } of races) {
      it.effect(`${name} is committed, ${alone ? "alone" : "with others"}`, () =>
        Effect.gen(function* () {
          const { query, storage } = yield* Fixture
          const tryWrite = yield* paused
          const row = yield* created(storage, { attributes: [attribute("a", "old")] })
          const other = yield* created(storage)
          const requests = [aWrite(row, { set, ...request }), ...(alone ? [] : [aWrite(other, { set })])]
          const answer = yield* whileHeld(
            `select pg_advisory_xact_lock(${gate})`,
            [],
            tryWrite(requests),
            meanwhile(storage, row)
          )
          assert.deepStrictEqual(
            answer.outcomes.map(({ _tag }) => _tag),
            alone ? [outcome] : [outcome, "Accepted"]
          )
          const [stored] = (yield* storage.load([row.key])).rows
          assert.strictEqual(stored?.version, version)
          assert.deepStrictEqual(stored && [...stored.attributes.keys()].toSorted(), attributes?.toSorted())
          const wrong = yield* query(`select s.key from @sessions s where s.attribute_bytes <> (
            select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0) from jsonb_each(s.attributes) a)`)
          assert.deepStrictEqual(wrong, [])
        })
      )
    }
  }
})
