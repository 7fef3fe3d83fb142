/**
 * Payloads on their way from a connection to the one who applies them, bounded in
 * size. Whoever waits gets them in the same turn of the event loop in which they
 * arrive: a queue of Effect's wakes its takers a turn later, and a notice passes
 * by on every node.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

type Taken<E> = Exit.Exit<ReadonlyArray<string>, E>

const overhead = 64

export class Mailbox<E> {
  private readonly limit: number
  private payloads: Array<string> = []
  private size = 0
  private end: Taken<E> | undefined
  private readonly waiting = new Set<(taken: Taken<E>) => void>()

  /** `limit`: how many characters of payloads may wait to be taken, each payload counting 64 more. */
  constructor(limit: number) {
    this.limit = limit
  }

  /** Puts a payload in; `deliver` hands it out. Not after the end. */
  put(payload: string): void {
    if (this.end !== undefined) return
    this.payloads.push(payload)
    this.size += payload.length + overhead
  }

  /** Hands what is there to the one who has waited longest. Says whether the rest may wait. */
  deliver(): boolean {
    const [resume] = this.waiting
    if (resume !== undefined && this.payloads.length > 0) {
      this.waiting.delete(resume)
      resume(this.takeAll())
    }
    return this.size <= this.limit
  }

  /** From now on takers get what is left, then the failure. The first one counts. */
  fail(cause: Cause.Cause<E>): void {
    if (this.end !== undefined) return
    this.end = Exit.failCause(cause)
    const waiting = [...this.waiting]
    this.waiting.clear()
    for (const resume of waiting) resume(this.payloads.length > 0 ? this.takeAll() : this.end)
  }

  /** All that is there, at least one; waits for it. */
  readonly take: Effect.Effect<ReadonlyArray<string>, E> = Effect.suspend(
    () => (this.payloads.length > 0 ? this.takeAll() : this.end) ?? this.wait
  )

  private readonly wait: Effect.Effect<ReadonlyArray<string>, E> = Effect.callback((resume) => {
    this.waiting.add(resume)
    return Effect.sync(() => this.waiting.delete(resume))
  })

  private takeAll(): Taken<E> {
    const { payloads } = this
    this.payloads = []
    this.size = 0
    return Exit.succeed(payloads)
  }
}
