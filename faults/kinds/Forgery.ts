/**
 * Anybody who may connect to the database can notify the library's channel: with
 * garbage, with endings and changes that never happened, with beats and locks of
 * others. It may cost entries of caches, and nothing else.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Fault } from "../Fault.ts"
import type { Random } from "../Random.ts"

const channel = "public.sessions"
const batches = 30
const batchSize = 100

const Keys = Schema.Array(Schema.Struct({ key: Schema.String }))

const forged = (random: Random, keys: ReadonlyArray<string>): string => {
  const characters = [..."UDRXEBL1C;-\n\"'\\0123456789abcdefghijklmnopqrstuvwxyz".split(""), "\u00e4", "\u{1f600}"]
  const garbage = (length: number) => Array.from({ length }, () => random.pick(characters)).join("")
  const key = keys.length === 0 ? "AAAAAAAAAAAAAAAAAAAAAA" : random.pick(keys)
  switch (random.integer(0, 9)) {
    case 0:
      return `1CD${key}-`
    case 1:
      return `1CU${key}9223372036854775807`
    case 2:
      return `1CU${key}1`
    case 3:
      return `1Ucrowd-${random.integer(0, 7)}`
    case 4:
      return `1B${garbage(12)}`
    case 5:
      return `1Lnode 0.0#AAAAAAAA\nrow-${random.integer(0, 2)}`
    case 6:
      return random.chance(0.1) ? "1A" : "1Ggroup-1"
    case 7:
      return `${random.integer(2, 9)}${garbage(random.integer(0, 40))}`
    case 8:
      return `1C${Array.from({ length: 300 }, () => "U").join(";")}`
    default:
      return garbage(random.integer(1, 1_500))
  }
}

export const faults: ReadonlyArray<Fault> = [
  {
    kind: "notificationsForged",
    lane: "server",
    inject: ({ database: { sql } }, random) =>
      Effect.gen(function* () {
        const found = yield* Schema.decodeUnknownEffect(Keys)(yield* sql`select key from sessions limit 100`)
        const keys = found.map(({ key }) => key)
        for (let batch = 0; batch < batches; batch++) {
          const payloads = Array.from({ length: batchSize }, () => forged(random, keys))
          yield* sql`select count(pg_notify(${channel}, p)) from jsonb_array_elements_text(${JSON.stringify(payloads)}::jsonb) p`
        }
      }).pipe(Effect.timeoutOption("3 seconds"), Effect.ignore)
  }
]
