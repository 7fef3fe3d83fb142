/**
 * `SessionStorage` on PostgreSQL: one row per session, one statement per
 * operation; the ending of very many sessions takes several. What each statement promises is said in its module in
 * `internal/sql`; what all of them promise is the contract of the port. The
 * tables and functions are those of `PgSessionMigrations`.
 */
import { SessionStorage } from "@effect-pg-session/core"
import type { Storage } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Database } from "./internal/Database.ts"
import type { Statements } from "./internal/Database.ts"
import { decodeWith } from "./internal/Decoding.ts"
import * as TryCreate from "./internal/TryCreate.ts"
import * as TryWrite from "./internal/TryWrite.ts"
import * as Create from "./internal/sql/Create.ts"
import * as Delete from "./internal/sql/Delete.ts"
import * as Read from "./internal/sql/Read.ts"
import * as Sweep from "./internal/sql/Sweep.ts"
import * as Touch from "./internal/sql/Touch.ts"
import * as Write from "./internal/sql/Write.ts"

/** The storage on the given statements. */
export const make = (database: Statements): Storage => {
  const { names } = database
  const load = Read.loadSql(names)
  const loadOne = Read.loadOneSql(names)
  const list = Read.listSql(names)
  const revalidate = Read.revalidateSql(names)
  const create = Create.createSql(names)
  const rotate = Create.rotateSql(names)
  const write = Write.plan(names, "wait")
  const tryWrite = TryWrite.make(database)
  const touch = Touch.sql(names)
  const deletes = Delete.sqls(names)
  const deleteAttribute = Delete.attributeSql(names)
  const announce = Delete.announceSql(names)
  const sweep = Sweep.sql(names)
  const decodeLoaded = decodeWith("load sessions", "NotApplied", Read.decodeRows)
  const decodeLoadedOne = decodeWith("load sessions", "NotApplied", Read.decodeOne)

  return {
    load: (keys) => {
      const [key] = keys
      return keys.length === 1 && key !== undefined
        ? decodeLoadedOne(database.read("load sessions", loadOne, [key]))
        : decodeLoaded(database.read("load sessions", load, Read.keyParameters(keys)))
    },
    list: (userId) =>
      database
        .read("list the user's sessions", list, Read.userParameters(userId))
        .pipe(decodeWith("list the user's sessions", "NotApplied", Read.decodeRows)),
    revalidate: (keys) =>
      database
        .read("revalidate sessions", revalidate, Read.keyParameters(keys))
        .pipe(decodeWith("revalidate sessions", "NotApplied", Read.decodeRevalidated)),
    create: (request) =>
      database
        .write("create the session", create, Create.createParameters(request))
        .pipe(decodeWith("create the session", "Unknown", Create.decodeCreate)),
    tryCreate: TryCreate.make(database),
    rotate: (request) =>
      database
        .write("rotate the session", rotate, Create.rotateParameters(request))
        .pipe(decodeWith("rotate the session", "Unknown", Create.decodeRotate)),
    write: (requests) =>
      database
        .write("update the session", ...write(requests))
        .pipe(decodeWith("update the session", "Unknown", (rows) => Write.decode(rows, requests.length))),
    tryWrite,
    touch: (touches) =>
      database
        .write("record last accesses", touch, Touch.parameters(touches))
        .pipe(decodeWith("record last accesses", "Unknown", Touch.decode)),
    delete: (target) => {
      const [which, parameters] = Delete.choose(target)
      return database
        .write("delete sessions", deletes[which], parameters)
        .pipe(decodeWith("delete sessions", "Unknown", Delete.decode))
    },
    deleteAttribute: (userId, name) =>
      database
        .write("delete the attribute", deleteAttribute, Delete.attributeParameters(userId, name))
        .pipe(decodeWith("delete the attribute", "Unknown", Delete.decodeChanged)),
    sweep: (request) =>
      database
        .write("sweep expired sessions", sweep, Sweep.parameters(request))
        .pipe(decodeWith("sweep expired sessions", "Unknown", Sweep.decode)),
    announceClear: (userId) =>
      Effect.asVoid(database.write("announce that caches be cleared", announce, [userId ?? null]))
  }
}

/** The service, on the connections of {@link Database}. */
export const layer: Layer.Layer<SessionStorage, never, Database> = Layer.effect(
  SessionStorage,
  Effect.map(Database, make)
)
