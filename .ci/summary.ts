/**
 * Prints `N passed, N failed[, N skipped]` from a report of vitest's JSON
 * reporter, and exits with 1 if anything failed or no test ran. A file that
 * could not even be loaded counts as a failed test, and so does a run that ended
 * with a failure that no test accounts for.
 *
 * Usage: node .ci/summary.ts REPORT STATUS, with vitest's exit status.
 */
import * as Schema from "effect/Schema"
import { existsSync, readFileSync } from "node:fs"

const Report = Schema.fromJsonString(
  Schema.Struct({
    numPassedTests: Schema.Int,
    numFailedTests: Schema.Int,
    numPendingTests: Schema.Int,
    numTodoTests: Schema.Int,
    testResults: Schema.Array(
      Schema.Struct({
        status: Schema.String,
        assertionResults: Schema.Array(Schema.Struct({ status: Schema.String }))
      })
    )
  })
)

const [file = "", status = "1"] = process.argv.slice(2)
const report = existsSync(file) ? Schema.decodeSync(Report)(readFileSync(file, "utf8")) : undefined

const brokenFiles = (report?.testResults ?? []).filter(
  (result) => result.status === "failed" && !result.assertionResults.some((test) => test.status === "failed")
).length
const passed = report?.numPassedTests ?? 0
const counted = (report?.numFailedTests ?? 0) + brokenFiles
const failed = counted === 0 && status !== "0" ? 1 : counted
const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0)

process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
