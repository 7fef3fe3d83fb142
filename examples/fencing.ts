/**
 * What a lease cannot do, and what its token can: a holder that is paused past its lease does not know it, and writes
 * late. The session is fenced by the library; any other store is, if it refuses tokens smaller than the largest it has seen.
 */
import { Session, SessionAttribute, SessionLocks, SessionStore, UserId } from "@effect-pg-session/core"
import { PgSessionLive } from "@effect-pg-session/pg"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"
import { deepStrictEqual } from "node:assert/strict"

const Status = SessionAttribute.make("checkout", Schema.String, { initial: () => "open" })

/** A store of somebody else's. In SQL: `update files set content = $1, token = $2 where name = $3 and token <= $2`. */
class FileStore {
  private largest = 0n
  content = "empty"
  write(content: string, token: bigint): boolean {
    if (token < this.largest) return false
    this.largest = token
    this.content = content
    return true
  }
}

const program = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const locks = yield* SessionLocks
  const files = new FileStore()
  const session = yield* sessions.create(UserId.make("alice"))

  // A holder that was paused: its lease is over (here: given up), but it goes on as if it were not.
  const late = yield* Effect.scoped(locks.acquire("checkout:alice"))

  yield* locks.withLock("checkout:alice", (lease) =>
    Effect.gen(function* () {
      yield* Console.log(`The successor's token is larger: ${lease.token} > ${late.token}`)

      // The successor has not written anything yet, and the late holder is refused all the same.
      const refused = yield* Effect.flip(
        sessions.update(Session.set(session, Status, "paid by the late one"), { fence: late })
      )
      yield* Console.log(refused.message)

      yield* sessions.modify(session.id, Session.set(Status, "paid"), { fence: lease })
      files.write("receipt", lease.token)
    })
  )
  yield* Console.log(`The file store takes the late one's receipt: ${files.write("second receipt", late.token)}`)

  const now = yield* sessions.get(session.id)
  deepStrictEqual([yield* Session.get(now, Status), files.content], ["paid", "receipt"])
  yield* sessions.delete(session.id)
})

program.pipe(Effect.provide(PgSessionLive), NodeRuntime.runMain)
