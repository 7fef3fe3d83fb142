/** What the store for express-session answers from memory at once, and when it does not. */
import { SessionStore } from "@effect-pg-session/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Request } from "express"
import session from "express-session"
import { type ExpressStoreRuntime, toExpressStore } from "../src/index.ts"
import { assertMaxAge, clocked, managed, memory, test } from "./support/Express.ts"

type Store = session.Store

const minute = 60_000
const sidOf = (name: string) => name.repeat(32).slice(0, 32)
const [alice, bob] = [sidOf("alice"), sidOf("bob")]

/** Data as express-session would have made them for a request. */
const dataFor = (store: Store, sid: string, json: object): session.SessionData => {
  const request = { sessionID: sid, sessionStore: store } as Request
  return Reflect.apply(Reflect.get(store, "createSession") as (...request: ReadonlyArray<unknown>) => never, store, [
    request,
    json
  ])
}
const fresh = (store: Store, sid: string, count: number): session.SessionData =>
  dataFor(store, sid, { count, cookie: { originalMaxAge: minute, expires: new Date(minute).toISOString() } })

const called = <A>(ask: (callback: (error?: unknown, result?: A | null) => void) => void) =>
  Effect.callback<A | null | undefined, unknown>((resume) =>
    ask((error, result) => resume(error === undefined || error === null ? Effect.succeed(result) : Effect.fail(error)))
  )

const save = (store: Store, sid: string, count: number) =>
  called<void>((callback) => store.set(sid, fresh(store, sid, count), callback))
const load = (store: Store, sid: string) =>
  Effect.map(
    called<session.SessionData>((callback) => store.get(sid, callback)),
    (data) => (data === null || data === undefined ? null : dataFor(store, sid, data))
  )
const loaded = (store: Store, sid: string) =>
  Effect.map(load(store, sid), (data) => {
    assert(data !== null)
    return data
  })

/** Whether a touch was called back before it returned; waits for it in any case. */
const touchIsImmediate = (store: Store, sid: string, data: session.SessionData) =>
  Effect.callback<boolean>((resume) => {
    let isImmediate = true
    store.touch?.(sid, data, () => resume(Effect.succeed(isImmediate)))
    isImmediate = false
  })

const storeOn = (runtime: ExpressStoreRuntime) => toExpressStore(session.Store, runtime)

describe("what memory answers at once", () => {
  test(
    "a touch of what was loaded and not changed is called back at once",
    Effect.gen(function* () {
      const store = storeOn(yield* memory)
      yield* save(store, alice, 1)
      assert.isTrue(yield* touchIsImmediate(store, alice, yield* loaded(store, alice)))
      assert.isTrue(yield* touchIsImmediate(store, alice, yield* loaded(store, alice)))
    })
  )

  test(
    "one with another maxAge is written first, and one of a session that nobody has loaded is looked for",
    Effect.gen(function* () {
      const store = storeOn(yield* memory)
      yield* save(store, alice, 1)
      const data = yield* loaded(store, alice)
      data.cookie.maxAge = 10 * minute
      assert.isFalse(yield* touchIsImmediate(store, alice, data))
      assertMaxAge((yield* loaded(store, alice)).cookie, 10 * minute)
      assert.isFalse(yield* touchIsImmediate(store, alice, fresh(store, alice, 1)))
      assert.isFalse(yield* touchIsImmediate(store, bob, yield* loaded(store, alice)))
    })
  )

  test(
    "one of a request that is saving waits for its turn",
    Effect.gen(function* () {
      const store = storeOn(yield* memory)
      yield* save(store, alice, 1)
      const data = yield* loaded(store, alice)
      data.count = 2
      store.set(alice, data)
      assert.isFalse(yield* touchIsImmediate(store, alice, data))
      assert.strictEqual((yield* loaded(store, alice)).count, 2)
    })
  )

  test(
    "a cookie that cannot be written is an error that is called back",
    Effect.gen(function* () {
      const store = storeOn(yield* memory)
      yield* save(store, alice, 1)
      const data = yield* loaded(store, alice)
      Object.defineProperty(data, "cookie", {
        value: {
          toJSON: () => {
            throw new RangeError("no")
          }
        }
      })
      const failure = yield* Effect.flip(called<void>((callback) => store.touch?.(alice, data, callback)))
      assert.instanceOf(failure, RangeError)
    })
  )

  test(
    "what goes wrong is called back, and thrown at nobody",
    Effect.gen(function* () {
      const store = storeOn(yield* memory)
      yield* save(store, alice, 1)
      yield* Effect.flip(called((callback) => store.get(undefined as never, callback)))
      yield* Effect.flip(called<void>((callback) => store.touch?.(alice, undefined as never, callback)))
      // Whose end no date can say.
      const data = yield* loaded(store, alice)
      data.cookie.expires = new Date(8.64e15)
      yield* called<void>((callback) => store.set(alice, data, callback))
      for (const _ of [1, 2, 3]) assert.instanceOf(yield* Effect.flip(load(store, alice)), RangeError)
    })
  )

  test(
    "a touch is activity, and a get is none",
    Effect.gen(function* () {
      const { pass, runtime } = yield* clocked
      const store = storeOn(runtime)
      yield* save(store, alice, 1)
      yield* save(store, bob, 1)
      for (let visit = 0; visit < 3; visit++) {
        yield* pass(25_000)
        assert.isTrue(yield* touchIsImmediate(store, alice, yield* loaded(store, alice)))
        if (visit < 2) yield* loaded(store, bob)
      }
      assert.strictEqual((yield* loaded(store, alice)).count, 1)
      assert.isNull(yield* load(store, bob))
    })
  )

  test(
    "what was ended is not there any more, and nothing brings it back",
    Effect.gen(function* () {
      const runtime = yield* memory
      const store = storeOn(runtime)
      yield* save(store, alice, 1)
      const data = yield* loaded(store, alice)
      yield* Effect.promise(() => runtime.runPromise(Effect.flatMap(SessionStore, (sessions) => sessions.deleteAll)))
      assert.isFalse(yield* touchIsImmediate(store, alice, data))
      assert.isNull(yield* load(store, alice))
      data.count = 2
      yield* called<void>((callback) => store.set(alice, data, callback))
      assert.isNull(yield* load(store, alice))
    })
  )

  test(
    "a runtime that was disposed of answers nothing from memory",
    Effect.gen(function* () {
      const runtime = yield* memory
      const store = storeOn(runtime)
      yield* save(store, alice, 1)
      const data = yield* loaded(store, alice)
      yield* loaded(store, alice)
      yield* Effect.promise(() => runtime.dispose())
      assert.isFalse(yield* touchIsImmediate(store, alice, data))
      yield* Effect.flip(load(store, alice))
    })
  )

  test(
    "a runtime that has another store for another request gives nobody the session of the other one",
    Effect.gen(function* () {
      const tenant = () => managed(Layer.fresh(SessionStore.layerMemory()))
      const [first, second] = [yield* tenant(), yield* tenant()]
      let current = first
      const store = storeOn({ runPromiseExit: (effect) => current.runPromiseExit(effect) })
      yield* save(store, alice, 1)
      yield* loaded(store, alice)
      assert.strictEqual((yield* loaded(store, alice)).count, 1)
      current = second
      assert.isNull(yield* load(store, alice))
    })
  )
})
