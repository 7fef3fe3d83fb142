/**
 * Errors without a stack trace. Answers such as "there is no such session" and "too much is waiting" are made in masses when many
 * ask for what is not there, or for more than can be done. A trace would take ten times as long as the rest of them, and would
 * name the loop that runs fibers, never the code that asked.
 */
import * as Data from "effect/Data"

type Tagged<Tag extends string> = ReturnType<typeof Data.TaggedError<Tag>>

/** As `Data.TaggedError`. */
export function UntracedError<Tag extends string>(tag: Tag): Tagged<Tag>
export function UntracedError(tag: string): new (properties: never) => object {
  return class extends Data.TaggedError(tag)<Readonly<Record<string, unknown>>> {
    constructor(properties: Readonly<Record<string, unknown>>) {
      const { stackTraceLimit } = Error
      Error.stackTraceLimit = 0
      try {
        super(properties)
      } finally {
        Error.stackTraceLimit = stackTraceLimit
      }
    }
  }
}
