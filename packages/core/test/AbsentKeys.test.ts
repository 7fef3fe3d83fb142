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

  it("holds 10 000 at most, however many there are, and the latest of them", () => {
    const absent = new AbsentKeys()
    const tokens = Array.from({ length: 25_000 }, () => newToken())
    for (const [index, each] of tokens.entries()) {
      absent.remember(keyOfToken(each), each, 100)
      if (index >= 10_000) assert.isTrue(absent.size >= 5_000 && absent.size <= 10_000)
    }
    assert.isTrue(tokens.slice(-5_000).every((each) => absent.has(keyOfToken(each), each, 0)))
    assert.isFalse(tokens.slice(0, 10_000).some((each) => absent.has(keyOfToken(each), each, 0)))
  })
})
