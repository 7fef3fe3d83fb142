/**
 * Updates, checked and notified: one caller against one bare statement that does the same to a row, and 64 callers
 * against a statement for each. Then the whole update of a request, which reads first: `get`, set, `update`, against
 * HGETALL and HSET of all fields in a Redis that syncs every write to disk. Everything durable.
 *
 * At the end, which share of all updates of rows, those of activity included, touched no index (HOT).
 */
import { Session } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import { type Contender, measure, NotMeasured, rateRatio, runs, timeRatio } from "../Interleaved.ts"
import * as Node from "../Node.ts"
import * as Redis from "../Redis.ts"
import { chart, type Suite } from "../Suite.ts"
import * as Workload from "../Workload.ts"

const { sessionCount } = Workload
const callers = 64
const alone = 100
const together = 2_048
/** As many as a node has in flight. */
const statementsInFlight = 3

const measureWorkload = Effect.fnUntraced(function* (
  url: Node.Url,
  redis: Redis.Client | undefined,
  workload: Workload.Workload,
  rounds: (full: number) => number
) {
  const sessions = yield* Node.node({ url })
  const sql = yield* Node.client(url)
  const [attribute] = workload.attributes
  yield* sql`drop table if exists bench_bare`
  yield* sql`create table bench_bare (key text primary key, version bigint not null, attributes jsonb not null) with (fillfactor = 70)`
  const documents = Array.from({ length: sessionCount }, (_, i) => Workload.documentOf(workload, i))
  const stored = documents.map((document) =>
    Object.fromEntries(Object.entries(document).map(([name, v]) => [name, { v, n: "1" }]))
  )
  yield* sql`insert into bench_bare select 'k' || (d.n - 1), 1, d.value
    from jsonb_array_elements(${JSON.stringify(stored)}::text::jsonb) with ordinality d (value, n)`
  const redisKey = (i: number) => `${workload.infix}session:${i}`
  if (redis !== undefined) {
    yield* Effect.promise(() => Promise.all(documents.map((document, i) => redis.hSet(redisKey(i), document))))
  }
  const latest = [...(yield* Workload.create(sessions, workload))]
  const ids = latest.map(({ id }) => id)
  // Of the same length as what they replace.
  let counter = 0
  const nextValue = () => workload.value(counter++, 0)

  // Callers work on sessions of their own, as those of different users do, however far one is behind.
  const own = (index: number) => index % (sessionCount - (sessionCount % callers))
  const patch = (value: string) => JSON.stringify({ [attribute.name]: { v: value, n: "1" } })
  const textArray = (values: ReadonlyArray<string>) => `{${values.map((value) => JSON.stringify(value)).join(",")}}`
  const update = (index: number) =>
    Effect.gen(function* () {
      const session = latest[own(index)] as Session
      const saved = yield* sessions.update(Session.set(session, attribute, nextValue()))
      latest[own(index)] = saved
      return saved.version === session.version + 1n
    })
  const bare = (index: number) =>
    Effect.map(
      sql`with u as (
          update bench_bare set version = version + 1,
            attributes = jsonb_set(attributes, ${`{${attribute.name},v}`}::text::text[], to_jsonb(${nextValue()}::text))
          where key = ${`k${own(index)}`} returning *
        )
        select u.*, (select count(*) from (select pg_notify('bench', 'U' || u.key || u.version)) n) from u`,
      (rows) => rows.length === 1
    )
  const readAndUpdate = (index: number) =>
    Effect.gen(function* () {
      const session = yield* sessions.get(ids[own(index)] as Session["id"])
      const saved = yield* sessions.update(Session.set(session, attribute, nextValue()))
      return saved.version === session.version + 1n
    })
  const redisUpdate = (client: Redis.Client) => async (index: number) => {
    const key = redisKey(own(index))
    const fields = await client.hGetAll(key)
    // Nothing but a new field would be counted.
    const added = await client.hSet(key, { ...fields, [attribute.name]: nextValue() })
    return added === 0 && Object.keys(fields).length === workload.attributes.length
  }

  const single = yield* measure(
    [
      { name: "update, one caller", operations: alone, run: Workload.shared(alone, 1, update) },
      { name: "floor: UPDATE ... RETURNING, pg_notify", operations: alone, run: Workload.shared(alone, 1, bare) }
    ],
    rounds(21)
  )
  const many = yield* measure(
    [
      {
        name: `update, ${callers} callers`,
        operations: together,
        run: Workload.shared(together, callers, update)
      },
      {
        name: "a statement each, the same callers",
        operations: together,
        run: Workload.shared(together, callers, bare)
      }
    ],
    rounds(9)
  )
  /** As many rows with each statement as there are callers, and nothing looked at: what PostgreSQL can do on this machine. */
  const bareMany = (index: number) => {
    const rows = Array.from({ length: callers }, (_, i) => own(index * callers + i))
    return Effect.map(
      sql`with u as (
          update bench_bare b set version = b.version + 1, attributes = b.attributes || i.patch::jsonb
          from unnest(${`{${rows.map((i) => `k${i}`).join(",")}}`}::text::text[], ${textArray(rows.map(() => patch(nextValue())))}::text::text[]) i (key, patch)
          where b.key = i.key returning b.key, b.version
        )
        select count(*)::int as changed, (select count(*) from (select pg_notify('bench', string_agg('U' || u.key || u.version, ';')) from u) n) from u`,
      ([row]) => row?.changed === callers
    )
  }
  const floorOf = (count: number): Effect.Effect<number, unknown> =>
    count === 1
      ? Workload.shared(alone, 1, bare)
      : Effect.map(Workload.shared(together / callers, statementsInFlight, bareMany), (right) => right * callers)
  const both = (operations: number, count: number): ReadonlyArray<Contender<unknown>> => [
    {
      name: `get, set, update, ${count === 1 ? "one caller" : `${count} callers`}`,
      operations,
      run: Workload.shared(operations, count, readAndUpdate)
    },
    {
      name: `floor: ${count === 1 ? "the same UPDATE" : `UPDATE of ${callers} rows`}, pg_notify`,
      operations,
      run: floorOf(count)
    },
    ...(redis === undefined
      ? []
      : [
          {
            name: `Redis HGETALL, HSET, ${count === 1 ? "one caller" : `${count} callers`}`,
            operations,
            run: Workload.sharedPromise(operations, count, redisUpdate(redis))
          }
        ])
  ]
  const singleWhole = yield* measure(both(alone, 1), rounds(21))
  const manyWhole = yield* measure(both(together, callers), rounds(9))

  // Then as much activity as there were changes, of the same sessions.
  const changes = 2 * (runs(alone, rounds(21)) * alone + runs(together, rounds(9)) * together)
  for (let pass = 0; pass < changes / sessionCount; pass++) {
    for (const id of ids) yield* sessions.get(id)
    yield* sessions.flushActivity
  }
  const { written } = (yield* sessions.health).activity
  if (written < changes) return yield* new NotMeasured({ message: `Only ${written} activities were written` })

  const id = (name: string) => `update.${workload.infix}${name}`
  const vsRedis = (name: string, [ours, floor, theirs]: typeof singleWhole) =>
    ours === undefined || floor === undefined || theirs === undefined
      ? {}
      : { [id(name)]: rateRatio(ours, theirs), [id(`floor.${name}`)]: rateRatio(floor, theirs) }
  return {
    rowUpdates: changes + written,
    tables: [
      { title: `Updates, durable, checked and notified, ${workload.title}`, rows: [...single, ...many] },
      { title: `The update of a request, durable, ${workload.title}`, rows: [...singleWhole, ...manyWhole] }
    ],
    figures: {
      [id("c1.vsStatement")]: timeRatio(...single),
      [id("c64.vsStatementEach")]: rateRatio(...many),
      ...vsRedis("c1.vsRedisDurable", singleWhole),
      ...vsRedis("c64.vsRedisDurable", manyWhole)
    }
  }
}, Effect.scoped)

/** The share of HOT updates in the table of sessions. Backends have reported what they did when their connections are closed. */
const hotShare = Effect.fnUntraced(function* (url: Node.Url, atLeast: number) {
  const sql = yield* Node.client(url)
  for (let attempt = 0; attempt < 300; attempt++) {
    const [counted] = yield* sql<{ all: number; hot: number }>`select n_tup_upd::int as all, n_tup_hot_upd::int as hot
      from pg_stat_user_tables where relname = 'sessions'`
    if (counted !== undefined && counted.all >= atLeast) return counted.hot / counted.all
    yield* Effect.sleep("10 millis")
  }
  return yield* new NotMeasured({ message: `PostgreSQL has not counted ${atLeast} updates` })
}, Effect.scoped)

export const suite: Suite = {
  name: "updates",
  run: ({ quick, rounds }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* Node.durable()
        const redis = Redis.available ? yield* Redis.make("always") : undefined
        const one = yield* measureWorkload(url, redis, Workload.one, rounds)
        const ten = quick
          ? undefined
          : yield* measureWorkload(url, redis, Workload.ten, (full) => rounds(Math.ceil(full / 2)))
        return {
          tables: [...one.tables, ...(ten?.tables ?? [])],
          figures: {
            ...one.figures,
            ...ten?.figures,
            "update.hotShare": yield* hotShare(url, one.rowUpdates + (ten?.rowUpdates ?? 0))
          },
          bars: {
            updates: chart(
              "Updates, durable on both sides, one attribute",
              "operations a second",
              one.tables.flatMap(({ rows }) => rows),
              (name) => name.includes("update,")
            )
          },
          notes: Redis.available ? [] : [Redis.missing]
        }
      })
    )
}
