import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { catalogue } from "../mutations/Catalogue.ts"
import { root } from "../mutations/Copy.ts"
import { apply, edit } from "../mutations/Mutation.ts"
import * as Results from "../mutations/Results.ts"

const contentOf = (file: string): string => readFileSync(join(root, file), "utf8")

describe("the catalogue of mutations", () => {
  it.each(catalogue.map((mutation) => [mutation.name, mutation] as const))("%s can be made", (_, mutation) => {
    const changed = new Map<string, string>()
    for (const each of mutation.edits) {
      const before = changed.get(each.file) ?? contentOf(each.file)
      const after = apply(each, before)
      assert.notStrictEqual(after, before)
      changed.set(each.file, after)
    }
    assert.isAbove(mutation.edits.length, 0)
    assert.isAbove(mutation.tests.length, 0)
    for (const file of mutation.tests) assert.isTrue(existsSync(join(root, file)), file)
  })

  it("has one mutation of a name, and some for each promise", () => {
    assert.strictEqual(new Set(catalogue.map(({ name }) => name)).size, catalogue.length)
    assert.deepStrictEqual(
      [...new Set(catalogue.map(({ guarantee }) => Number(guarantee.slice(1))))].sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    )
  })

  it("has been run: each is noticed, or said to be redundant", () => {
    const results = Results.load()
    for (const { name, redundant } of catalogue) {
      assert.isDefined(results[name], `${name} has not been run`)
      assert.isTrue(results[name]?.caughtBy !== null || redundant !== undefined, `${name} goes unnoticed`)
    }
  })

  it("is what the documents show", () => {
    assert.include(contentOf("docs/reliability.md"), Results.table(catalogue, Results.load()))
  })
})

describe("an edit", () => {
  it("needs its text exactly once, and takes its replacement as it is", () => {
    assert.strictEqual(apply(edit("f", "b", "$&"), "abc"), "a$&c")
    assert.throws(() => apply(edit("f", "x"), "abc"), /0 occurrences/)
    assert.throws(() => apply(edit("f", "a"), "aba"), /2 occurrences/)
  })
})
