/** Programs that must not compile, and some that must. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "../../..")

const prelude = `
import { Session, SessionAttribute, type SessionStore, UserId } from "@effect-pg-session/core"
import { anonymousWhenUnavailable, Authenticated, csrf, CurrentSession, requireAttribute, requireFresh, requireSession, SessionCookie, SessionMiddleware, type SessionUnavailable, type Unauthenticated } from "@effect-pg-session/http"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
const Level = SessionAttribute.make("level", Schema.Int)
const session = SessionMiddleware.make()
const ok = HttpServerResponse.text("ok")
const route = <E, R>(handler: Effect.Effect<unknown, E, R>) => HttpRouter.add("GET", "/", Effect.as(handler, ok))
type App = Layer.Layer<never, never, HttpRouter.HttpRouter | SessionStore | SessionCookie>
export const used: ReadonlyArray<unknown> = [Session, UserId, anonymousWhenUnavailable, Authenticated, csrf, requireFresh, CurrentSession, Option, Redacted, Cart, Level, requireAttribute, requireSession, SessionCookie, route, session]
export type Used = SessionUnavailable | Unauthenticated | App
`

const accepted: ReadonlyArray<string> = [
  `route(CurrentSession.get).pipe(Layer.provide(session.layer)) satisfies App`,
  `route(CurrentSession.login(UserId.make("a"))).pipe(Layer.provide(csrf().combine(session).layer)) satisfies App`,
  `route(Authenticated).pipe(Layer.provide(requireSession.combine(session).layer)) satisfies App`,
  `route(Authenticated.userId).pipe(Layer.provide(requireAttribute(Level, { where: (level) => level > 1 }).combine(requireFresh({ within: "1 hour" })).combine(session).layer)) satisfies App`,
  `route(CurrentSession.getOrAnonymous).pipe(Layer.provide(anonymousWhenUnavailable.combine(session).layer)) satisfies App`,
  `route(CurrentSession.getOrAnonymous).pipe(Layer.provide(SessionMiddleware.make({ whenUnavailable: "anonymous" }).layer)) satisfies App`,
  `CurrentSession.get satisfies Effect.Effect<Option.Option<Session>, SessionUnavailable, CurrentSession>`,
  `CurrentSession.modify(Session.set(Level, 1))`,
  `SessionCookie.layer({ keys: [Redacted.make("x")], sameSite: "lax" })`
]

const refused: ReadonlyArray<readonly [why: string, code: string]> = [
  ["a route asks for a session that nobody provides", `route(CurrentSession.get) satisfies App`],
  ["a guard without a session", `route(Effect.void).pipe(Layer.provide(requireSession.layer))`],
  [
    "a session below its guard",
    `route(Authenticated).pipe(Layer.provide(session.combine(requireSession).layer)) satisfies App`
  ],
  ["csrf without a session", `route(Effect.void).pipe(Layer.provide(csrf().layer))`],
  [
    "a handler relies on a guard that is not there",
    `route(Authenticated).pipe(Layer.provide(session.layer)) satisfies App`
  ],
  [
    "csrf is taken for a login",
    `route(Authenticated).pipe(Layer.provide(csrf().combine(session).layer)) satisfies App`
  ],
  [
    "a route goes on without the store and has not said so",
    `route(CurrentSession.getOrAnonymous).pipe(Layer.provide(session.layer)) satisfies App`
  ],
  [
    "failing closed is taken for going on",
    `route(CurrentSession.getOrAnonymous).pipe(Layer.provide(SessionMiddleware.make({ whenUnavailable: "failClosed" }).layer)) satisfies App`
  ],
  [
    "a store that is down is forgotten",
    `CurrentSession.get satisfies Effect.Effect<Option.Option<Session>, never, CurrentSession>`
  ],
  [
    "a caller who is not logged in is forgotten",
    `CurrentSession.require satisfies Effect.Effect<Session, SessionUnavailable, CurrentSession>`
  ],
  ["an attribute that is never missing is a condition", `requireAttribute(Cart)`],
  ["a condition on another type", `requireAttribute(Level, { where: (level: string) => level === "high" })`],
  [
    "an error of a handler is not answered",
    `route(Effect.fail("mine")).pipe(Layer.provide(session.layer)) satisfies App`
  ],
  ["a text is taken for a user", `CurrentSession.login("alice")`],
  ["a text is taken for a key", `CurrentSession.logoutEverywhere({ except: "this" })`],
  ["a key in the clear", `SessionCookie.layer({ keys: ["a key of thirty-two characters..."] })`],
  ["a cookie without keys", `SessionCookie.layer({ name: "sid" })`],
  ["an unknown SameSite", `SessionCookie.layer({ keys: [Redacted.make("x")], sameSite: "Lax" })`],
  ["an unknown choice for a store that is down", `SessionMiddleware.make({ whenUnavailable: "ignore" })`],
  ["a value widens its attribute", `CurrentSession.modify(Session.set(Level, "high"))`]
]

/** The files among `sources` that do not compile. */
const failing = async (sources: ReadonlyArray<string>): Promise<ReadonlyArray<number>> => {
  // Below the repository's dependencies, so that they are found, and not where other compilers look.
  const directory = await mkdtemp(join(root, "node_modules", ".refused-by-types-"))
  try {
    await Promise.all(
      sources.map((source, index) =>
        writeFile(
          join(directory, `case${index}.ts`),
          `${prelude}export const result: ReadonlyArray<unknown> = [${source}]\n`
        )
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
