/** Until when what is in memory may be served, on this node's clock. */
import type { Settings } from "../SessionConfig.ts"
import type { SessionView } from "./SessionView.ts"

/** Until when a session is known to be alive: no other node can make that earlier without a notice. */
export const validUntil = (view: SessionView, { cacheMaxAge }: Settings): number =>
  Math.min(view.deadline, view.loadedAt + cacheMaxAge)

/**
 * Until when a gathered touch is early enough for the session not to be taken for idle. Later than that, and so
 * always where the idle timeout is short, a read touches synchronously.
 */
export const touchBefore = (view: SessionView, { statementTimeout }: Settings): number =>
  view.idleDeadline - 2 * statementTimeout
