import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { vi } from "vitest"
import type * as NodeCrypto from "node:crypto"
import { timingSafeEqual } from "node:crypto"
import { CookieSigner } from "../src/index.ts"

// Time cannot be measured reliably: what is looked at is who compares.
vi.mock("node:crypto", async (importOriginal) => {
  const original = await importOriginal<typeof NodeCrypto>()
  return { ...original, timingSafeEqual: vi.fn<typeof NodeCrypto.timingSafeEqual>(original.timingSafeEqual) }
})

describe("the comparison of signatures", () => {
  const ring = CookieSigner.make(["a", "b"].map((letter) => Redacted.make(letter.repeat(32))))

  it.effect("is made in constant time, with each key, whether they are equal or not", () =>
    Effect.gen(function* () {
      const compare = vi.mocked(timingSafeEqual)
      const signer = yield* ring
      const signature = signer.sign("purpose", "text")
      assert.strictEqual(signer.verify("purpose", "text", signature), "current")
      assert.strictEqual(compare.mock.calls.length, 1)
      assert.strictEqual(signer.verify("purpose", "another", signature), "refused")
      assert.strictEqual(compare.mock.calls.length, 3)
    })
  )

  it.effect("of different lengths is none, and never throws", () =>
    Effect.gen(function* () {
      const signer = yield* ring
      for (const signature of ["", "a", "ä".repeat(43), "a".repeat(10_000)]) {
        assert.strictEqual(signer.verify("purpose", "text", signature), "refused")
      }
    })
  )
})
