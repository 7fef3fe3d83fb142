/**
 * What the sessions of the benchmarks hold: one attribute `key = "value<i>"`, or ten
 * attributes of 200 characters each, 2 KB. 1 000 sessions of distinct users unless a suite says otherwise.
 */
import { Session, SessionAttribute, type Sessions, UserId } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { NotMeasured } from "./Interleaved.ts"

export const sessionCount = 1_000

/** The attributes of a session, and how to tell that they are those of session `i`. */
export interface Workload {
  readonly title: string
  /** Stands in the names of figures that exist for both workloads. */
  readonly infix: string
  /** The first is the one that updates write. */
  readonly attributes: readonly [SessionAttribute<string>, ...ReadonlyArray<SessionAttribute<string>>]
  readonly value: (session: number, attribute: number) => string
  /** The same as an expression of SQL about the session `i`. */
  readonly valueSql: (attribute: number) => string
}

const alphabet = "abcdefghijklmnopqrstuvwxyz"

/** So many attributes of texts. */
export const attributesOf = (count: number): Workload["attributes"] => [
  SessionAttribute.make(count === 1 ? "key" : "key0", Schema.String),
  ...Array.from({ length: count - 1 }, (_, index) => SessionAttribute.make(`key${index + 1}`, Schema.String))
]

export const one: Workload = {
  title: "one attribute",
  infix: "",
  attributes: attributesOf(1),
  value: (session) => `value${session}`,
  valueSql: () => "'value' || i"
}

/** As many attributes as one likes; texts of the same length that differ from the first character on. */
export const many = (count: number, characters: number): Workload => ({
  title: `${count} attributes of ${characters} characters`,
  infix: `attributes${count}.`,
  attributes: attributesOf(count),
  value: (session, attribute) => `${session}/${attribute}/`.padEnd(characters, alphabet),
  valueSql: (attribute) => `rpad(i || '/${attribute}/', ${characters}, '${alphabet}')`
})

export const ten: Workload = { ...many(10, 200), title: "ten attributes, 2 KB", infix: "tenAttributes." }

/** Session `i` as a plain object of its attributes, as other stores keep it. */
export const documentOf = ({ attributes, value }: Workload, session: number): Record<string, string> =>
  Object.fromEntries(attributes.map(({ name }, index) => [name, value(session, index)]))

/** What `create` is given for session `i`. */
export const attributeValues = ({ attributes, value }: Workload, session: number) =>
  attributes.map((attribute, index) => SessionAttribute.value(attribute, value(session, index)))

export const userOf = (session: number): UserId => UserId.make(`user-${session}`)

/** Creates the sessions, in order. */
export const create = (sessions: Sessions, workload: Workload, count = sessionCount) =>
  Effect.forEach(
    Array.from({ length: count }, (_, i) => i),
    (i) => sessions.create(userOf(i), { attributes: attributeValues(workload, i) }),
    { concurrency: 64 }
  )

/** Waits until a node serves from memory. */
export const synced = Effect.fnUntraced(function* (sessions: Sessions) {
  while (!(yield* sessions.health).synced) yield* Effect.sleep("10 millis")
})

/** Fails unless a session says what session `i` must say. */
export const verify = Effect.fnUntraced(function* (session: Session, workload: Workload, i: number) {
  for (const [index, attribute] of workload.attributes.entries()) {
    const value = yield* Session.get(session, attribute)
    if (value !== workload.value(i, index)) return yield* new NotMeasured({ message: `Session ${i} holds ${value}` })
  }
})

/** Uniform over so many sessions, drawn before anything is measured. */
export const drawChoices = (length: number, sessions = sessionCount): Uint32Array =>
  Uint32Array.from({ length }, () => Math.floor(Math.random() * sessions))

/** The operations `0` to `count - 1` by so many callers at once; answers how many did what they should. */
export const shared = <E, R>(
  count: number,
  callers: number,
  operation: (index: number) => Effect.Effect<boolean, E, R>
): Effect.Effect<number, E, R> =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: callers }, (_, caller) => caller),
      (caller) =>
        Effect.gen(function* () {
          let right = 0
          for (let i = caller; i < count; i += callers) if (yield* operation(i)) right++
          return right
        }),
      { concurrency: callers }
    ),
    (counts) => counts.reduce((sum, right) => sum + right, 0)
  )

/** The same for operations that are promises, without an effect in the way. */
export const sharedPromise = (
  count: number,
  callers: number,
  operation: (index: number) => Promise<boolean>
): Effect.Effect<number> =>
  Effect.promise(async () => {
    let right = 0
    await Promise.all(
      Array.from({ length: callers }, async (_, caller) => {
        for (let i = caller; i < count; i += callers) if (await operation(i)) right++
      })
    )
    return right
  })
