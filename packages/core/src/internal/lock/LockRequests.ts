/**
 * What is asked for: the options of one acquisition, with the settings' defaults,
 * cut to what is allowed.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Session } from "../../Session.ts"
import type { LockWait, Settings } from "../../SessionConfig.ts"
import type { SessionKey } from "../../SessionId.ts"
import type { LockKey } from "../../SessionLockStorage.ts"
import type { LockOptions } from "../../SessionLocks.ts"
import { lockKeyOf } from "./LockKeys.ts"

/** In milliseconds; see `lockLeaseTime`. */
const minLease = 100
const maxLease = 86_400_000
const minHeartbeat = 10
const maxPermits = 1_000

/** One acquisition; durations in milliseconds. */
export interface Acquisition {
  readonly resource: string
  readonly lock: LockKey
  readonly session: SessionKey | undefined
  readonly permits: number
  readonly leaseTime: number
  readonly heartbeatInterval: number
  readonly wait: "none" | number
  readonly retryDelay: number
  readonly maxRetries: number
}

export const acquisitionOf = (
  resource: string,
  options: LockOptions<LockWait, SessionKey | Session> | undefined,
  settings: Settings
): Acquisition => {
  const session = typeof options?.session === "object" ? options.session.key : options?.session
  return {
    resource,
    lock: lockKeyOf(resource, session),
    session,
    permits: whole(options?.permits ?? 1, 1, maxPermits),
    leaseTime: options?.leaseTime === undefined ? settings.lockLeaseTime : leaseMillis(options.leaseTime),
    heartbeatInterval:
      options?.heartbeatInterval === undefined
        ? settings.lockHeartbeatInterval
        : Math.max(minHeartbeat, Duration.toMillis(options.heartbeatInterval)),
    wait: options?.wait === undefined ? settings.lockWait : waitMillis(options.wait),
    retryDelay:
      options?.retryDelay === undefined ? settings.lockRetryDelay : Math.max(1, Duration.toMillis(options.retryDelay)),
    maxRetries: whole(options?.maxRetries ?? settings.lockMaxRetries, 0, 100)
  }
}

/** The length of a lease: whole milliseconds, from 100 to a day. */
export const leaseMillis = (duration: Duration.Input): number => whole(Duration.toMillis(duration), minLease, maxLease)

/** A random part of a delay, so that those who failed together do not meet again. */
export const jittered = (millis: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => millis * (0.5 + random / 2))

const waitMillis = (wait: LockWait): "none" | number =>
  wait === "none" ? wait : wait === "forever" ? Infinity : Math.max(0, Duration.toMillis(wait))

const whole = (value: number, min: number, max: number): number =>
  Number.isNaN(value) ? min : Math.ceil(Math.min(max, Math.max(min, value)))
