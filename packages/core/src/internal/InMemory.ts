/**
 * What a store's `find` answers where memory has it, without an effect around it:
 * for adapters that run on every request. It is known by the function `find` itself,
 * so that a store that wraps or replaces it has no such way past it.
 */
import type { Session } from "../Session.ts"
import type { SessionId } from "../SessionId.ts"
import type { Sessions } from "../SessionStore.ts"
import type { Handle } from "./CacheEntries.ts"

/**
 * An id that is presented again and again, and where its session was last found: as long as the session stays in memory, finding it
 * takes neither the id's text nor a lookup. Each of those waits for main memory, which takes longer than anything else of a hit.
 */
export class Place {
  readonly id: SessionId
  /** Set and taken away by a cache; never the session of another id. */
  handle: Handle | undefined = undefined
  /** The mark of that cache, by which nobody gets from here to what else is in it. */
  owner: object | undefined = undefined

  constructor(id: SessionId) {
    this.id = id
  }
}

/** What a store has in memory; `undefined`: ask `find`. */
export interface Memory {
  /** Answers, and counts as activity, as `find` without options would. */
  readonly find: (place: Place) => Session | undefined
  /** The same as `find` with `touch: false`. */
  readonly peek: (place: Place) => Session | undefined
}

const known = new WeakMap<Sessions["find"], Memory>()

const unknown: Memory = { find: () => undefined, peek: () => undefined }

/** Says how to do without an effect what a `find` does. */
export const register = (find: Sessions["find"], memory: Memory): void => {
  known.set(find, memory)
}

/** How to ask a store's memory: look it up once, not with every request. */
export const memoryOf = (sessions: Pick<Sessions, "find">): Memory => known.get(sessions.find) ?? unknown
