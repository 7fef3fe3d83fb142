/** What the parts of the locks' suite share. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBase64Url } from "../../internal/Crypto.ts"
import { lockKeyOf } from "../../internal/lock/LockKeys.ts"
import type { SessionKey } from "../../SessionId.ts"
import { type AcquireLockRequest, type LockKey, SessionLockStorage } from "../../SessionLockStorage.ts"
import type { Notice } from "../../SessionNotifier.ts"
import { only, tagged, uniqueName } from "./Harness.ts"

/** A lock that nobody else uses. */
export const newLock = (session?: SessionKey): LockKey => lockKeyOf(uniqueName("lock"), session)

/** A nonce. */
export const newOwner = (): string => randomBase64Url(12)

/** A request for the only permit of a lock, for a minute, unless said otherwise. */
export const lockRequest = (lock: LockKey, overrides?: Partial<AcquireLockRequest>): AcquireLockRequest => ({
  lock,
  session: undefined,
  owner: newOwner(),
  node: "node-a",
  permits: 1,
  leaseTime: 60_000,
  queue: "none",
  turn: 0,
  ...overrides
})

/** Asks for a lock, and answers what became of it with the request. */
export const asked = Effect.fnUntraced(function* (lock: LockKey, overrides?: Partial<AcquireLockRequest>) {
  const locks = yield* SessionLockStorage
  const request = lockRequest(lock, overrides)
  const outcome = yield* locks.acquire(request)
  return { request, outcome }
})

/** Acquires a lock that must be free. */
export const granted = Effect.fnUntraced(function* (lock: LockKey, overrides?: Partial<AcquireLockRequest>) {
  const { outcome, request } = yield* asked(lock, overrides)
  const { expiresAt, now, token } = tagged(outcome, "Granted")
  return { lock, owner: request.owner, session: request.session, token, expiresAt, now }
})

/** Asks for a lock that must be held. */
export const refused = Effect.fnUntraced(function* (lock: LockKey, overrides?: Partial<AcquireLockRequest>) {
  const { outcome } = yield* asked(lock, overrides)
  return tagged(outcome, "Held")
})

/** Releases what an owner was granted. */
export const released = Effect.fnUntraced(function* (lock: LockKey, owner: string) {
  const locks = yield* SessionLockStorage
  return (yield* locks.release(lock, owner)).released
})

/** Which nodes the notices name as those whose turn it is for a lock, in order. */
export const turnsOf = (notices: ReadonlyArray<Notice>, lock: LockKey): ReadonlyArray<string> =>
  notices.flatMap((notice) => (notice._tag === "LockFreed" && notice.lock === lock ? [notice.node] : []))

/** Which node's turn it is, by the only notice about a lock. */
export const turnOf = (notices: ReadonlyArray<Notice>, lock: LockKey): string => only(turnsOf(notices, lock))

/** That tokens grow. */
export const assertGrowing = (tokens: ReadonlyArray<bigint>): void => {
  for (const [index, token] of tokens.entries()) {
    const before = tokens[index - 1]
    assert.isTrue(before === undefined || token > before, `${token} after ${before}`)
  }
}
