/**
 * Every setting of the library that is not about connections: its default, its
 * allowed range, its meaning. They come from code (`SessionConfig.layer`) or from
 * Effect's `Config`, by default the environment (`SessionConfig.layerConfig`:
 * `SESSION_MAX_STALENESS="2 seconds"`), through one table, so that both are
 * checked alike: a bad value fails when the layer is built, with
 * `InvalidSessionConfig` naming the setting, the value and the range.
 */
import { hostname } from "node:os"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Setting from "./internal/Setting.ts"
import { InvalidSessionConfig } from "./SessionError.ts"

/** Whether to wait for a lock that is held: not at all, until it can be had, or for how long at most. */
export type LockWait = "none" | "forever" | Duration.Input

/** The settings as one writes them; every one is optional. */
export interface SessionOptions {
  /** How many sessions a user may have at once; never exceeded. Default 5; 1 to 10 000. Guests are exempt. */
  readonly maxSessionsPerUser?: number | undefined
  /**
   * What a login beyond `maxSessionsPerUser` does: `"evictOldest"` (default) ends the session whose user logged in the
   * longest ago, `"reject"` fails with `TooManySessions`.
   */
  readonly onSessionLimit?: "evictOldest" | "reject" | undefined
  /** The largest encoded value of one attribute, in bytes. Default 16 384; 1 to 16 777 216. */
  readonly maxAttributeBytes?: number | undefined
  /** The largest sum of all encoded values and names of a session, in bytes. Default 262 144; 1 to 67 108 864. */
  readonly maxSessionBytes?: number | undefined
  /** The absolute limit of a session, whatever its activity. Default 30 days; 1 second to 10 years. */
  readonly sessionLifetime?: Duration.Input | undefined
  /** The absolute limit of a guest's session. Default 1 hour; 1 second to 10 years. */
  readonly anonymousLifetime?: Duration.Input | undefined
  /** A session ends when it was not used for this long. Default 48 hours; at least 1 second; "Infinity" means no idle limit. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How often this node looks for expired sessions and attributes, also once at start. Default 1 hour; 1 second to 7 days. Expiry itself does not wait for it. */
  readonly cleanupInterval?: Duration.Input | undefined
  /** How many sessions this node keeps in memory, 1.4 KB each and their attributes; those that are not used go first. Default 10 000; 1 to 10 000 000. */
  readonly cacheCapacity?: number | undefined
  /** How long a session is served from memory before it is loaded again, even if nothing was announced. Default 48 hours; 1 second to 365 days. */
  readonly cacheMaxAge?: Duration.Input | undefined
  /** No node serves a state of a session older than this (G1). Default 5 seconds; 100 milliseconds to 10 minutes. A node beats five times in it. */
  readonly maxStaleness?: Duration.Input | undefined
  /**
   * How long activity is gathered before it is written. Default 10 minutes; 10 milliseconds to 1 day. Written earlier
   * where the idle timeout demands it. A crash loses at most this much of activity, and never extends a session.
   */
  readonly lastAccessFlushInterval?: Duration.Input | undefined
  /** How many last accesses one statement writes. Default 5 000; 1 to 50 000. */
  readonly lastAccessFlushBatchSize?: number | undefined
  /** Whether updates are announced to other nodes unless they say otherwise. Default true. */
  readonly notifyOnUpdates?: boolean | undefined
  /** How long a lock is leased for before it must be extended. Default 60 seconds; 100 milliseconds to 1 day. */
  readonly lockLeaseTime?: Duration.Input | undefined
  /**
   * How often a lease is extended while its holder works; at least three times in a lease. Default 10 seconds; at least 10
   * milliseconds; "Infinity" means never.
   */
  readonly lockHeartbeatInterval?: Duration.Input | undefined
  /** Whether to wait for a lock that is held: "none" (default), "forever", or for how long. */
  readonly lockWait?: LockWait | undefined
  /** The first pause after a failed statement about a lock, and between questions while notifications are not heard; doubled each time, with jitter. Default 1 millisecond; 1 millisecond to 1 minute. */
  readonly lockRetryDelay?: Duration.Input | undefined
  /** How often a statement about a lock is repeated after the database failed. Default 2; 0 to 100. Being refused the lock is no failure. */
  readonly lockMaxRetries?: number | undefined
  /** What others are told of who holds a lock. Default the host's name and the process id; 1 to 64 printable ASCII characters. */
  readonly nodeName?: string | undefined
  /** How long a statement may take, the wait for a connection (three quarters of it at most) included. Default 5 seconds; 10 milliseconds to 5 minutes. */
  readonly statementTimeout?: Duration.Input | undefined
  /** How long a shutdown waits for what it has begun and to write what is pending. Default 10 seconds; 10 milliseconds to 10 minutes. Closing connections that do not answer may take 2 seconds more. */
  readonly shutdownTimeout?: Duration.Input | undefined
}

/** The settings as the library works with them: durations in milliseconds. */
export interface Settings {
  readonly maxSessionsPerUser: number
  readonly onSessionLimit: "evictOldest" | "reject"
  readonly maxAttributeBytes: number
  readonly maxSessionBytes: number
  readonly sessionLifetime: number
  readonly anonymousLifetime: number
  /** `Infinity`: none. */
  readonly idleTimeout: number
  readonly cleanupInterval: number
  readonly cacheCapacity: number
  readonly cacheMaxAge: number
  readonly maxStaleness: number
  readonly lastAccessFlushInterval: number
  readonly lastAccessFlushBatchSize: number
  readonly notifyOnUpdates: boolean
  readonly lockLeaseTime: number
  /** `Infinity`: never. */
  readonly lockHeartbeatInterval: number
  /** `Infinity`: for ever. */
  readonly lockWait: "none" | number
  readonly lockRetryDelay: number
  readonly lockMaxRetries: number
  readonly nodeName: string
  readonly statementTimeout: number
  readonly shutdownTimeout: number
}

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** The table: one line per setting. */
const table: { readonly [Name in keyof Settings]: Setting.Setting<Settings[Name]> } = {
  maxSessionsPerUser: Setting.integer({ default: 5, min: 1, max: 10_000 }),
  onSessionLimit: Setting.choice({ default: "evictOldest", of: ["evictOldest", "reject"] }),
  maxAttributeBytes: Setting.integer({ default: 16 * 1024, min: 1, max: 16 * 1024 * 1024 }),
  maxSessionBytes: Setting.integer({ default: 256 * 1024, min: 1, max: 64 * 1024 * 1024 }),
  sessionLifetime: Setting.duration({ default: 30 * day, min: second, max: 3_650 * day }),
  anonymousLifetime: Setting.duration({ default: hour, min: second, max: 3_650 * day }),
  idleTimeout: Setting.duration({ default: 48 * hour, min: second, max: Infinity }),
  cleanupInterval: Setting.duration({ default: hour, min: second, max: 7 * day }),
  cacheCapacity: Setting.integer({ default: 10_000, min: 1, max: 10_000_000 }),
  cacheMaxAge: Setting.duration({ default: 48 * hour, min: second, max: 365 * day }),
  maxStaleness: Setting.duration({ default: 5 * second, min: 100, max: 10 * minute }),
  lastAccessFlushInterval: Setting.duration({ default: 10 * minute, min: 10, max: day }),
  lastAccessFlushBatchSize: Setting.integer({ default: 5_000, min: 1, max: 50_000 }),
  notifyOnUpdates: Setting.boolean({ default: true }),
  lockLeaseTime: Setting.duration({ default: minute, min: 100, max: day }),
  lockHeartbeatInterval: Setting.duration({ default: 10 * second, min: 10, max: Infinity }),
  lockWait: Setting.patience({ default: "none" }),
  lockRetryDelay: Setting.duration({ default: 1, min: 1, max: minute }),
  lockMaxRetries: Setting.integer({ default: 2, min: 0, max: 100 }),
  nodeName: Setting.text({
    default: `${hostname().replaceAll(/[^\x21-\x7e]/g, "?")}:${process.pid}`.slice(-64),
    allowed: "1 to 64 printable ASCII characters",
    isAllowed: (text) => /^[\x20-\x7e]{1,64}$/.test(text)
  }),
  statementTimeout: Setting.duration({ default: 5 * second, min: 10, max: 5 * minute }),
  shutdownTimeout: Setting.duration({ default: 10 * second, min: 10, max: 10 * minute })
}

/** Checks options against the table and fills in the defaults. */
export const makeSettings = (options: SessionOptions = {}): Effect.Effect<Settings, InvalidSessionConfig> =>
  Effect.flatMap(Setting.resolve<Settings>(table, options), (settings) =>
    settings.maxAttributeBytes > settings.maxSessionBytes
      ? Effect.fail(
          new InvalidSessionConfig({
            setting: "maxAttributeBytes",
            value: String(settings.maxAttributeBytes),
            allowed: `at most maxSessionBytes (${settings.maxSessionBytes})`
          })
        )
      : Effect.succeed(settings)
  )

/**
 * Reads options from Effect's `Config`: each setting's name in constant case after `SESSION_`, such as
 * `SESSION_MAX_SESSIONS_PER_USER`. Values are text and are checked by {@link makeSettings}.
 */
export const optionsFromConfig: Config.Config<SessionOptions> = Setting.fromConfig("SESSION", table)

/** The settings in force, as a service. */
export class SessionConfig extends Context.Service<SessionConfig, Settings>()("@effect-pg-session/core/SessionConfig") {
  /** Settings from code. Fails with `InvalidSessionConfig`. */
  static readonly layer = (options: SessionOptions = {}): Layer.Layer<SessionConfig, InvalidSessionConfig> =>
    Layer.effect(SessionConfig, makeSettings(options))

  /** Settings from Effect's `Config`, by default the environment. Fails with `InvalidSessionConfig`. */
  static readonly layerConfig: Layer.Layer<SessionConfig, InvalidSessionConfig | Config.ConfigError> = Layer.effect(
    SessionConfig,
    Effect.flatMap(optionsFromConfig, makeSettings)
  )
}
