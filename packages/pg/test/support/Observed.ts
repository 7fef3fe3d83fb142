/** Everything that a program's operators could see: logs at every level and in every format, and spans. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { MinimumLogLevel, TracerEnabled } from "effect/References"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"

export interface Observed {
  /** All logs and spans as text, in every format there is. */
  readonly text: () => string
  /** How many statements were sent, by their spans, since the last call. */
  readonly statements: () => number
  /** How many lines were logged. */
  readonly lines: () => number
  /** Runs an effect, with all that it starts, under observation. */
  readonly observe: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Prints a value in all the ways in which people print values. */
export const printed = (value: unknown): string =>
  [
    String(value),
    inspect(value, { depth: 20, showHidden: true }),
    JSON.stringify(value, (_, member: unknown) => (typeof member === "bigint" ? String(member) : member))
  ].join("\n")

export const make = (): Observed => {
  const logs: Array<string> = []
  const spans: Array<Tracer.NativeSpan> = []
  let counted = 0
  const logger = Logger.make<unknown, void>((options) => {
    logs.push(
      Logger.formatSimple.log(options),
      Logger.formatLogFmt.log(options),
      Logger.formatJson.log(options),
      inspect(Logger.formatStructured.log(options), { depth: 20 }),
      inspect([options.message, options.cause], { depth: 20, showHidden: true })
    )
  })
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const statements = () => spans.filter(({ name }) => name === "effect-pg-session.statement").length
  return {
    text: () =>
      logs
        .concat(
          spans.map(({ attributes, events, name, status }) =>
            [name, inspect(attributes, { depth: 20 }), inspect(events, { depth: 20 }), printed(status)].join("\n")
          )
        )
        .join("\n"),
    statements: () => {
      const all = statements()
      const since = all - counted
      counted = all
      return since
    },
    lines: () => logs.length,
    observe: (effect) =>
      effect.pipe(
        Effect.provideService(Logger.CurrentLoggers, new Set([logger])),
        Effect.provideService(MinimumLogLevel, "All"),
        Effect.provideService(TracerEnabled, true),
        Effect.provideService(Tracer.Tracer, tracer)
      )
  }
}
