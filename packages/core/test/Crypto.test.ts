import { assert, describe, it } from "@effect/vitest"
import { vi } from "vitest"
import type * as NodeCrypto from "node:crypto"
import { timingSafeEqual } from "node:crypto"
import { equalsConstantTime } from "../src/internal/Crypto.ts"
import { hashesEqual, hashOfToken } from "../src/SessionId.ts"

// Time cannot be measured reliably: what is looked at is who compares.
vi.mock("node:crypto", async (importOriginal) => {
  const original = await importOriginal<typeof NodeCrypto>()
  return { ...original, timingSafeEqual: vi.fn<typeof NodeCrypto.timingSafeEqual>(original.timingSafeEqual) }
})

describe("the comparison of hashes", () => {
  it("is made in constant time, whether they are equal or not", () => {
    const compare = vi.mocked(timingSafeEqual)
    const hash = hashOfToken("a".repeat(65))
    const others = [hash, hashOfToken("b".repeat(65)), hashOfToken(`${"a".repeat(64)}b`)]
    for (const [index, other] of others.entries()) {
      assert.strictEqual(hashesEqual(hash, other), index === 0)
      assert.strictEqual(compare.mock.calls.length, index + 1)
    }
  })

  it("of different lengths is no comparison", () => {
    assert.isFalse(equalsConstantTime("ab", "abc"))
    assert.isTrue(equalsConstantTime("", ""))
  })
})
