/**
 * What a store's `find` answers where memory has it, without an effect around it:
 * for adapters that run on every request. It is known by the function `find` itself,
 * so that a store that wraps or replaces it has no such way past it.
 */
import type { Session } from "../Session.ts"
import type { SessionId } from "../SessionId.ts"
import type { Sessions } from "../SessionStore.ts"

/** What a store has in memory; `undefined`: ask `find`. */
export interface Memory {
  /** Answers, and counts as activity, as `find` without options would. */
  readonly find: (id: SessionId) => Session | undefined
  /** The same as `find` with `touch: false`. */
  readonly peek: (id: SessionId) => Session | undefined
}

const known = new WeakMap<Sessions["find"], Memory>()

const unknown: Memory = { find: () => undefined, peek: () => undefined }

/** Says how to do without an effect what a `find` does. */
export const register = (find: Sessions["find"], memory: Memory): void => {
  known.set(find, memory)
}

/** How to ask a store's memory: look it up once, not with every request. */
export const memoryOf = (sessions: Pick<Sessions, "find">): Memory => known.get(sessions.find) ?? unknown
