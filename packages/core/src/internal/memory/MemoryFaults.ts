/**
 * Faults on demand for the in-process database: statements that wait, fail before
 * or after they were applied, or never answer, on one node or on all. Tests
 * force with it every order of events that a network and a database can produce.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { UnavailableReason } from "../../SessionError.ts"
import type { Notifier } from "../../SessionNotifier.ts"
import type { Storage } from "../../SessionStorage.ts"

/** Everything that can be asked of the database. */
export type Operation = keyof Storage | keyof Notifier | LockOperation

/** What is asked about locks. */
export type LockOperation = "acquireLock" | "extendLock" | "releaseLock" | "leaveLock" | "sweepLocks"

/** A statement that is about to run. */
export interface Statement {
  readonly node: string
  readonly operation: Operation
  /** A change whose answer is lost has an unknown outcome; a read has none. */
  readonly kind: "read" | "change"
}

/** How a statement fails. */
export interface FailureOptions {
  /** Which node's; `undefined`: whichever comes next. */
  readonly node?: string | undefined
  /** `true`: the statement is applied and its answer is lost. Default: it never reaches the database. */
  readonly applied?: boolean | undefined
  /** Default: `"Unreachable"`. */
  readonly reason?: UnavailableReason | undefined
  /** How many statements fail; default: one. */
  readonly times?: number | undefined
}

/** A statement that was stopped, or will be. */
export interface Pause {
  /** Completes when a statement has arrived at the pause. */
  readonly arrived: Effect.Effect<void>
  /** Lets it go on. */
  readonly resume: Effect.Effect<void>
}

/** Whether a node can reach the database. */
export type Reachability =
  | "Up"
  /** Every statement fails at once. */
  | "Refusing"
  /** No statement is answered until this changes: a silent partition. */
  | "Hanging"

/** The faults that are in force. */
export interface Faults {
  /** Runs before a statement is applied. */
  readonly before: (statement: Statement) => Effect.Effect<void, SessionStoreUnavailable>
  /** Runs after it was applied, before its answer is seen. */
  readonly after: (statement: Statement) => Effect.Effect<void, SessionStoreUnavailable>
  readonly failNext: (operation: Operation, options?: FailureOptions) => void
  readonly pause: (when: "before" | "after", operation: Operation, node?: string) => Pause
  readonly reach: (reachability: Reachability, node?: string) => Effect.Effect<void>
}

interface PlannedPause {
  readonly when: "before" | "after"
  readonly operation: Operation
  readonly node: string | undefined
  readonly arrived: Latch.Latch
  readonly resume: Latch.Latch
}

interface PlannedFailure {
  readonly when: "before" | "after"
  readonly operation: Operation
  readonly node: string | undefined
  readonly reason: UnavailableReason
  left: number
}

const concerns = (planned: PlannedPause | PlannedFailure, when: "before" | "after", statement: Statement): boolean =>
  planned.when === when &&
  planned.operation === statement.operation &&
  (planned.node === undefined || planned.node === statement.node)

const remove = <A>(from: Array<A>, item: A): void => {
  const index = from.indexOf(item)
  if (index >= 0) from.splice(index, 1)
}

/** No faults at first. */
export const make = (): Faults => {
  const pauses: Array<PlannedPause> = []
  const failures: Array<PlannedFailure> = []
  const nodes = new Map<string, Reachability>()
  let everywhere: Reachability = "Up"
  const changed = Latch.makeUnsafe(false)

  const reachability = (node: string): Reachability => nodes.get(node) ?? everywhere

  const paused = (when: "before" | "after", statement: Statement): Effect.Effect<void> => {
    const pause = pauses.find((planned) => concerns(planned, when, statement))
    if (pause === undefined) return Effect.void
    remove(pauses, pause)
    pause.arrived.openUnsafe()
    return pause.resume.await
  }

  const failed = (when: "before" | "after", statement: Statement): Effect.Effect<void, SessionStoreUnavailable> => {
    const failure = failures.find((planned) => concerns(planned, when, statement))
    if (failure === undefined) return Effect.void
    failure.left--
    if (failure.left <= 0) remove(failures, failure)
    return Effect.fail(errorOf(when, statement, failure.reason))
  }

  const reached = (when: "before" | "after", statement: Statement): Effect.Effect<void, SessionStoreUnavailable> => {
    switch (reachability(statement.node)) {
      case "Up":
        return Effect.void
      case "Refusing":
        return Effect.fail(errorOf(when, statement, "Unreachable"))
      case "Hanging":
        return Effect.flatMap(changed.await, () => reached(when, statement))
    }
  }

  const step = (when: "before" | "after", statement: Statement): Effect.Effect<void, SessionStoreUnavailable> =>
    Effect.suspend(() => paused(when, statement)).pipe(
      Effect.andThen(Effect.suspend(() => reached(when, statement))),
      Effect.andThen(Effect.suspend(() => failed(when, statement)))
    )

  const isQuiet = (): boolean => pauses.length === 0 && failures.length === 0 && nodes.size === 0 && everywhere === "Up"

  return {
    before: (statement) => Effect.suspend(() => (isQuiet() ? Effect.void : step("before", statement))),
    after: (statement) => Effect.suspend(() => (isQuiet() ? Effect.void : step("after", statement))),
    failNext: (operation, options) => {
      failures.push({
        when: options?.applied === true ? "after" : "before",
        operation,
        node: options?.node,
        reason: options?.reason ?? "Unreachable",
        left: options?.times ?? 1
      })
    },
    pause: (when, operation, node) => {
      const pause = { when, operation, node, arrived: Latch.makeUnsafe(false), resume: Latch.makeUnsafe(false) }
      pauses.push(pause)
      return { arrived: pause.arrived.await, resume: Effect.asVoid(pause.resume.open) }
    },
    reach: (next, node) =>
      Effect.suspend(() => {
        if (node !== undefined) nodes.set(node, next)
        else {
          nodes.clear()
          everywhere = next
        }
        // Wakes all who wait; each looks at its own node's state again.
        return Effect.asVoid(changed.release)
      })
  }
}

const errorOf = (when: "before" | "after", statement: Statement, reason: UnavailableReason): SessionStoreUnavailable =>
  new SessionStoreUnavailable({
    operation: statement.operation,
    reason,
    outcome: when === "after" && statement.kind === "change" ? "Unknown" : "NotApplied",
    detail: when === "after" ? "a test lost the answer" : "a test refused the statement"
  })
