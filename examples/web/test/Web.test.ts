/**
 * The application as people see it: two nodes in processes of their own, a real
 * browser with a window on each, and every story that the page tells. Skipped where
 * there is no chromium, except in CI, where that is an error.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Browser } from "playwright-core"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { inject } from "vitest"
import * as Cluster from "../Cluster.ts"
import { device, executablePath, launch, open, press, sees } from "./Browser.ts"

/** The application and a browser, for all tests of this file. */
class World extends Context.Service<World, { readonly urls: readonly [string, string]; readonly browser: Browser }>()(
  "examples/web/test/World"
) {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function* () {
      const databaseUrl = Redacted.make(inject("databaseUrl"))
      const schemaName = `web_${randomBytes(6).toString("hex")}`
      const sql = Context.get(
        yield* Layer.build(PgClient.layer({ url: databaseUrl, maxConnections: 1 })),
        PgClient.PgClient
      )
      yield* Effect.addFinalizer(() => Effect.ignore(sql`drop schema if exists ${sql(schemaName)} cascade`))
      const { urls } = yield* Cluster.start({ databaseUrl, schemaName, port: 0, elevatedFor: "6 seconds" })
      return { urls, browser: yield* launch }
    })
  )
}

const cartCount = "#cart-count"

/** What `look.js` finds on a page. */
interface Looks {
  readonly title: string
  readonly headings: ReadonlyArray<string>
  /** Of everything that can be pressed. */
  readonly names: ReadonlyArray<string>
  readonly contrasts: ReadonlyArray<{ readonly text: string; readonly ratio: number }>
  /** How much wider than the window the page is, in pixels. */
  readonly overflow: number
}
const lookScript = readFileSync(join(import.meta.dirname, "look.js"), "utf8")

const isMissing = executablePath === undefined
if (isMissing) process.stderr.write("The browser tests are skipped: install chromium, or name one in CHROMIUM.\n")

describe("a browser", () => {
  it("is there in CI", () => {
    assert.isFalse(
      isMissing && process.env["CI"] !== undefined,
      "there is no chromium on this machine: install Debian's package `chromium`, or name one in CHROMIUM"
    )
  })
})

describe.skipIf(isMissing)("with a browser", () => {
  it.layer(World.layer, { timeout: 60_000, excludeTestServices: true })("examples/web", (it) => {
    const test = (name: string, effect: Effect.Effect<unknown, unknown, World | Scope.Scope>) =>
      it.effect(name, () => Effect.scoped(effect), 60_000)

    test(
      "one login, both nodes: the second one reads it from the database once, and then from memory",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const alice = yield* device(browser)
        const one = yield* open(alice, urls[0])
        yield* press(one, "Log in as alice")
        yield* sees(one, "h1", "Hello, alice")
        const two = yield* open(alice, urls[1])
        yield* sees(two, "#reading", "the database")
        yield* Effect.promise(() => two.reload())
        yield* sees(two, "#reading", "this node's memory")
        const cookies = yield* Effect.promise(() => alice.cookies())
        assert.lengthOf(cookies, 1)
        assert.deepInclude(cookies[0], {
          name: "__Host-session",
          httpOnly: true,
          secure: true,
          sameSite: "Lax",
          path: "/"
        })
      })
    )

    test(
      "two windows fill the cart at once, and nothing is lost; each sees the other's things without a reload",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const bob = yield* device(browser)
        const one = yield* open(bob, urls[0])
        yield* press(one, "Log in as bob")
        const two = yield* open(bob, urls[1])
        yield* Effect.all([press(one, "Ten at once"), press(two, "Ten at once")], { concurrency: 2 })
        yield* sees(one, cartCount, /^20$/)
        yield* sees(two, cartCount, /^20$/)
        yield* press(one, "+ lamp")
        // The other window was not touched.
        yield* sees(two, cartCount, /^21$/)
        yield* press(two, "Empty it")
        yield* sees(one, cartCount, /^0$/)
      })
    )

    test(
      "a step-up opens the guarded route, on both nodes, and runs out by itself",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const carol = yield* device(browser)
        const one = yield* open(carol, urls[0])
        yield* press(one, "Log in as carol")
        const two = yield* open(carol, urls[1])
        const [refused] = yield* Effect.promise(() =>
          Promise.all([
            two.waitForResponse((response) => response.url().endsWith("/transfer")),
            two.getByRole("button", { name: "Transfer money" }).click()
          ])
        )
        assert.strictEqual(refused.status(), 403)
        yield* sees(two, "h1", "More is needed")
        const before = yield* Effect.promise(() => carol.cookies())
        yield* press(one, "Step up")
        const after = yield* Effect.promise(() => carol.cookies())
        assert.notStrictEqual(after[0]?.value, before[0]?.value, "more rights come with a new id")
        yield* sees(one, "#elevated", "Elevated access for another")
        yield* Effect.promise(() => two.goto(urls[1]))
        yield* press(two, "Transfer money")
        yield* sees(two, ".notice", "Transferred")
        yield* press(two, "Change e-mail")
        yield* sees(two, ".notice", "Changed")
        yield* sees(one, "#elevated", "Ordinary access")
        yield* sees(one, "#announcer", "Ordinary access")
        yield* sees(two, "#elevated", "Ordinary access", 5_000)
      })
    )

    test(
      "a new id is no logout: the other window follows the session beyond the old id's grace",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const bob = yield* device(browser)
        const one = yield* open(bob, urls[0])
        yield* press(one, "Log in as bob")
        const two = yield* open(bob, urls[1])
        // The stream of the old id ends with its grace, and not before; then the window asks with the new one.
        const asksAgain = two.waitForEvent("request", {
          predicate: (request) => request.url().endsWith("/live"),
          timeout: 30_000
        })
        yield* press(one, "Step up")
        yield* Effect.promise(() => asksAgain)
        yield* press(one, "+ ink")
        const count = yield* Effect.promise(() => one.locator(cartCount).innerText())
        yield* sees(two, cartCount, new RegExp(`^${count}$`))
        assert.notInclude(two.url(), "ended", "the window was told that its session had ended")
      })
    )

    test(
      "a device that is ended leaves at that moment, through the other node; ending all others keeps this one",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const here = yield* device(browser)
        const there = yield* device(browser, { width: 400 })
        const one = yield* open(here, urls[0])
        yield* press(one, "Log in as alice")
        const two = yield* open(there, urls[1])
        yield* press(two, "Log in as alice")
        yield* sees(one, "#devices", "by Node 2")
        yield* Effect.promise(() =>
          one.locator("#devices li", { hasText: "by Node 2" }).first().getByRole("button", { name: "End it" }).click()
        )
        yield* Effect.promise(() => two.waitForURL("**/?ended"))
        yield* sees(two, ".notice", "has been ended")
        yield* press(two, "Log in as alice")
        yield* press(one, "End all others")
        yield* Effect.promise(() => two.waitForURL("**/?ended"))
        yield* sees(one, "h1", "Hello, alice")
        assert.strictEqual(yield* Effect.promise(() => one.locator("#devices li").count()), 1)
        yield* press(one, "Log out")
        yield* sees(one, "h2", "Who are you?")
        assert.lengthOf(yield* Effect.promise(() => here.cookies()), 0)
      })
    )

    test(
      "the theme is a preference of the session: chosen on one node, seen on the other at once",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const bob = yield* device(browser)
        const one = yield* open(bob, urls[0])
        yield* press(one, "Log in as bob")
        const two = yield* open(bob, urls[1])
        yield* press(one, "dark")
        yield* sees(two, ":root[data-theme=dark] body", "Hello, bob")
      })
    )

    test(
      "a listener that falls silent, or is cut, is noticed; the node reads from the database, stays right, and recovers",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const carol = yield* device(browser)
        const one = yield* open(carol, urls[0])
        yield* press(one, "Log in as carol")
        const two = yield* open(carol, urls[1])
        for (const fault of ["Make it silent", "Cut its listener"]) {
          yield* sees(two, "#health", /In sync/)
          yield* press(two, fault)
          yield* sees(two, "#health", /Not in sync/)
          yield* press(one, "+ ink")
          const count = yield* Effect.promise(() => one.locator(cartCount).innerText())
          yield* Effect.promise(() => two.reload())
          yield* sees(two, "#reading", "the database")
          yield* sees(two, cartCount, new RegExp(`^${count}$`))
          yield* press(two, "Repair it")
          yield* sees(two, "#health", /In sync/, 20_000)
        }
        yield* Effect.promise(() => two.reload())
        yield* sees(two, "#reading", "this node's memory")
      })
    )

    test(
      "the health of a node is live before anybody logs in; a button leads back to its card",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const page = yield* open(yield* device(browser), urls[0])
        yield* press(page, "Make it silent")
        assert.strictEqual(new URL(page.url()).hash, "#node")
        yield* sees(page, "#health", /Not in sync/)
        yield* sees(page, "#announcer", /Not in sync/)
        yield* press(page, "Repair it")
        yield* sees(page, "#health", /In sync/, 20_000)
        // What is on the page may be old: it says so.
        yield* Effect.promise(() => page.route("**/live/node", (route) => route.abort()))
        yield* Effect.promise(() => page.reload())
        yield* sees(page, "#stale:not([hidden])", "may be out of date")
        yield* Effect.promise(() => page.unroute("**/live/node"))
        yield* Effect.promise(() => page.locator("#stale").waitFor({ state: "hidden", timeout: 10_000 }))
      })
    )

    test(
      "every page has a title, one heading, controls with names of their own and enough contrast, and fits a narrow phone",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const phone = yield* device(browser, { width: 360 })
        const page = yield* open(phone, urls[0])
        const looks = Effect.fnUntraced(function* (name: string) {
          const { contrasts, headings, names, overflow, title } = yield* Effect.promise(() =>
            page.evaluate<Looks>(lookScript)
          )
          assert.lengthOf(headings, 1, name)
          assert.isNotEmpty(title, name)
          assert.lengthOf(new Set(names), names.length, `${name}: ${names.join(", ")}`)
          assert.isAtMost(overflow, 0, `${name} is wider than the phone`)
          for (const { ratio, text } of contrasts) assert.isAtLeast(ratio, 4.5, `${name}: ${text}`)
          assert.isNotEmpty(contrasts)
        })
        yield* looks("the login page")
        yield* press(page, "Log in as carol")
        const other = yield* open(yield* device(browser), urls[1])
        yield* press(other, "Log in as carol")
        yield* sees(page, "#devices", "by Node 2")
        for (const theme of ["dark", "sepia", "light"]) {
          yield* press(page, theme)
          yield* looks(theme)
        }
        yield* Effect.promise(() => page.getByRole("button", { name: "Transfer money" }).click())
        yield* sees(page, "h1", "More is needed")
        yield* looks("the error page")
        yield* press(page, "Step up")
        yield* sees(page, "#elevated", "Elevated access")
        yield* Effect.promise(() => page.goto(`${urls[0]}/elsewhere`))
        yield* sees(page, "h1", "There is no such page")
      })
    )

    test(
      "works without scripts",
      Effect.gen(function* () {
        const { browser, urls } = yield* World
        const plain = yield* device(browser, { javaScriptEnabled: false })
        const page = yield* open(plain, urls[0])
        yield* press(page, "Log in as bob")
        yield* press(page, "+ pen")
        yield* sees(page, cartCount, /^1$/)
        yield* press(page, "Log out")
        yield* sees(page, "h2", "Who are you?")
      })
    )

    test(
      "cookies that nobody signed are refused and counted, other sites are refused, and the metrics tell",
      Effect.gen(function* () {
        const { urls } = yield* World
        const forged = yield* Effect.promise(() =>
          fetch(urls[0], { headers: { cookie: `__Host-session=${"A".repeat(65)}.${"B".repeat(43)}` } })
        )
        assert.include(yield* Effect.promise(() => forged.text()), "Who are you?")
        const foreign = yield* Effect.promise(() =>
          fetch(`${urls[0]}/login`, {
            method: "POST",
            headers: { origin: "https://evil.example", "content-type": "application/x-www-form-urlencoded" },
            body: "user=alice",
            redirect: "manual"
          })
        )
        assert.strictEqual(foreign.status, 403)
        assert.isNull(foreign.headers.get("set-cookie"))
        const metrics = yield* Effect.promise(() => fetch(`${urls[0]}/metrics`).then((response) => response.text()))
        assert.match(metrics, /^session_cookies_refused\S* [1-9]/m)
        assert.match(metrics, /^session_synced\S* 1/m)
      })
    )
  })
})
