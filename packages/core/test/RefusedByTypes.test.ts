/** Programs that must not compile: what `expectTypeOf` cannot say, because it asks about types and not about calls. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "../../..")

const prelude = `
import { type AttributeNotFound, type AttributeValue, Session, SessionAttribute, type Sessions, type SessionSummary, UserId } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
const Theme = SessionAttribute.make("theme", Schema.Literals(["light", "dark"]))
const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
declare const session: Session
declare const summary: SessionSummary
declare const sessions: Sessions
export const used: ReadonlyArray<unknown> = [UserId, Effect, Cart, Theme, sessions]
export type Used = AttributeNotFound | AttributeValue
`

const accepted: ReadonlyArray<string> = [
  `Session.set(session, Theme, "dark")`,
  `session.pipe(Session.set(Theme, "dark"))`,
  `Session.modify(session, Theme, () => "dark")`,
  `SessionAttribute.value(Theme, "dark")`,
  `Session.get(summary, Theme)`,
  `sessions.create(UserId.make("a"))`,
  `SessionAttribute.make("a", Schema.Array(Schema.String), { initial: () => ["x"] })`,
  `Session.get(session, Cart) satisfies Effect.Effect<ReadonlyArray<string>, import("@effect-pg-session/core").AttributeInvalid>`
]

const refused: ReadonlyArray<readonly [why: string, code: string]> = [
  ["a value widens its attribute", `Session.set(session, Theme, "blue")`],
  ["a value widens its attribute, data last", `session.pipe(Session.set(Theme, "blue"))`],
  ["what modify returns widens the attribute", `Session.modify(session, Theme, () => "blue")`],
  ["what modify returns widens the attribute, data last", `session.pipe(Session.modify(Theme, () => "blue"))`],
  ["a value for create widens its attribute", `SessionAttribute.value(Theme, "blue")`],
  ["an initial value widens the schema", `SessionAttribute.make("a", Schema.Literal("x"), { initial: () => "y" })`],
  [
    "AttributeNotFound is ignored",
    `Session.get(session, Theme) satisfies Effect.Effect<"light" | "dark", import("@effect-pg-session/core").AttributeInvalid>`
  ],
  ["a text is taken for a user", `sessions.create("alice")`],
  ["a text is taken for an id", `sessions.get("id")`],
  ["a key is taken for an id", `sessions.get(session.key)`],
  ["an id is taken for a key", `sessions.deleteByKey(session.id)`],
  ["a summary is changed", `Session.set(summary, Theme, "dark")`],
  ["a summary is written", `sessions.update(summary)`],
  ["a session is changed in place", `session.version = 2n`],
  ["a decoded array is changed", `Effect.map(Session.get(session, Cart), (items) => items.push("x"))`],
  ["an unknown check", `sessions.update(session, { check: "version" })`],
  [
    "a schema that needs a service",
    `SessionAttribute.make("a", Schema.String.pipe(Schema.decodeTo(Schema.String, { decode: SchemaGetter.transformEffect((s: string) => Effect.as(Clock, s)), encode: SchemaGetter.passthrough() })))
class Clock extends Context.Service<Clock, number>()("Clock") {}
import * as Context from "effect/Context"
import * as SchemaGetter from "effect/SchemaGetter"`
  ]
]

/** The files among `sources` that do not compile. */
const failing = async (sources: ReadonlyArray<string>): Promise<ReadonlyArray<number>> => {
  // Below the repository's dependencies, so that they are found, and not where other compilers look.
  const directory = await mkdtemp(join(root, "node_modules", ".refused-by-types-"))
  try {
    await Promise.all(
      sources.map((source, index) =>
        writeFile(join(directory, `case${index}.ts`), `${prelude}export const result = ${source}\n`)
      )
    )
    const configuration = {
      extends: join(root, "tsconfig.base.json"),
      compilerOptions: {
        noEmit: true,
        incremental: false,
        composite: false,
        rewriteRelativeImportExtensions: false,
        allowImportingTsExtensions: true
      },
      files: sources.map((_, index) => `case${index}.ts`)
    }
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify(configuration))
    const output = await new Promise<string>((resolve) => {
      execFile(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", directory], (_, stdout) =>
        resolve(stdout)
      )
    })
    const elsewhere = output.split("\n").filter((line) => line.includes("error TS") && !/case\d+\.ts\(\d+/.test(line))
    assert.deepStrictEqual(elsewhere, [], "only the cases may fail")
    return [
      ...new Set(Array.from(output.matchAll(/case(\d+)\.ts\(\d+,\d+\): error/g), ([, index]) => Number(index)))
    ].sort((left, right) => left - right)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

it("refuses wrong programs, each of them, and no right one", async () => {
  const sources = [...accepted, ...refused.map(([, code]) => code)]
  const failed = new Set(await failing(sources))
  const name = (index: number) => refused[index - accepted.length]?.[0] ?? accepted[index]
  assert.deepStrictEqual(
    sources.flatMap((_, index) => (failed.has(index) ? [name(index)] : [])),
    refused.map(([why]) => why)
  )
})
