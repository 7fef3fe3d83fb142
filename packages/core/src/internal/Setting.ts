/**
 * How one setting is read and checked, whether it comes from code or, as text,
 * from a configuration provider. A table of settings (`SessionConfig`, and the
 * connection settings of adapters) is resolved in one go.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { InvalidSessionConfig } from "../SessionError.ts"

/** A setting of type `A`. */
export interface Setting<A> {
  readonly default: A
  /** What is allowed, in words. */
  readonly allowed: string
  /** `undefined`: not allowed. */
  readonly parse: (input: unknown) => A | undefined
}

/** A table of settings, and what it resolves to. */
export type Table<S> = { readonly [Name in keyof S]: Setting<S[Name]> }

const within = (value: number, min: number, max: number): number | undefined =>
  value >= min && value <= max ? value : undefined

/** A whole number. */
export const integer = (options: {
  readonly default: number
  readonly min: number
  readonly max: number
}): Setting<number> => ({
  default: options.default,
  allowed: `a whole number from ${options.min} to ${options.max}`,
  parse: (input) => {
    const value = typeof input === "string" && /^-?\d+$/.test(input) ? Number(input) : input
    return typeof value === "number" && Number.isSafeInteger(value)
      ? within(value, options.min, options.max)
      : undefined
  }
})

/** A duration in any of Effect's notations, resolved to milliseconds. */
export const duration = (options: {
  readonly default: number
  readonly min: number
  readonly max: number
}): Setting<number> => ({
  default: options.default,
  allowed:
    options.max === Infinity
      ? `a duration of at least ${Duration.format(Duration.millis(options.min))}, or "Infinity"`
      : `a duration from ${Duration.format(Duration.millis(options.min))} to ${Duration.format(Duration.millis(options.max))}`,
  parse: (input) => {
    const parsed = Duration.fromInput(input as Duration.Input)
    return Option.isNone(parsed) ? undefined : within(Duration.toMillis(parsed.value), options.min, options.max)
  }
})

/** How long to wait for something: "none" (not at all), "forever", or a duration in any of Effect's notations; in milliseconds. */
export const patience = (options: { readonly default: "none" | number }): Setting<"none" | number> => ({
  default: options.default,
  allowed: '"none", "forever" or a duration',
  parse: (input) => {
    if (input === "none") return "none"
    if (input === "forever") return Infinity
    const parsed = Duration.fromInput(input as Duration.Input)
    return Option.isNone(parsed) ? undefined : within(Duration.toMillis(parsed.value), 0, Infinity)
  }
})

/** One of a few words. */
export const choice = <A extends string>(options: {
  readonly default: A
  readonly of: ReadonlyArray<A>
}): Setting<A> => ({
  default: options.default,
  allowed: options.of.map((word) => JSON.stringify(word)).join(" or "),
  parse: (input) => options.of.find((word) => word === input)
})

/** True or false. */
export const boolean = (options: { readonly default: boolean }): Setting<boolean> => ({
  default: options.default,
  allowed: "true or false",
  parse: (input) =>
    input === true || input === "true" ? true : input === false || input === "false" ? false : undefined
})

/** Any text that passes a check. */
export const text = (options: {
  readonly default: string
  readonly allowed: string
  readonly isAllowed: (text: string) => boolean
}): Setting<string> => ({
  default: options.default,
  allowed: options.allowed,
  parse: (input) => (typeof input === "string" && options.isAllowed(input) ? input : undefined)
})

/** Checks every given value, and fills in the defaults. The first bad one is the error. */
export const resolve = <S extends object>(
  table: Table<S>,
  options: { readonly [Name in keyof S]?: unknown }
): Effect.Effect<S, InvalidSessionConfig> =>
  Effect.suspend(() => {
    const settings: Partial<S> = {}
    for (const name in table) {
      const input = options[name]
      const value = input === undefined ? table[name].default : table[name].parse(input)
      if (value === undefined) {
        return Effect.fail(
          new InvalidSessionConfig({ setting: name, value: print(input), allowed: table[name].allowed })
        )
      }
      settings[name] = value
    }
    return Effect.succeed(settings as S)
  })

/** Reads a table as text: `maxStaleness` under the prefix `SESSION` is `SESSION_MAX_STALENESS`. */
export const fromConfig = <S extends object>(
  prefix: string,
  table: Table<S>
): Config.Config<{ readonly [Name in keyof S]?: never }> => {
  const configs: Record<string, Config.Config<string | undefined>> = {}
  for (const name in table) {
    configs[name] = Config.String(`${prefix}_${constantCase(name)}`).pipe(Config.withDefault(undefined))
  }
  // The text of a setting is not of its type, but of `Table.parse`'s: `resolve` takes unknowns.
  return Config.all(configs) as Config.Config<{ readonly [Name in keyof S]?: never }>
}

const constantCase = (name: string): string => name.replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase()

const print = (input: unknown): string => {
  if (Redacted.isRedacted(input)) return "<redacted>"
  if (Duration.isDuration(input)) return Duration.format(input)
  return typeof input === "string" ? JSON.stringify(input) : String(input)
}
