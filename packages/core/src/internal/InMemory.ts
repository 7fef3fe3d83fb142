/**
 * The answer of a store's `find` where memory has it, without an effect around it:
 * for adapters that run on every request. It is known by the function `find` itself,
 * so that a store that wraps or replaces it has no such way past it.
 */
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import type { Session } from "../Session.ts"
import type { SessionId } from "../SessionId.ts"
import type { Sessions } from "../SessionStore.ts"

/** Answers, and counts as activity, as `find` without options would; `undefined`: ask `find`. */
export type FindInMemory = (id: SessionId) => Exit.Exit<Option.Option<Session>> | undefined

const known = new WeakMap<Sessions["find"], FindInMemory>()

const ask: FindInMemory = () => undefined

/** Says how to do without an effect what a `find` does. */
export const register = (find: Sessions["find"], inMemory: FindInMemory): void => {
  known.set(find, inMemory)
}

/** How to ask a store's memory: look it up once, not with every request. */
export const findIn = (sessions: Pick<Sessions, "find">): FindInMemory => known.get(sessions.find) ?? ask
