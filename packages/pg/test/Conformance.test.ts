/** The PostgreSQL adapters keep the contracts, on a real server, under awkward names. */
import {
  sessionLockStorageConformance,
  sessionNotifierConformance,
  sessionStorageConformance
} from "@effect-pg-session/core/testing"
import { SessionKey, SessionStorage, type WriteRequest } from "@effect-pg-session/core"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { PgSessionLocks, PgSessionMigrations, PgSessionNotifier, PgSessionStorage } from "../src/index.ts"
import * as DatabaseLive from "../src/internal/DatabaseLive.ts"
import * as Names from "../src/internal/Names.ts"
import { newKey } from "./support/StorageFixture.ts"
import { TestDatabase } from "./support/TestDatabase.ts"

const tablePrefix = 'awkward "prefix" 🐘 '

/** What the tests of faults need besides the ports. */
class Faults extends Context.Service<
  Faults,
  { readonly cut: Effect.Effect<void>; readonly garble: Effect.Effect<void> }
>()("@effect-pg-session/pg/test/Faults") {}

const adapters = Layer.unwrap(
  Effect.gen(function* () {
    const { schema, url } = yield* TestDatabase
    const client = yield* PgClient.PgClient
    const schemaOptions = { schemaName: schema, tablePrefix }
    const names = Names.make(schema, tablePrefix)
    const applicationName = `conformance ${schema}`
    const connection = { url, applicationName }
    const faults = Layer.succeed(Faults, {
      cut: Effect.orDie(
        client`select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${`${applicationName} listener`}`
      ),
      garble: Effect.orDie(client`select pg_notify(${names.channel}, 'garbage')`)
    })
    yield* Effect.provide(PgSessionMigrations.run(schemaOptions), DatabaseLive.layerMigrationClient(connection))
    return Layer.mergeAll(
      PgSessionStorage.layer,
      PgSessionLocks.layer,
      PgSessionNotifier.layer({ connection }),
      faults
    ).pipe(Layer.provideMerge(DatabaseLive.layer({ names, connection })))
  })
).pipe(Layer.provide(TestDatabase.layer))

sessionStorageConformance("PgSessionStorage", { layer: adapters })

/** Each single change and login goes with another one, which concerns nobody: the statements for many keep the contract, too. */
const inBatches = Layer.effect(
  SessionStorage,
  Effect.map(SessionStorage, (storage): SessionStorage["Service"] => {
    const stranger = SessionKey.make(`${"A".repeat(21)}A`)
    const withStranger =
      <A extends { readonly outcomes: ReadonlyArray<unknown> }, E>(
        write: (requests: ReadonlyArray<WriteRequest>) => Effect.Effect<A, E>
      ) =>
      (requests: ReadonlyArray<WriteRequest>): Effect.Effect<A, E> => {
        const [only, ...others] = requests
        if (only === undefined || others.length > 0) return write(requests)
        return Effect.map(write([only, { ...only, key: stranger, fence: undefined }]), (answer) => ({
          ...answer,
          outcomes: answer.outcomes.slice(0, 1)
        }))
      }
    const create: SessionStorage["Service"]["create"] = (request) => {
      const guest = { ...request, key: newKey(), userId: undefined, groupId: undefined, attributes: [] }
      return Effect.flatMap(storage.tryCreate([guest, request]), ({ now, outcomes: [, outcome] }) =>
        outcome === undefined || outcome._tag === "Undone"
          ? storage.create(request)
          : Effect.succeed({ now, ...outcome })
      )
    }
    return { ...storage, create, write: withStranger(storage.write), tryWrite: withStranger(storage.tryWrite) }
  })
)

sessionStorageConformance("PgSessionStorage in batches", { layer: Layer.provideMerge(inBatches, adapters) })

sessionLockStorageConformance("PgSessionLocks", { layer: adapters })

sessionNotifierConformance("PgSessionNotifier", {
  layer: adapters,
  cut: Effect.flatMap(Faults, ({ cut }) => cut),
  garble: Effect.flatMap(Faults, ({ garble }) => garble)
})
