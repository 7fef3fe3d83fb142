import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { hostname } from "node:os"
import { inspect } from "node:util"
import { makeSettings, SessionConfig, type SessionOptions, type Settings } from "../src/SessionConfig.ts"
import { SessionStore } from "../src/SessionStore.ts"

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

const defaults: Settings = {
  maxSessionsPerUser: 5,
  onSessionLimit: "evictOldest",
  maxAttributeBytes: 16_384,
  maxSessionBytes: 262_144,
  sessionLifetime: 30 * day,
  anonymousLifetime: hour,
  idleTimeout: 48 * hour,
  cleanupInterval: hour,
  cacheCapacity: 10_000,
  cacheMaxAge: 48 * hour,
  maxStaleness: 5 * second,
  lastAccessFlushInterval: 10 * minute,
  lastAccessFlushBatchSize: 5_000,
  notifyOnUpdates: true,
  lockLeaseTime: minute,
  lockHeartbeatInterval: 10 * second,
  lockWait: "none",
  lockRetryDelay: 1,
  lockMaxRetries: 2,
  nodeName: `${hostname()}:${process.pid}`,
  statementTimeout: 5 * second,
  shutdownTimeout: 10 * second
}

/** Each with the least and the most that is allowed. */
const integers = {
  maxSessionsPerUser: [1, 10_000],
  maxAttributeBytes: [1, 16_777_216],
  maxSessionBytes: [1, 67_108_864],
  cacheCapacity: [1, 10_000_000],
  lastAccessFlushBatchSize: [1, 50_000],
  lockMaxRetries: [0, 100]
} as const satisfies Partial<Record<keyof Settings, readonly [number, number]>>

const durations = {
  sessionLifetime: [second, 3_650 * day],
  anonymousLifetime: [second, 3_650 * day],
  idleTimeout: [second, Infinity],
  cleanupInterval: [second, 7 * day],
  cacheMaxAge: [second, 365 * day],
  maxStaleness: [100, 10 * minute],
  lastAccessFlushInterval: [10, day],
  lockLeaseTime: [100, day],
  lockHeartbeatInterval: [10, Infinity],
  lockRetryDelay: [1, minute],
  statementTimeout: [10, 5 * minute],
  shutdownTimeout: [10, 10 * minute]
} as const satisfies Partial<Record<keyof Settings, readonly [number, number]>>

const show = (value: unknown): string => String(value)

/** What a wrong program in JavaScript could pass. */
const wrong = (name: string, value: unknown): SessionOptions => Object.fromEntries([[name, value]])

const refusal = (options: SessionOptions) => Effect.flip(makeSettings(options))

const variable = (name: string): string =>
  `SESSION_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

const fromEnvironment = (env: Record<string, string>) =>
  Effect.flatMap(SessionConfig, Effect.succeed).pipe(
    Effect.provide(SessionConfig.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env)))))
  )

describe("SessionConfig", () => {
  it.effect("has the defaults that are documented", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* makeSettings(), defaults)
      assert.deepStrictEqual(yield* makeSettings({}), defaults)
      assert.deepStrictEqual(yield* makeSettings({ maxStaleness: undefined }), defaults)
      assert.deepStrictEqual(yield* fromEnvironment({}), defaults)
    })
  )

  it.effect.each(Object.entries(integers))("%j: whole numbers in range, and nothing else", ([name, [min, max]]) =>
    Effect.gen(function* () {
      const roomy = { maxSessionBytes: 67_108_864, maxAttributeBytes: 1 }
      for (const value of [min, max]) {
        assert.strictEqual(Reflect.get(yield* makeSettings({ ...roomy, ...wrong(name, value) }), name), value)
        const env = {
          SESSION_MAX_SESSION_BYTES: "67108864",
          SESSION_MAX_ATTRIBUTE_BYTES: "1",
          [variable(name)]: String(value)
        }
        assert.strictEqual(Reflect.get(yield* fromEnvironment(env), name), value)
      }
      for (const value of [
        min - 1,
        max + 1,
        1.5,
        NaN,
        Infinity,
        -1,
        "5x",
        "",
        " ",
        "0x10",
        "1e2",
        null,
        true,
        {},
        [],
        5n
      ]) {
        const error = yield* refusal({ ...roomy, ...wrong(name, value) })
        assert.strictEqual(error.setting, name, inspect(value))
        assert.include(error.message, name)
        assert.include(error.message, `a whole number from ${min} to ${max}`)
        assert.include(error.message, typeof value === "string" ? JSON.stringify(value) : show(value))
      }
    })
  )

  it.effect.each(Object.entries(durations))("%j: durations in range, and nothing else", ([name, [min, max]]) =>
    Effect.gen(function* () {
      for (const value of [
        min,
        Duration.millis(min),
        `${min} millis`,
        max === Infinity ? "Infinity" : Duration.millis(max)
      ]) {
        const resolved: unknown = Reflect.get(yield* makeSettings(wrong(name, value)), name)
        assert.oneOf(resolved, [min, max])
      }
      assert.strictEqual(Reflect.get(yield* fromEnvironment({ [variable(name)]: `${min} millis` }), name), min)
      const tooMuch = max === Infinity ? [] : [max + 1, "Infinity", Infinity, Duration.infinity]
      for (const value of [min - 1, -1, 0, NaN, "soon", "", "5", null, true, {}, ...tooMuch]) {
        const error = yield* refusal(wrong(name, value))
        assert.strictEqual(error.setting, name, inspect(value))
        assert.include(error.allowed, Duration.format(Duration.millis(min)))
      }
      const error = yield* Effect.flip(fromEnvironment({ [variable(name)]: "soon" }))
      assert.include(error.message, `${name} is "soon", but must be`)
    })
  )

  it.effect("words: one of the allowed", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* makeSettings({ onSessionLimit: "reject" })).onSessionLimit, "reject")
      assert.strictEqual((yield* fromEnvironment({ SESSION_ON_SESSION_LIMIT: "reject" })).onSessionLimit, "reject")
      assert.isFalse((yield* fromEnvironment({ SESSION_NOTIFY_ON_UPDATES: "false" })).notifyOnUpdates)
      for (const value of ["Reject", "", "evict", 1, null]) {
        const error = yield* refusal(wrong("onSessionLimit", value))
        assert.include(error.message, 'must be "evictOldest" or "reject"')
      }
      for (const value of ["yes", "TRUE", 1, 0, null, ""]) {
        const error = yield* refusal(wrong("notifyOnUpdates", value))
        assert.include(error.message, "must be true or false")
      }
      const error = yield* Effect.flip(fromEnvironment({ SESSION_NOTIFY_ON_UPDATES: "yes" }))
      assert.include(error.message, 'notifyOnUpdates is "yes"')
    })
  )

  it.effect("an attribute may not be larger than a session", () =>
    Effect.gen(function* () {
      const error = yield* refusal({ maxAttributeBytes: 101, maxSessionBytes: 100 })
      assert.include(error.message, "maxAttributeBytes is 101")
      assert.include(error.message, "at most maxSessionBytes (100)")
      yield* makeSettings({ maxAttributeBytes: 100, maxSessionBytes: 100 })
      // The default of one against a small other.
      assert.strictEqual((yield* refusal({ maxSessionBytes: 100 })).setting, "maxAttributeBytes")
    })
  )

  it.effect("a bad value fails the layer when it is built, before anything is started", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(SessionStore.layerMemory({ cacheCapacity: 0 }))))
      assert.strictEqual(error._tag, "InvalidSessionConfig")
      assert.include(error.message, "The setting cacheCapacity is 0, but must be a whole number from 1 to 10000000")
    })
  )

  it.effect("every setting can be given in the environment, under its name in constant case", () =>
    Effect.gen(function* () {
      for (const name of Object.keys(defaults)) {
        const error = yield* Effect.flip(fromEnvironment({ [variable(name)]: "\u{1F937}" }))
        assert.include(error.message, `The setting ${name} is "\u{1F937}"`)
      }
    })
  )

  it.effect('lockWait is "none", "forever" or a duration', () =>
    Effect.gen(function* () {
      const wait = (lockWait: SessionOptions["lockWait"]) =>
        Effect.map(makeSettings({ lockWait }), (settings) => settings.lockWait)
      assert.strictEqual(yield* wait("none"), "none")
      assert.strictEqual(yield* wait("forever"), Infinity)
      assert.strictEqual(yield* wait("Infinity"), Infinity)
      assert.strictEqual(yield* wait(0), 0)
      assert.strictEqual(yield* wait("2 seconds"), 2_000)
      assert.strictEqual((yield* fromEnvironment({ SESSION_LOCK_WAIT: "forever" })).lockWait, Infinity)
      assert.strictEqual((yield* refusal({ lockWait: -1 })).setting, "lockWait")
      assert.strictEqual((yield* refusal(wrong("lockWait", "soon"))).setting, "lockWait")
    })
  )

  it.effect("nodeName is printable, and neither empty nor long", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* makeSettings({ nodeName: "web 1" })).nodeName, "web 1")
      for (const nodeName of ["", "x".repeat(65), "a\nb", "é"]) {
        assert.strictEqual((yield* refusal({ nodeName })).setting, "nodeName", inspect(nodeName))
      }
    })
  )
})
