/**
 * A typed attribute of sessions: a name, a schema that says what it holds, and
 * how long a value lives. Attributes are defined once, at module level, and used
 * to read (`Session.get`) and to write (`Session.set`).
 *
 * Values go through the schema's JSON codec, so whatever the schema can encode
 * (a `Map`, a `bigint`, a `Date`, a class) can be stored; what JSON cannot carry
 * is refused with `AttributeInvalid`, never changed.
 */
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { deepFreeze } from "./internal/DeepFreeze.ts"
import { stringify } from "./internal/EncodedJson.ts"
import { describe } from "./internal/SchemaProblem.ts"
import { AttributeInvalid, AttributeNotFound, InvalidSessionConfig } from "./SessionError.ts"
import { isStorableName, maxNameLength } from "./SessionId.ts"

const TypeId = "~effect-pg-session/SessionAttribute"

/**
 * A typed attribute. `A` is the type of its values; `Missing` is what reading an
 * absent one fails with: `AttributeNotFound`, or nothing where there is an initial
 * value.
 */
export interface SessionAttribute<in out A, out Missing = AttributeNotFound> {
  readonly [TypeId]: {
    readonly value: (_: A) => A
    readonly missing: () => Missing
  }
  readonly name: string
  /** How long a written value lives unless the write says otherwise; `undefined` means as long as the session. */
  readonly timeToLive: Duration.Duration | undefined
}

/** A value for an attribute, ready to be stored: what `create` takes. */
export interface AttributeValue {
  readonly attribute: SessionAttribute<never, unknown>
  /** @internal */
  readonly encode: () => Result.Result<string, AttributeInvalid>
  readonly timeToLive: Duration.Duration | undefined
}

/** Options of {@link make}. */
export interface Options {
  /** How long a value lives after it was written. Default: as long as its session. Enforced when it is read. */
  readonly timeToLive?: Duration.Input | undefined
}

/** A schema that needs no services; its transformations must be synchronous. */
export type AttributeSchema<A> = Schema.ConstraintCodec<A, unknown, never, never>

class AttributeImpl<A, Missing> implements SessionAttribute<A, Missing> {
  // Carries types only.
  readonly [TypeId]: SessionAttribute<A, Missing>[typeof TypeId] = variance as never
  readonly name: string
  readonly timeToLive: Duration.Duration | undefined
  readonly missing: () => Exit.Exit<A, Missing>
  readonly decodeJson: (input: unknown) => Result.Result<A, Schema.SchemaError>
  readonly encodeJson: (input: A) => Result.Result<unknown, Schema.SchemaError>

  constructor(
    name: string,
    schema: AttributeSchema<A>,
    timeToLive: Duration.Duration | undefined,
    missing: () => Exit.Exit<A, Missing>
  ) {
    this.name = name
    this.timeToLive = timeToLive
    this.missing = missing
    const codec = Schema.toCodecJson(schema)
    this.decodeJson = Schema.decodeUnknownResult(codec)
    this.encodeJson = Schema.encodeUnknownResult(codec)
  }

  toString(): string {
    return `SessionAttribute(${this.name})`
  }
}

const variance = {
  value: (_: never) => _,
  missing: () => undefined
}

const make: {
  <A>(
    name: string,
    schema: AttributeSchema<A>,
    options: Options & { readonly initial: NoInfer<() => A> }
  ): SessionAttribute<A, never>
  <A>(name: string, schema: AttributeSchema<A>, options?: Options): SessionAttribute<A>
} = <A>(
  name: string,
  schema: AttributeSchema<A>,
  options?: Options & { readonly initial?: (() => A) | undefined }
): SessionAttribute<A, never> & SessionAttribute<A> => {
  if (!isStorableName(name)) {
    throw new InvalidSessionConfig({
      setting: "attribute name",
      value: JSON.stringify(name.length > 40 ? `${name.slice(0, 40)}…` : name),
      allowed: `1 to ${maxNameLength} characters without NUL or unpaired surrogates`
    })
  }
  const timeToLive = timeToLiveOf(options?.timeToLive)
  const initial = options?.initial
  const notFound = Exit.fail(new AttributeNotFound({ attribute: name }))
  const missing = initial === undefined ? () => notFound : () => Exit.succeed(initial())
  return new AttributeImpl<A, AttributeNotFound>(name, schema, timeToLive, missing) as never
}

const timeToLiveOf = (input: Duration.Input | undefined): Duration.Duration | undefined => {
  if (input === undefined) return undefined
  const duration = Duration.fromInputUnsafe(input)
  if (!Duration.isFinite(duration)) return undefined
  if (Duration.toMillis(duration) < 1) {
    throw new InvalidSessionConfig({
      setting: "timeToLive",
      value: Duration.format(duration),
      allowed: "at least 1 millisecond"
    })
  }
  return duration
}

const value = <A, Missing>(
  attribute: SessionAttribute<A, Missing>,
  value: NoInfer<A>,
  options?: Options
): AttributeValue => ({
  attribute: attribute as never,
  encode: () => encode(attribute, value),
  timeToLive: options?.timeToLive === undefined ? attribute.timeToLive : timeToLiveOf(options.timeToLive)
})

/**
 * Constructors of attributes and of their values.
 *
 * - `make(name, schema, options?)` defines an attribute. The name is 1 to 255
 *   characters; anything else throws `InvalidSessionConfig` where it is defined.
 *   With `initial`, reading it never fails with `AttributeNotFound`.
 * - `value(attribute, value, options?)` pairs an attribute with a value, for
 *   `SessionStore.create`.
 *
 * @example
 * ```ts
 * const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
 * const Elevated = SessionAttribute.make("elevated_access", Schema.Boolean, { timeToLive: "15 minutes" })
 * ```
 */
export const SessionAttribute = { make, value }

// ---------------------------------------------------------------------------
// For the library's own modules
// ---------------------------------------------------------------------------

const implementation = <A, Missing>(attribute: SessionAttribute<A, Missing>): AttributeImpl<A, Missing> =>
  attribute as AttributeImpl<A, Missing>

/** @internal What reading the attribute yields while it is absent. */
export const whenMissing = <A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, Missing> =>
  implementation(attribute).missing()

/** @internal The JSON text that is stored for a value. */
export const encode = <A, Missing>(
  attribute: SessionAttribute<A, Missing>,
  value: A
): Result.Result<string, AttributeInvalid> => {
  const invalid = (issue: string) => new AttributeInvalid({ attribute: attribute.name, operation: "encode", issue })
  return Result.try({
    try: () => implementation(attribute).encodeJson(value),
    catch: () => invalid("its encoder threw, or is asynchronous")
  }).pipe(
    Result.flatMap(Result.mapError((error) => invalid(describe(error.issue)))),
    Result.flatMap((json) => Result.mapError(stringify(json), invalid))
  )
}

/** @internal A decoded value, and whether one copy may be handed to every reader. */
export interface Decoded<A> {
  readonly exit: Exit.Exit<A, AttributeInvalid>
  readonly shareable: boolean
}

/** @internal Decodes and freezes what is stored. */
export const decode = <A, Missing>(attribute: SessionAttribute<A, Missing>, text: string): Decoded<A> => {
  const invalid = (issue: string) => new AttributeInvalid({ attribute: attribute.name, operation: "decode", issue })
  const decoded = Result.try({
    try: () => implementation(attribute).decodeJson(parseJson(text)),
    catch: () => invalid("it is not JSON, or its decoder threw or is asynchronous")
  }).pipe(Result.flatMap(Result.mapError((error) => invalid(describe(error.issue)))))
  return Result.isSuccess(decoded)
    ? { exit: Exit.succeed(decoded.success), shareable: deepFreeze(decoded.success) }
    : { exit: Exit.fail(decoded.failure), shareable: true }
}

// A plain string is cut out of its JSON text instead of being copied, so that both take memory once.
const parseJson = (text: string): unknown => (plainString.test(text) ? text.slice(1, -1) : JSON.parse(text))

const plainString = /^"[^"\\\p{Cc}]*"$/u
