/** The disk is full: statements fail, and where the write-ahead log cannot be written, the server goes down. */
import * as Effect from "effect/Effect"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import type { Fault } from "../Fault.ts"
import { fillUp, limitedDirectory } from "../Quota.ts"

/** `why`: there is no file system of limited size. */
export const faults = (why: string | undefined): ReadonlyArray<Fault> => [
  {
    kind: "diskFull",
    lane: "server",
    skipped: limitedDirectory === undefined ? (why ?? "there is no small file system") : undefined,
    inject: ({ database: { postgres } }, random) => {
      const directory = limitedDirectory
      if (directory === undefined) return Effect.void
      return Effect.promise(() => fillUp(directory)).pipe(
        Effect.andThen(Effect.sleep(random.integer(300, 2_000))),
        Effect.ensuring(
          Effect.andThen(
            Effect.promise(() => rm(join(directory, "filler"), { force: true })),
            // It may have given up, as it should.
            Effect.orDie(postgres.start)
          )
        )
      )
    }
  }
]
