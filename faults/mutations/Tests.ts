/** Runs files of tests in a copy, and says which of them failed. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { readFileSync, rmSync } from "node:fs"
import { delimiter, join } from "node:path"

export interface Report {
  readonly passed: number
  /** The names of the tests that failed. */
  readonly failed: ReadonlyArray<string>
  /** Files that could not even be loaded, or what else went wrong. */
  readonly problems: ReadonlyArray<string>
}

export interface Running {
  /** The copy. */
  readonly directory: string
  readonly files: ReadonlyArray<string>
  /** A regular expression for the names of the tests to be run. */
  readonly only: string | undefined
  /** After so many failures nothing more is started; 0: all tests run. */
  readonly bail: number
  /** A command that starts each run, such as `nice`. */
  readonly through: ReadonlyArray<string>
}

/** Longer than this nothing takes, in milliseconds, whatever it waits for: a library that hangs has to be noticed by a test's own limit. */
const patience = 1_200_000

const reportName = "report.json"

export const run = (running: Running): Effect.Effect<Report> =>
  Effect.callback<Report>((resume) => {
    const { bail, directory, files, only, through } = running
    rmSync(join(directory, reportName), { force: true })
    const projects = [...new Set(files.map(projectOf))]
    const args = [
      join(directory, "node_modules", "vitest", "vitest.mjs"),
      "run",
      "--config=vitest.workspace.ts",
      ...projects.map((name) => `--project=${name}`),
      ...files,
      ...(only === undefined ? [] : [`--testNamePattern=${only}`]),
      `--bail=${bail}`,
      "--reporter=json",
      `--outputFile=${reportName}`
    ]
    const [command, ...before] = [...through, process.execPath]
    const child = spawn(command, [...before, ...args], {
      cwd: directory,
      // A group of its own, which can be ended as a whole.
      detached: true,
      stdio: "ignore",
      env: { ...process.env, PATH: `${join(directory, "node_modules", ".bin")}${delimiter}${process.env["PATH"]}` }
    })
    const end = (signal: NodeJS.Signals) => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, signal)
    }
    let hung = false
    const timer = setTimeout(() => {
      hung = true
      end("SIGKILL")
    }, patience)
    child.on("error", (error) => resume(Effect.die(error)))
    child.on("close", () => {
      clearTimeout(timer)
      resume(Effect.sync(() => (hung ? problem(`no end within ${patience} ms`) : read(join(directory, reportName)))))
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      end("SIGTERM")
    })
  })

const problem = (text: string): Report => ({ passed: 0, failed: [], problems: [text] })

/** The project of a file of tests, as `vitest.workspace.ts` calls it. */
const projectOf = (file: string): string => /^packages\/(\w+)\//.exec(file)?.[1] ?? "faults"

/** What is looked at of vitest's report. */
const VitestReport = Schema.Struct({
  testResults: Schema.Array(
    Schema.Struct({
      name: Schema.String,
      status: Schema.String,
      message: Schema.String,
      assertionResults: Schema.Array(Schema.Struct({ status: Schema.String, fullName: Schema.String }))
    })
  )
})
const decode = Schema.decodeUnknownSync(Schema.fromJsonString(VitestReport))

const read = (file: string): Report => {
  const text = readIfThere(file)
  if (text === undefined) return problem("vitest did not report anything")
  const { testResults } = decode(text)
  const tests = testResults.flatMap(({ assertionResults, name }) =>
    assertionResults.map(({ fullName, status }) => ({ status, name: `${shortName(name)}: ${fullName.trim()}` }))
  )
  return {
    passed: tests.filter(({ status }) => status === "passed").length,
    failed: tests.filter(({ status }) => status === "failed").map(({ name }) => name),
    problems: testResults
      .filter(({ assertionResults, status }) => status === "failed" && assertionResults.length === 0)
      .map(({ message, name }) => `${shortName(name)}: ${message}`)
  }
}

const readIfThere = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

/** `core/guarantees/G1-BoundedStaleness` */
const shortName = (file: string): string =>
  file.replace(/^.*?(?:packages\/)?(\w+)\/test\//, "$1/").replace(/\.test\.ts$/, "")
