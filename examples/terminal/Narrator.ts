/**
 * What the demo prints: plain text of at most 96 columns with figures in one
 * column, coloured only on a terminal that wants it (`NO_COLOR` is respected).
 * Everything that the story claims is an expectation; one that does not hold is
 * printed, remembered, and decides about the exit status.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { styleText } from "node:util"

const width = 96
const margin = "   "
const whoColumn = 9
const figureColumn = 80

const dim = (text: string) => styleText("dim", text)
const bold = (text: string) => styleText("bold", text)

const fold = (text: string, columns: number): ReadonlyArray<string> => {
  const lines = [""]
  for (const word of text.split(/\s+/)) {
    const line = lines.at(-1) ?? ""
    if (line !== "" && line.length + 1 + word.length > columns) lines.push(word)
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`
  }
  return lines
}

/** A duration with three digits that count, in the unit that suits it. */
export const duration = (millis: number): string => {
  const [value, unit] = millis < 0.1 ? [millis * 1_000, "µs"] : [millis, "ms"]
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${unit}`
}

/** The middle one of several durations. */
export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

let steps = 0
const failures: Array<string> = []

/** The expectations that did not hold. */
export const failed: Effect.Effect<ReadonlyArray<string>> = Effect.succeed(failures)

/** The headline. */
export const headline = (text: string) => Console.log(`\n${bold(text)}\n`)

/** Begins a step. */
export const step = (title: string) => Effect.suspend(() => Console.log(`\n${bold(`${++steps}. ${title}`)}`))

/** Explains, in sentences. */
export const say = (text: string) =>
  Console.log(
    fold(text, width - margin.length)
      .map((line) => dim(margin + line))
      .join("\n")
  )

/** One line: who, what and, where there is one, a figure on the right. */
export const tell = (who: string, what: string, figure?: string) => {
  const left = margin + who.padEnd(whoColumn) + what
  return Console.log(
    figure === undefined ? left : left + ` ${figure}`.padStart(Math.max(1, figureColumn - left.length), ".")
  )
}

/** One line with a measured duration. */
export const measured = (who: string, what: string, millis: number) => tell(who, `${what} `, duration(millis))

/** Somebody's own words. */
export const quote = (who: string, text: string) =>
  Console.log(
    fold(text, width - margin.length - whoColumn)
      .map((line, index) => margin + (index === 0 ? who : "").padEnd(whoColumn) + styleText("yellow", line))
      .join("\n")
  )

/** Something that the story claims. */
export const expect = (holds: boolean, claim: string) => {
  if (!holds) failures.push(claim)
  const verdict = holds ? styleText("green", "ok".padEnd(whoColumn)) : styleText("red", "FAILED".padEnd(whoColumn))
  return Console.log(
    fold(claim, width - margin.length - whoColumn)
      .map((line, index) => margin + (index === 0 ? verdict : " ".repeat(whoColumn)) + line)
      .join("\n")
  )
}
