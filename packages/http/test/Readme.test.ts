/** Every example of this package's README compiles, as somebody would paste it. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "../../..")

/** What an Express application has already, where it changes one line. */
const express = `
import express from "express"
import session from "express-session"
declare const secret: string
const app = express()
`

/** What the imports of the first example are for the excerpt in the project's README. */
const excerpt = `
import { UserId } from "@effect-pg-session/core"
import { Authenticated, csrf, CurrentSession, requireSession, SessionCookie, SessionMiddleware } from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
`

const examplesOf = (markdown: string): ReadonlyArray<string> =>
  Array.from(markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm), ([, code = ""]) => code)

const compile = (directory: string) =>
  Effect.callback<string>((resume) => {
    const compiler = join(root, "node_modules/.bin/tsc")
    execFile(compiler, ["--project", directory, "--pretty", "false"], (error, stdout, stderr) =>
      resume(Effect.succeed(error === null ? "" : `${stdout}${stderr}${error.message}`))
    )
  })

it.live(
  "every example of the README compiles",
  () =>
    Effect.scoped(
      Effect.gen(function* () {
        const own = examplesOf(readFileSync(join(root, "packages/http/README.md"), "utf8"))
        assert.lengthOf(own, 2)
        const whole = readFileSync(join(root, "README.md"), "utf8")
        const chapter = examplesOf(/^## HTTP$([\s\S]*?)^## /m.exec(whole)?.[1] ?? "")
        assert.lengthOf(chapter, 1)
        // Below the packages that they import.
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(root, "node_modules/.readme-"))),
          (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
        )
        const files = [own[0] ?? "", `${express}${own[1]}`, `${excerpt}${chapter[0]}`].map((code, index) => {
          const file = `example-${index}.ts`
          writeFileSync(join(directory, file), `${code}\nexport {}\n`)
          return file
        })
        const options = { incremental: false, noEmit: true, noUnusedLocals: false }
        const config = {
          extends: join(root, "tsconfig.base.json"),
          compilerOptions: { ...options, allowImportingTsExtensions: true, rewriteRelativeImportExtensions: false },
          files
        }
        writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(config))
        assert.strictEqual(yield* compile(directory), "")
      })
    ),
  120_000
)
