/** Programs that must not compile: what `expectTypeOf` cannot say, because it asks about types and not about calls. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "../../..")

const prelude = `
import { type AttributeNotFound, type AttributeValue, type Lease, type LockAlreadyHeld, type LockLost, type LockService, type LockTimeout, Session, SessionAttribute, type SessionNotFound, type Sessions, type SessionStoreUnavailable, type SessionSummary, UserId } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
const Theme = SessionAttribute.make("theme", Schema.Literals(["light", "dark"]))
const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
declare const session: Session
declare const summary: SessionSummary
declare const sessions: Sessions
declare const locks: LockService
declare const work: (lease: Lease) => Effect.Effect<number, "own", "service">
declare const sometimes: boolean
export const used: ReadonlyArray<unknown> = [UserId, Effect, Cart, Theme, sessions, locks, work, sometimes]
export type Used = AttributeNotFound | AttributeValue
/** What every way to hold a lock for some work can fail with. */
export type Always = "own" | LockLost | SessionStoreUnavailable
/** What every way to acquire one can. */
export type Asked = SessionStoreUnavailable
export type Waits = LockAlreadyHeld | LockTimeout
export type Tied = SessionNotFound
type Equal<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false
export const failsWith = <E>() => <A, F, R>(_: Effect.Effect<A, F, R>, equal: Equal<E, F>) => equal
`

const accepted: ReadonlyArray<string> = [
  `Session.set(session, Theme, "dark")`,
  `session.pipe(Session.set(Theme, "dark"))`,
  `Session.modify(session, Theme, () => "dark")`,
  `SessionAttribute.value(Theme, "dark")`,
  `Session.get(summary, Theme)`,
  `sessions.create(UserId.make("a"))`,
  `SessionAttribute.make("a", Schema.Array(Schema.String), { initial: () => ["x"] })`,
  `Session.get(session, Cart) satisfies Effect.Effect<ReadonlyArray<string>, import("@effect-pg-session/core").AttributeInvalid>`,
  `failsWith<Always | LockAlreadyHeld>()(locks.withLock("x", work, { wait: "none" }), true)`,
  `failsWith<Always | LockTimeout>()(locks.withLock("x", work, { wait: "1 minute" }), true)`,
  `failsWith<Always | LockTimeout>()(locks.withLock("x", work, { wait: 1_000 }), true)`,
  `failsWith<Always>()(locks.withLock("x", work, { wait: "forever" }), true)`,
  `failsWith<Always | Waits>()(locks.withLock("x", work, { permits: 2 }), true)`,
  `failsWith<Always | Waits>()(locks.withLock("x", work), true)`,
  `failsWith<Always | Waits>()(locks.withLock("x", work, { wait: sometimes ? "none" : "1 minute" }), true)`,
  `failsWith<Always | LockAlreadyHeld>()(locks.withLock("x", work, { wait: sometimes ? "none" : "forever" }), true)`,
  `failsWith<Always | Tied>()(locks.withLock("x", work, { wait: "forever", session }), true)`,
  `failsWith<Always | Tied>()(locks.withLock("x", work, { wait: "forever", session: session.key }), true)`,
  `failsWith<Asked | LockAlreadyHeld>()(locks.tryAcquire("x"), true)`,
  `failsWith<Asked | LockAlreadyHeld | Tied>()(locks.tryAcquire("x", { session }), true)`,
  `failsWith<Asked>()(locks.acquire("x", { wait: "forever", leaseTime: "1 minute" }), true)`,
  `failsWith<Asked | LockTimeout>()(Effect.scoped(locks.acquire("x", { wait: "1 minute" })), true)`,
  `locks.withLock("x", work, { wait: "forever" }) satisfies Effect.Effect<number, Always, "service">`,
  `failsWith<Always>()(locks.withLock("x", work, { wait: "none" }).pipe(Effect.catchTag("LockAlreadyHeld", () => Effect.succeed(0))), true)`,
  `failsWith<Always | LockTimeout>()(locks.withLock("a", () => locks.withLock("b", work, { wait: "1 minute" }), { wait: "forever" }), true)`,
  `locks.withLock("x", (fence) => sessions.update(session, { fence }), { wait: "forever" })`
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
  [
    "a lock that is not waited for, and its holder ignored",
    `locks.withLock("x", work, { wait: "none" }) satisfies Effect.Effect<number, Always, "service">`
  ],
  [
    "a lock that is waited for, and its time limit ignored",
    `locks.withLock("x", work, { wait: "1 minute" }) satisfies Effect.Effect<number, Always, "service">`
  ],
  [
    "the loss of a lock is ignored",
    `locks.withLock("x", work, { wait: "forever" }) satisfies Effect.Effect<number, Exclude<Always, LockLost>, "service">`
  ],
  [
    "the end of a lock's session is ignored",
    `locks.withLock("x", work, { wait: "forever", session }) satisfies Effect.Effect<number, Always, "service">`
  ],
  ["an unknown way to wait", `locks.acquire("x", { wait: "always" })`],
  ["tryAcquire waits", `locks.tryAcquire("x", { wait: "forever" })`],
  [
    "a lease without a scope",
    `locks.acquire("x", { wait: "forever" }) satisfies Effect.Effect<Lease, SessionStoreUnavailable>`
  ],
  ["a token for a fence", `sessions.update(session, { fence: 7n })`],
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
