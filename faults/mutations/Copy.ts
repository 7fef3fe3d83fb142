/**
 * A copy of the project outside of its tree, so that nothing that runs meanwhile
 * sees a mutated source. Packages are shared by links, but the library's own
 * lead to the copy.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { apply, type Edit } from "./Mutation.ts"

/** Where the project is. */
export const root = join(import.meta.dirname, "..", "..")

/** What tests run on. */
const copied = [
  "packages",
  "faults",
  "examples",
  "package.json",
  "tsconfig.json",
  "tsconfig.base.json",
  "vitest.workspace.ts"
]
const ownScope = "@effect-pg-session"
const ownPackages = ["core", "pg", "http"]
const notCopied = new Set(["node_modules", "dist"])

const create = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "effect-pg-session-mutations-"))
  for (const name of copied) {
    cpSync(join(root, name), join(directory, name), {
      recursive: true,
      filter: (source) => !notCopied.has(basename(source))
    })
  }
  const modules = join(directory, "node_modules")
  mkdirSync(join(modules, ownScope), { recursive: true })
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (name === ownScope || (name.startsWith(".") && name !== ".bin")) continue
    symlinkSync(join(root, "node_modules", name), join(modules, name))
  }
  for (const name of ownPackages) symlinkSync(join(directory, "packages", name), join(modules, ownScope, name))
  return directory
}

export interface Copy {
  readonly directory: string
  /** Runs an effect while edits are made. */
  readonly mutated: <A, E, R>(edits: ReadonlyArray<Edit>, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** The copy goes with the scope. */
export const make: Effect.Effect<Copy, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(Effect.sync(create), (directory) =>
    Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  ),
  (directory): Copy => ({
    directory,
    mutated: (edits, effect) => {
      const files = [...new Set(edits.map(({ file }) => file))]
      const restore = Effect.sync(() => {
        for (const file of files) cpSync(join(root, file), join(directory, file))
      })
      const mutate = Effect.sync(() => {
        for (const each of edits) {
          const file = join(directory, each.file)
          writeFileSync(file, apply(each, readFileSync(file, "utf8")))
        }
      })
      return Effect.ensuring(Effect.andThen(Effect.andThen(restore, mutate), effect), restore)
    }
  })
)
