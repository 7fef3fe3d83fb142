/** PgBouncer in front of the server, where statements go through one; it can be restarted on the same port. */
import { PgBouncer } from "@effect-pg-session/pg/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"

const poolSize = 16

export interface Pooler {
  readonly url: Redacted.Redacted<string>
  /** Ends it, with all connections through it, and starts another one after a time. */
  readonly restart: (millis: number) => Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* (target: Redacted.Redacted<string>) {
  const outer = yield* Effect.scope
  let scope = yield* Scope.fork(outer)
  const { port, url } = yield* Scope.provide(PgBouncer.make(target, { poolSize }), scope)
  const start = Effect.gen(function* () {
    scope = yield* Scope.fork(outer)
    yield* Scope.provide(PgBouncer.make(target, { poolSize, port }), scope)
  })
  return {
    url,
    restart: (millis) =>
      Effect.suspend(() => Scope.close(scope, Exit.void)).pipe(
        Effect.andThen(Effect.sleep(millis)),
        Effect.ensuring(Effect.orDie(start)),
        Effect.asVoid
      )
  } satisfies Pooler
})
