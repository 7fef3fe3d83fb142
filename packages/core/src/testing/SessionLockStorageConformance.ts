/**
 * The contract of `SessionLockStorage` as tests, together with what
 * `SessionStorage` and `SessionNotifier` owe to it. Whoever writes an adapter runs them on it:
 *
 * ```ts
 * sessionLockStorageConformance("MySessionLockStorage", { layer: MyDatabase.layer })
 * ```
 *
 * Locks and sessions are new in each test.
 */
import type { SessionLockStorage } from "../SessionLockStorage.ts"
import { register } from "./conformance/Harness.ts"
import type { ConformanceOptions } from "./conformance/Harness.ts"
import { lockFencing } from "./conformance/LockFencing.ts"
import { lockGranting } from "./conformance/LockGranting.ts"
import { lockTurns } from "./conformance/LockTurns.ts"
import { lockTying } from "./conformance/LockTying.ts"

/** Registers the tests of a lock storage with vitest; the layer is built once. */
export const sessionLockStorageConformance = <R = never, E = never>(
  name: string,
  options: ConformanceOptions<R | SessionLockStorage, E>
): void =>
  register(name, options, [
    ["granting", lockGranting],
    ["turns", lockTurns],
    ["sessions", lockTying],
    ["fencing", lockFencing]
  ])
