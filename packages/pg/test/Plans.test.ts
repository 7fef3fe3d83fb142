/**
 * Statements that run for every miss and every change must not be planned each time: that takes longer than to run them.
 * PostgreSQL decides by comparing estimated costs, after five executions.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { keyParameters, loadOneSql, loadSql, revalidateSql } from "../src/internal/sql/Read.ts"
import * as WriteCurrent from "../src/internal/sql/WriteCurrent.ts"
import { attribute, aWrite, created, Fixture } from "./support/StorageFixture.ts"

const times = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index)

layer(Fixture.layer, { excludeTestServices: true })("statements that run often", (it) => {
  it.effect("are planned once, for one session and for many", () =>
    Effect.gen(function* () {
      const { names, sql, storage } = yield* Fixture
      const rows = yield* Effect.forEach(times(40), () => created(storage), { concurrency: 4 })
      const current = WriteCurrent.plan(names)
      for (const count of [1, 2, 40]) {
        const some = rows.slice(0, count)
        const keys = keyParameters(some.map(({ key }) => key))
        const requests = some.map((row) => aWrite(row, { set: [attribute("a", 1)] }))
        const patches = requests.flatMap((request) => WriteCurrent.patchOf(request) ?? [])
        assert.lengthOf(patches, count)
        for (const [text, parameters] of [
          [loadSql(names), keys],
          ...(count === 1 ? [[loadOneSql(names), some.map(({ key }) => key)] as const] : []),
          [revalidateSql(names), keys],
          current(requests, patches)
        ] as const) {
          const plans = yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* sql.unsafe(`prepare often as ${text}`)
              const literals = parameters.map((value) => (value === null ? "null" : `$lit$${String(value)}$lit$`))
              for (const _ of times(12)) yield* sql.unsafe(`explain execute often(${literals.join(", ")})`)
              const [row] = yield* sql<{ readonly generic: number }>`
                select generic_plans::int as generic from pg_prepared_statements where name = 'often'`
              yield* sql.unsafe("deallocate often")
              return row?.generic
            })
          )
          assert.strictEqual(plans, 7, text)
        }
      }
    })
  )
})
