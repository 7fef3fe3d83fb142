/**
 * `npm run mutations`: switches off one protective step of the library after the
 * other, in a copy, and runs the tests that must notice. The exit code is 1 when
 * nothing notices one of them.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { parseArgs } from "node:util"
import { catalogue } from "./Catalogue.ts"
import * as Copy from "./Copy.ts"
import type { Mutation } from "./Mutation.ts"
import * as Results from "./Results.ts"
import * as Tests from "./Tests.ts"

const usage = `npm run mutations -- [--only NAME]... [--again] [--through COMMAND] [--list]

  --only NAME     only mutations whose name contains this; may be repeated
  --again         also those that have a result already
  --through CMD   a command that starts each run of tests, such as "nice -n 10"
  --list          says what would be run, and runs nothing`

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    again: { type: "boolean", default: false },
    through: { type: "string", default: "" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const through = values.through.split(" ").filter((word) => word !== "")
const isMeant = ({ name }: Mutation): boolean =>
  values.only === undefined || values.only.some((part) => name.includes(part))
const isDone = (mutation: Mutation): boolean => {
  const result = Results.load()[mutation.name]
  if (result === undefined || result.fingerprint !== Results.fingerprint(mutation)) return false
  return result.caughtBy !== null || mutation.redundant !== undefined
}

const meant = catalogue.filter((mutation) => isMeant(mutation) && (values.again || !isDone(mutation)))

interface Chosen {
  readonly tests: ReadonlyArray<string>
  readonly only?: string | undefined
}

const run = (directory: string, { only, tests }: Chosen, bail: number) =>
  Tests.run({ directory, files: tests, only, bail, through })

/** Without any mutation everything must pass. */
const checkUnmutated = Effect.fnUntraced(function* (directory: string, chosen: Chosen) {
  const { failed, passed, problems } = yield* run(directory, chosen, 0)
  if (failed.length === 0 && problems.length === 0 && passed > 0) return
  return yield* Effect.die(new Error(`without any mutation: ${[...failed, ...problems].join("; ") || "no test ran"}`))
})

/** All that is meant of a file of tests. */
const meantOf = (file: string): Chosen => {
  const patterns = meant.filter(({ tests }) => tests.includes(file)).map(({ only }) => only)
  return { tests: [file], only: patterns.some((only) => only === undefined) ? undefined : patterns.join("|") }
}

/** What became of a mutation: the test that failed, or that none did. Fails, with the reason, where it says nothing of the step. */
const attempt = Effect.fnUntraced(function* (copy: Copy.Copy, mutation: Mutation) {
  const { directory } = copy
  const { edits } = mutation
  const first = yield* copy.mutated(edits, run(directory, mutation, 1))
  const [caughtBy] = first.failed
  if (caughtBy === undefined) return first.problems.length === 0 ? null : yield* Effect.fail(first.problems.join("; "))
  if (first.passed > 0) return caughtBy
  // What breaks everything, such as a statement that cannot be parsed, is no mutation.
  const all = yield* copy.mutated(edits, run(directory, mutation, 0))
  return all.passed > 0 ? caughtBy : yield* Effect.fail("not one test passes")
})

const program = Effect.gen(function* () {
  const copy = yield* Copy.make
  const checked = new Set<string>()
  const unnoticed: Array<string> = []
  const invalid: Array<string> = []
  for (const [index, mutation] of meant.entries()) {
    const { name, redundant, tests } = mutation
    for (const file of tests) {
      if (checked.has(file)) continue
      yield* checkUnmutated(copy.directory, meantOf(file))
      checked.add(file)
    }
    const result = yield* Effect.result(attempt(copy, mutation))
    yield* Console.log(
      `${index + 1}/${meant.length} ${name}: ${Result.isSuccess(result) ? (result.success ?? "SURVIVED") : `NO MUTATION: ${result.failure}`}`
    )
    if (Result.isFailure(result)) {
      invalid.push(name)
      continue
    }
    if (result.success === null && redundant === undefined) unnoticed.push(name)
    const results = {
      ...Results.load(),
      [name]: { fingerprint: Results.fingerprint(mutation), caughtBy: result.success }
    }
    Results.save(catalogue, results)
  }
  // Also where nothing was run: steps may have been renamed, or have left.
  const names = new Set(catalogue.map(({ name }) => name))
  Results.save(catalogue, Object.fromEntries(Object.entries(Results.load()).filter(([name]) => names.has(name))))
  yield* Console.log(
    `${meant.length} mutations; unnoticed: ${unnoticed.join(", ") || "none"}; no mutations: ${invalid.join(", ") || "none"}`
  )
  if (unnoticed.length + invalid.length > 0) process.exitCode = 1
})

if (values.help) console.log(usage)
else if (values.list) for (const { name } of meant) console.log(name)
else NodeRuntime.runMain(Effect.scoped(program))
