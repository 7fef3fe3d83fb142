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
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { measure, NotMeasured, timeRatio } from "../Interleaved.ts"
import type { Suite } from "../Suite.ts"

const sessionCount = 1_000
const readsPerRound = 200_000

const Name = SessionAttribute.make("name", Schema.String)

/** Uniform over the sessions, drawn before anything is measured. */
const drawChoices = (): Uint16Array =>
  Uint16Array.from({ length: readsPerRound }, () => Math.floor(Math.random() * sessionCount))

const prepare = (rounds: number) =>
  Effect.gen(function* () {
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
      for (let i = 0; i < readsPerRound; i++) {
        const choice = choices[i] as number
        const session = yield* sessions.get(ids[choice] as Session["id"])
        if (session.key === keys[choice]) right++
      }
      return right
    })
    const effectFloor = Effect.gen(function* () {
      let right = 0
      for (let i = 0; i < readsPerRound; i++) {
        const choice = choices[i] as number
        const session = yield* lookUp(tokens[choice] as string)
        if (session.key === keys[choice]) right++
      }
      return right
    })
    const mapFloor = Effect.sync(() => {
      let right = 0
      for (let i = 0; i < readsPerRound; i++) {
        const choice = choices[i] as number
        if (plain.get(tokens[choice] as string)?.key === keys[choice]) right++
      }
      return right
    })

    const before = (yield* sessions.health).cache
    const measured = yield* measure(
      [
        { name: "sessions.get(id), from memory", operations: readsPerRound, run: readHit },
        { name: "floor: suspend, Map.get, mark", operations: readsPerRound, run: effectFloor },
        { name: "floor: Map.get without an effect", operations: readsPerRound, run: mapFloor }
      ],
      rounds
    )
    const after = (yield* sessions.health).cache
    if (after.misses !== before.misses || after.hits - before.hits !== (rounds + 1) * readsPerRound) {
      return yield* new NotMeasured({
        message: `Not every read came from memory: ${after.hits - before.hits} hits and ${after.misses - before.misses} misses`
      })
    }
    return measured
  })

export const suite: Suite = {
  name: "read-hit",
  run: ({ rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make()
        const count = rounds(51)
        const rows = yield* Effect.provide(prepare(count), PgSession.layer({ url }))
        const [hit, floor] = rows
        return {
          tables: [{ title: `Cached reads in one fiber, ${sessionCount} sessions`, rows }],
          figures: { "read.hit.opsPerSec": Math.round(hit.perSecond), "read.hit.vsFloor": timeRatio(hit, floor) }
        }
      })
    )
}
