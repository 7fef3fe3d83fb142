/**
 * How many cached reads one fiber makes in a second: `sessions.get(id)` answered
 * from memory, the touch that it counts as included, on the whole stack with its
 * listener and beats running.
 *
 * In the same run, in turns with it, two floors: the least that an effect which
 * looks something up and marks it can cost, and a map lookup without any effect.
 */
import { type Session, SessionAttribute, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSession } from "@effect-pg-session/pg"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const sessionCount = 1_000
const readsPerRound = 200_000
const rounds = 51

/** A benchmark whose figures would mean nothing. */
export class NotMeasured extends Data.TaggedError("NotMeasured")<{ readonly message: string }> {}

/** Reads per second: the median of all rounds, and the slowest and fastest. */
export interface Rate {
  readonly name: string
  readonly median: number
  readonly min: number
  readonly max: number
}

const Name = SessionAttribute.make("name", Schema.String)

const rateOf = (name: string, millis: ReadonlyArray<number>): Rate => {
  const perSecond = millis.map((each) => (readsPerRound / each) * 1_000).toSorted((a, b) => a - b)
  return {
    name,
    median: perSecond[Math.floor(perSecond.length / 2)] ?? Number.NaN,
    min: perSecond[0] ?? Number.NaN,
    max: perSecond.at(-1) ?? Number.NaN
  }
}

/** Uniform over the sessions, drawn before anything is measured. */
const drawChoices = (): Uint16Array =>
  Uint16Array.from({ length: readsPerRound }, () => Math.floor(Math.random() * sessionCount))

const measure = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const created = yield* Effect.forEach(
    Array.from({ length: sessionCount }, (_, i) => i),
    (i) => sessions.create(UserId.make(`user-${i}`), { attributes: [SessionAttribute.value(Name, `name ${i}`)] }),
    { concurrency: 50 }
  )
  while (!(yield* sessions.health).synced) yield* Effect.sleep("10 millis")
  for (const { id } of created) yield* sessions.get(id)

  const ids = created.map((session) => session.id)
  const keys = created.map((session) => session.key)
  const choices = drawChoices()

  // What the floors look up: the same texts lead to the same sessions.
  const tokens = ids.map(Redacted.value)
  const marked = new Map(
    created.map((session) => [Redacted.value(session.id), { exit: Exit.succeed(session), touched: false }])
  )
  const plain = new Map(created.map((session) => [Redacted.value(session.id), session]))
  const lookUp = (token: string): Effect.Effect<Session, NotMeasured> =>
    Effect.suspend(() => {
      const entry = marked.get(token)
      if (entry === undefined) return Effect.fail(new NotMeasured({ message: "The floor's map lacks a session" }))
      entry.touched = true
      return entry.exit
    })

  // Every loop makes the same comparison, so that none is faster for not looking at its answers.
  const readHit = Effect.gen(function* () {
    let right = 0
    const start = performance.now()
    for (let i = 0; i < readsPerRound; i++) {
      const choice = choices[i] as number
      const session = yield* sessions.get(ids[choice] as Session["id"])
      if (session.key === keys[choice]) right++
    }
    return { millis: performance.now() - start, right }
  })
  const effectFloor = Effect.gen(function* () {
    let right = 0
    const start = performance.now()
    for (let i = 0; i < readsPerRound; i++) {
      const choice = choices[i] as number
      const session = yield* lookUp(tokens[choice] as string)
      if (session.key === keys[choice]) right++
    }
    return { millis: performance.now() - start, right }
  })
  const mapFloor = Effect.sync(() => {
    let right = 0
    const start = performance.now()
    for (let i = 0; i < readsPerRound; i++) {
      const choice = choices[i] as number
      if (plain.get(tokens[choice] as string)?.key === keys[choice]) right++
    }
    return { millis: performance.now() - start, right }
  })

  const variants = [
    { name: "sessions.get(id), from memory", run: readHit, millis: [] as Array<number> },
    { name: "floor: suspend, Map.get, mark", run: effectFloor, millis: [] as Array<number> },
    { name: "floor: Map.get without an effect", run: mapFloor, millis: [] as Array<number> }
  ]
  for (const { run } of variants) yield* run // once to warm up

  const before = (yield* sessions.health).cache
  for (let round = 0; round < rounds; round++) {
    // Another one begins each time, so that none always follows the same neighbour.
    for (let i = 0; i < variants.length; i++) {
      const variant = variants[(round + i) % variants.length] as (typeof variants)[number]
      const { millis, right } = yield* variant.run
      if (right !== readsPerRound) {
        return yield* new NotMeasured({ message: `${readsPerRound - right} answers of "${variant.name}" were wrong` })
      }
      variant.millis.push(millis)
    }
  }
  const after = (yield* sessions.health).cache
  if (after.misses !== before.misses || after.hits - before.hits !== rounds * readsPerRound) {
    return yield* new NotMeasured({
      message: `Not every read came from memory: ${after.hits - before.hits} hits and ${after.misses - before.misses} misses`
    })
  }
  return variants.map(({ millis, name }) => rateOf(name, millis))
})

/** Runs the benchmark on a database of its own. */
export const readHit = Effect.scoped(
  Effect.gen(function* () {
    const { url } = yield* EmbeddedPostgres.make()
    return yield* Effect.provide(measure, PgSession.layer({ url }))
  })
).pipe(
  Effect.map((rates) => {
    const [hit, floor] = rates
    const opsPerSec = hit?.median ?? Number.NaN
    return {
      title: `Cached reads in one fiber: ${sessionCount} sessions, ${rounds} rounds of ${readsPerRound.toLocaleString("en")} reads`,
      rates,
      figures: {
        "read.hit.opsPerSec": Math.round(opsPerSec),
        "read.hit.vsFloor": Math.round((opsPerSec / (floor?.median ?? Number.NaN)) * 1_000) / 1_000
      }
    }
  })
)
