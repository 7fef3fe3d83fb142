import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import { AbsentKeys } from "../src/internal/AbsentKeys.ts"
import { generate, keyOfToken, type SessionKey } from "../src/SessionId.ts"

const newToken = (key?: SessionKey): string => Redacted.value(generate(key))
const token = newToken()
const key = keyOfToken(token)

describe("AbsentKeys", () => {
  it("remembers an id until its time, and not at it", () => {
    const absent = new AbsentKeys()
    absent.remember(key, token, 100)
    assert.isTrue(absent.has(key, token, 99))
    assert.isFalse(absent.has(key, token, 100))
    assert.strictEqual(absent.size, 0, "what is over is dropped when it is seen")
  })

  it("knows ids, not keys: another secret of the key is not absent", () => {
    const absent = new AbsentKeys()
    const second = newToken(key)
    absent.remember(key, token, 100)
    assert.isFalse(absent.has(key, second, 0))
    absent.remember(key, second, 100)
    assert.isTrue(absent.has(key, second, 0))
    assert.isFalse(absent.has(key, token, 0), "one id per key")
    assert.strictEqual(absent.size, 1)
  })

  it("forgets a key, or everything", () => {
    const absent = new AbsentKeys()
    absent.remember(key, token, 100)
    absent.forget(key)
    absent.forget(key)
    assert.isFalse(absent.has(key, token, 0))
    absent.remember(key, token, 100)
    absent.clear()
    assert.isFalse(absent.has(key, token, 0))
  })

  it("holds 10 000, and forgets the one that was remembered the longest ago", () => {
    const absent = new AbsentKeys()
    const tokens = Array.from({ length: 10_001 }, () => newToken())
    const [first, second] = tokens
    assert(first !== undefined && second !== undefined)
    for (const each of tokens.slice(0, 10_000)) absent.remember(keyOfToken(each), each, 100)
    // Remembered again: it is not the oldest any more.
    absent.remember(keyOfToken(first), first, 100)
    const last = tokens.at(-1) ?? assert.fail()
    absent.remember(keyOfToken(last), last, 100)
    assert.strictEqual(absent.size, 10_000)
    assert.isTrue(absent.has(keyOfToken(first), first, 0))
    assert.isFalse(absent.has(keyOfToken(second), second, 0))
  })
})
