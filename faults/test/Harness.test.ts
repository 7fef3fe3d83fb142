import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { faults } from "../Faults.ts"
import { parse, replay } from "../Options.ts"
import * as Random from "../Random.ts"
import * as Schedule from "../Schedule.ts"
import { SecretSearch } from "../SecretSearch.ts"

describe("the seed", () => {
  it("decides everything, and each consumer's draws by themselves", () => {
    const draws = (seed: number, ...path: ReadonlyArray<string | number>) => {
      const random = Random.make(seed, ...path)
      return Array.from({ length: 20 }, () => random.integer(0, 1_000))
    }
    assert.deepStrictEqual(draws(1, "client", 1), draws(1, "client", 1))
    assert.notDeepEqual(draws(1, "client", 1), draws(1, "client", 2))
    assert.notDeepEqual(draws(1, "client", 1), draws(2, "client", 1))
  })

  it("draws within bounds, evenly, and by weight", () => {
    const random = Random.make(7)
    const drawn = Array.from({ length: 4_000 }, () => random.integer(1, 4))
    for (const value of [1, 2, 3, 4]) assert.closeTo(drawn.filter((one) => one === value).length, 1_000, 150)
    const names = Array.from({ length: 4_000 }, () => random.weighted({ rare: 1, often: 3, never: 0 }))
    assert.closeTo(names.filter((name) => name === "rare").length, 1_000, 150)
    assert.notInclude(names, "never")
    assert.deepStrictEqual(
      [...random.shuffled([1, 2, 3])].sort((a, b) => a - b),
      [1, 2, 3]
    )
  })

  it("plans the same faults, and each kind before any comes again", () => {
    const kinds = faults({ pooler: undefined, unlimited: "not here" })
    for (const lane of ["server", "node"] as const) {
      const possible = kinds.filter((fault) => fault.lane === lane && fault.skipped === undefined)
      const first = (seed: number) => {
        const order = Schedule.order(seed, lane, kinds)
        return Array.from({ length: possible.length }, () => order.next().value?.kind)
      }
      assert.deepStrictEqual(first(3), first(3))
      assert.notDeepEqual(first(3), first(4))
      assert.sameMembers(
        first(3),
        possible.map(({ kind }) => kind)
      )
    }
  })
})

describe("the command line", () => {
  it("is taken in, and printed as it can be given again", () => {
    const options = parse(["--seed", "5", "--seconds", "7", "--nodes", "2", "--pgbouncer"])
    assert.deepInclude(options, { seed: 5, seconds: 7, nodes: 2, pgbouncer: true })
    assert.strictEqual(replay(options), "npm run faults -- --seed 5 --seconds 7 --nodes 2 --pgbouncer")
    assert.isAbove(parse([]).seed, 0)
    assert.throws(() => parse(["--nodes", "0"]), /--nodes/)
    assert.throws(() => parse(["--sed", "1"]))
  })
})

describe("the search for secrets", () => {
  const secret = "s3cr3t_s3cr3t-0123456789abcdefghijklmnopqrs"

  it("finds a secret, and most of one, in text and in binary files", () => {
    const directory = mkdtempSync(join(tmpdir(), "faults-search-"))
    try {
      const search = new SecretSearch()
      search.add(secret, "the secret")
      search.text("a text", `"${secret}"`)
      search.text("a part", `xyz${secret.slice(11, 31)}-abc`)
      search.text("a few characters", secret.slice(0, 10))
      const file = join(directory, "wal")
      // Across the border of two parts of the file that are read one after the other.
      const bytes = Buffer.alloc(9 * 2 ** 20, 7)
      bytes.write(secret, 4 * 2 ** 20 - 20)
      writeFileSync(file, bytes)
      search.directory(directory)
      assert.deepStrictEqual(
        search.leaks.map(({ where }) => where),
        ["a text", "a part", file]
      )
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it("finds nothing where there is nothing", () => {
    const search = new SecretSearch()
    search.add(secret, "the secret")
    search.text("hashes", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    assert.deepStrictEqual(search.leaks, [])
  })
})
