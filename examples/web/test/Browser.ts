/** A real browser: Debian's chromium, driven by playwright. */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core"

const candidates = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]

/** Where the browser is; `undefined`: there is none on this machine. */
export const executablePath = process.env["CHROMIUM"] ?? candidates.find((path) => existsSync(path))

export const launch = Effect.acquireRelease(
  Effect.promise(() => chromium.launch({ executablePath: executablePath ?? "", args: ["--no-sandbox"] })),
  (browser: Browser) => Effect.promise(() => browser.close())
)

/** A device: cookies of its own. */
export const device = (browser: Browser, options?: { readonly width?: number; readonly javaScriptEnabled?: boolean }) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      browser.newContext({
        viewport: { width: options?.width ?? 1_100, height: 900 },
        javaScriptEnabled: options?.javaScriptEnabled ?? true
      })
    ),
    (context: BrowserContext) => Effect.promise(() => context.close())
  )

/** A window of a device, at an address. */
export const open = (context: BrowserContext, url: string) =>
  Effect.promise(async () => {
    const page = await context.newPage()
    await page.goto(url)
    return page
  })

/** Clicks a button by its name, and waits for the page that follows. */
export const press = (page: Page, name: string) =>
  Effect.promise(async () => {
    const loaded = page.waitForEvent("load")
    await page.getByRole("button", { name, exact: true }).click()
    await loaded
  })

/** Waits until an element's text matches. */
export const sees = (page: Page, selector: string, text: RegExp | string, timeout = 10_000) =>
  Effect.promise(() => page.locator(selector).filter({ hasText: text }).first().waitFor({ timeout }))
