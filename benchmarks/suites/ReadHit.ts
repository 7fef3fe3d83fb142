/**
 * How many cached reads one fiber makes in a second: `sessions.get(id)` answered
 * from memory, the touch that it counts as included, on the whole stack with its
 * listener and beats running.
 *
 * In the same run, in turns with it: the least that an effect which looks something up and marks it can cost; a
 * map lookup without any effect; and Redis on the same machine, one question at a time and 64 at once.
 */
import { Session } from "@effect-pg-session/core"
import { EmbeddedPostgres } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import { type Contender, measure, NotMeasured, rateRatio, runs, timeRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Redis from "../Redis.ts"
import { chart, type Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const readsPerRound = 200_000
const sequential = 400
const pipelined = 6_400

const redisContenders = (redis: Redis.Client, workload: Workload.Workload, choices: Uint32Array) => {
  const expected = Array.from({ length: Workload.sessionCount }, (_, i) => workload.value(i, 0))
  const [{ name }] = workload.attributes
  const get = async (index: number) => {
    const choice = choices[index] as number
    const text = await redis.get(`session:${choice}`)
    const session = JSON.parse(text ?? "{}") as Readonly<Record<string, string>>
    return session[name] === expected[choice]
  }
  return [
    { name: "Redis GET and parse", operations: sequential, run: Workload.sharedPromise(sequential, 1, get) },
    { name: "Redis GET and parse, 64 at once", operations: pipelined, run: Workload.sharedPromise(pipelined, 64, get) }
  ] as const
}

const measureWorkload = Effect.fnUntraced(function* (
  url: Node.Url,
  redis: Redis.Client | undefined,
  workload: Workload.Workload,
  rounds: number
) {
  const sessions = yield* Node.node({ url })
  const created = yield* Workload.create(sessions, workload)
  for (const [i, { id }] of created.entries()) yield* Workload.verify(yield* sessions.get(id), workload, i)

  const ids = created.map((session) => session.id)
  const keys = created.map((session) => session.key)
  const values = keys.map((_, i) => workload.value(i, 0))
  const choices = Workload.drawChoices(readsPerRound)
  const [attribute] = workload.attributes

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
  const readAttribute = Effect.gen(function* () {
    let right = 0
    for (let i = 0; i < readsPerRound; i++) {
      const choice = choices[i] as number
      const session = yield* sessions.get(ids[choice] as Session["id"])
      if ((yield* Session.get(session, attribute)) === values[choice]) right++
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

  if (redis !== undefined) {
    for (const i of keys.keys()) {
      yield* Effect.promise(() => redis.set(`session:${i}`, JSON.stringify(Workload.documentOf(workload, i))))
    }
  }
  const hit = { name: "sessions.get(id), from memory", operations: readsPerRound, run: readHit }
  const floor = { name: "floor: suspend, Map.get, mark", operations: readsPerRound, run: effectFloor }
  const peers: ReadonlyArray<Contender<unknown>> = [
    hit,
    floor,
    { name: "  and one of its attributes", operations: readsPerRound, run: readAttribute },
    ...(redis === undefined ? [] : redisContenders(redis, workload, choices))
  ]
  const before = (yield* sessions.health).cache
  const floors = yield* measure(
    [hit, floor, { name: "floor: Map.get without an effect", operations: readsPerRound, run: mapFloor }],
    rounds
  )
  // Fewer: what takes microseconds needs no such care.
  const fewer = Math.max(3, Math.round(rounds / 4))
  const beside = yield* measure(peers, fewer)
  const after = (yield* sessions.health).cache
  const hits = (runs(readsPerRound, rounds) + 2 * runs(readsPerRound, fewer)) * readsPerRound
  if (after.misses !== before.misses || after.hits - before.hits !== hits) {
    return yield* new NotMeasured({
      message: `Not every read came from memory: ${after.hits - before.hits} hits and ${after.misses - before.misses} misses`
    })
  }
  const [ours, beneath, withAttribute, single, together] = beside
  if (ours === undefined || beneath === undefined || withAttribute === undefined) {
    return yield* new NotMeasured({ message: "No reads were measured" })
  }
  const id = (name: string) => `read.hit.${workload.infix}${name}`
  const floorId = (name: string) => `read.floor.${workload.infix}${name}`
  return {
    table: {
      title: `Cached reads in one fiber, ${Workload.sessionCount} sessions, ${workload.title}`,
      rows: [...floors, ...beside.slice(2)]
    },
    figures: {
      [id("opsPerSec")]: Math.round(floors[0].perSecond),
      [id("vsFloor")]: timeRatio(floors[0], floors[1]),
      [floorId("opsPerSec")]: Math.round(floors[1].perSecond),
      [id("attribute.opsPerSec")]: Math.round(withAttribute.perSecond),
      ...(single === undefined
        ? {}
        : { [id("vsRedis")]: rateRatio(ours, single), [floorId("vsRedis")]: rateRatio(beneath, single) }),
      ...(together === undefined ? {} : { [id("vsRedisPipelined64")]: rateRatio(ours, together) })
    }
  }
}, Effect.scoped)

export const suite: Suite = {
  name: "read-hit",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* EmbeddedPostgres.make()
        const redis = Redis.available ? yield* Redis.make("none") : undefined
        const one = yield* measureWorkload(url, redis, Workload.one, rounds(51))
        const ten = quick ? undefined : yield* measureWorkload(url, redis, Workload.ten, rounds(15))
        return {
          tables: [one.table, ...(ten === undefined ? [] : [ten.table])],
          figures: { ...one.figures, ...ten?.figures },
          bars: {
            reads: chart(
              "Sessions read from memory by one fiber, one attribute",
              "reads a second",
              one.table.rows.filter(({ name }) => !name.startsWith("floor")),
              (name) => !name.startsWith("Redis")
            )
          },
          notes: Redis.available ? [] : [Redis.missing]
        }
      })
    )
}
