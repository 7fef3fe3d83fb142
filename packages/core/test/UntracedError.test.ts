import { assert, describe, it } from "@effect/vitest"
import { SessionNotFound, SessionStoreUnavailable } from "../src/SessionError.ts"
import { UntracedError } from "../src/internal/UntracedError.ts"

describe("UntracedError", () => {
  it("is an error that says what happened, and looks for no stack", () => {
    const error = new SessionStoreUnavailable({
      operation: "read the session",
      reason: "Overloaded",
      outcome: "NotApplied",
      detail: "20000 requests are waiting already"
    })
    assert.instanceOf(error, Error)
    assert.instanceOf(error, SessionStoreUnavailable)
    assert.deepInclude(error, {
      _tag: "SessionStoreUnavailable",
      name: "SessionStoreUnavailable",
      reason: "Overloaded"
    })
    assert.include(error.message, "20000 requests are waiting already")
    assert.strictEqual(error.stack, `SessionStoreUnavailable: ${error.message}`)
    assert.notInclude(new SessionNotFound({ key: undefined }).stack ?? "", "\n    at ")
  })

  it("leaves the stacks of other errors, also when it cannot be made", () => {
    class Failing extends UntracedError("Failing")<{ readonly value: string }> {}
    const properties = {
      get value(): string {
        throw new Error("no value")
      }
    }
    assert.throws(() => new Failing(properties), "no value")
    assert.include(new Error("traced").stack ?? "", "\n    at ")
  })
})
