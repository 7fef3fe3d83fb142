/** What became of each mutation: kept in a file, so that a run can go on where another one stopped, and as a table in the documents. */
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./Copy.ts"
import type { Mutation } from "./Mutation.ts"

/** What became of a mutation. */
const Result = Schema.Struct({
  /** Of the mutation that was run: another one of its name has another one. */
  fingerprint: Schema.String,
  /** The test that failed; `null`: none did. */
  caughtBy: Schema.NullOr(Schema.String)
})
export type Result = typeof Result.Type

export type Results = Readonly<Record<string, Result>>

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Record(Schema.String, Result)))

export const resultsFile = join(import.meta.dirname, "results.json")
const document = join(root, "docs", "reliability.md")
const begin = "<!-- mutations: begin -->"
const end = "<!-- mutations: end -->"

export const fingerprint = ({ edits, only, tests }: Mutation): string =>
  createHash("sha256")
    .update(JSON.stringify(only === undefined ? [edits, tests] : [edits, tests, only]))
    .digest("hex")
    .slice(0, 16)

export const load = (): Results => (existsSync(resultsFile) ? decode(readFileSync(resultsFile, "utf8")) : {})

/** Writes the results, in the order of the mutations, and the table. */
export const save = (mutations: ReadonlyArray<Mutation>, results: Results): void => {
  const order = new Map(mutations.map(({ name }, index) => [name, index]))
  const place = ([name]: readonly [string, Result]): number => order.get(name) ?? Infinity
  const sorted = Object.entries(results).sort((left, right) => (place(left) < place(right) ? -1 : 1))
  writeFileSync(resultsFile, `${JSON.stringify(Object.fromEntries(sorted), undefined, 2)}\n`)
  const text = readFileSync(document, "utf8")
  const before = text.indexOf(begin)
  const after = text.indexOf(end)
  if (before < 0 || after < before) throw new Error(`${document} has no place for the table: ${begin} ${end}`)
  writeFileSync(document, `${text.slice(0, before + begin.length)}\n${table(mutations, results)}\n${text.slice(after)}`)
}

/** One line a mutation. */
export const table = (mutations: ReadonlyArray<Mutation>, results: Results): string =>
  [
    "| switched off | promise | noticed by |",
    "|---|---|---|",
    ...mutations.map((mutation) => {
      const { guarantee, step } = mutation
      return `| ${cell(step)} | ${guarantee} | ${cell(noticedBy(mutation, results[mutation.name]))} |`
    })
  ].join("\n")

const noticedBy = ({ redundant }: Mutation, result: Result | undefined): string => {
  if (result === undefined) return "(not run)"
  if (result.caughtBy !== null) return result.caughtBy
  return redundant === undefined ? "**nothing**" : `nothing: ${redundant}`
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ")
