/** Locks that are tied to a session: gone with it, and no part of it. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SessionLockStorage } from "../../SessionLockStorage.ts"
import { SessionStorage } from "../../SessionStorage.ts"
import { created, stands, sweptAll, tagged, type Harness } from "./Harness.ts"
import { asked, granted, newLock, refused, released } from "./LockHarness.ts"

/** Registers the tests. */
export const lockTying = ({ it, passed }: Harness<SessionLockStorage>): void => {
  it.effect("a lock changes nothing of the session that it is tied to", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const row = yield* created()
      const lock = newLock(row.key)
      const grant = yield* granted(lock, { session: row.key })
      yield* refused(lock, { session: row.key, queue: "wait" })
      yield* locks.extend({ ...grant, leaseTime: 90_000 })
      expect(yield* stands(row.key)).toEqual(row)
      yield* released(lock, grant.owner)
      expect(yield* stands(row.key)).toEqual(row)
    })
  )

  it.effect("it ends with the session: not extended, not granted again, without an error", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const storage = yield* SessionStorage
      const row = yield* created()
      const grant = yield* granted(newLock(row.key), { session: row.key })
      yield* storage.delete({ _tag: "Session", key: row.key, proof: undefined })
      expect((yield* locks.extend({ ...grant, leaseTime: 90_000 }))._tag).toBe("Lost")
      tagged((yield* asked(grant.lock, { session: row.key })).outcome, "SessionGone")
      yield* released(grant.lock, grant.owner)
      yield* locks.leave(grant.lock, "node-a")
    })
  )

  it.effect("an expired session counts as ended, whether or not it was swept", () =>
    Effect.gen(function* () {
      const locks = yield* SessionLockStorage
      const row = yield* created({ lifetime: 200 })
      const grant = yield* granted(newLock(row.key), { session: row.key })
      yield* passed(row.expiresAt)
      expect((yield* locks.extend({ ...grant, leaseTime: 90_000 }))._tag).toBe("Lost")
      tagged((yield* asked(grant.lock, { session: row.key })).outcome, "SessionGone")
      yield* sweptAll(1_000)
      tagged((yield* asked(grant.lock, { session: row.key })).outcome, "SessionGone")
    })
  )

  it.effect("a session that never was has no locks", () =>
    Effect.gen(function* () {
      const row = yield* created()
      const storage = yield* SessionStorage
      yield* storage.delete({ _tag: "Session", key: row.key, proof: undefined })
      tagged((yield* asked(newLock(row.key), { session: row.key })).outcome, "SessionGone")
    })
  )
}
