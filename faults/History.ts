/**
 * Who asked what when, and what was answered: all that the checks decide by.
 * Times are of {@link Timing}. Everything here is plain data, so that a test can
 * write a history by hand.
 */

/** What a client asks of a node. Tokens are the ids that sessions are presented by. */
export type Request =
  | {
      readonly _tag: "Create"
      readonly user: string | undefined
      readonly group: string | undefined
      readonly expiresIn: number | undefined
      readonly idleTimeout: number | undefined
    }
  | {
      readonly _tag: "Read"
      readonly token: string
      readonly touch: boolean
      readonly refresh: boolean
      readonly minVersion: number | undefined
    }
  | {
      readonly _tag: "Update"
      readonly token: string
      readonly check: "attributes" | "session" | "none"
      /** What is written: the next count, or a note that nobody has written before. */
      readonly write: { readonly _tag: "Count" } | { readonly _tag: "Note"; readonly note: string }
      /** Change what this node has seen last, however old that is, instead of what it reads now. */
      readonly onOld: boolean
    }
  /** Adds one to the count, however often that must be tried. */
  | { readonly _tag: "Increment"; readonly token: string }
  /** Sets the attribute that expires by itself. */
  | { readonly _tag: "Elevate"; readonly token: string }
  | { readonly _tag: "Rotate"; readonly token: string; readonly user: string | undefined; readonly grace: number }
  | { readonly _tag: "Delete"; readonly token: string }
  | { readonly _tag: "DeleteByKey"; readonly key: string }
  | { readonly _tag: "DeleteUser"; readonly user: string; readonly except: string | undefined }
  | { readonly _tag: "DeleteGroup"; readonly group: string }
  | { readonly _tag: "List"; readonly user: string }
  /** Increments something under a lock, not atomically: a row of the harness, or an attribute of the session. */
  | {
      readonly _tag: "Lock"
      readonly lock: string
      readonly token: string | undefined
      /** How long the work takes. */
      readonly hold: number
      /** The work cannot be interrupted: it goes on and writes, whatever it is told. */
      readonly stubborn: boolean
    }
  /** Presents an id that nobody was given. */
  | { readonly _tag: "Forge"; readonly token: string }
  | { readonly _tag: "Sweep" }

/** A session as it was answered. */
export interface Snapshot {
  readonly key: string
  readonly version: number
  readonly user: string | undefined
  readonly group: string | undefined
  /** Incremented by checked updates and by `modify`. */
  readonly count: number
  /** Incremented under a lock, by fenced updates that check nothing. */
  readonly guarded: number
  /** The last note written without a check. */
  readonly note: string
  readonly elevated: boolean
}

/** What happened under a lock. */
export interface Section {
  readonly token: number
  /** When the holder learned of the grant. */
  readonly grantedAt: number
  /** When the receiver of what is written had certainly been told of the grant. */
  readonly knownAt: number
  /** When the holder was at work, each with the longest pause of its process since the grant. */
  readonly steps: ReadonlyArray<{ readonly at: number; readonly pause: number }>
  /** Whether the increment was sent. */
  readonly writing: boolean
  /** What was written, as the receiver has confirmed; `undefined`: it has not. */
  readonly written: number | undefined
  /** The receiver refused the token. */
  readonly fenced: boolean
}

export type Outcome =
  /** Found, created or written; `token` is a new id. */
  | { readonly _tag: "Session"; readonly session: Snapshot; readonly token?: string | undefined }
  /** `None` or `SessionNotFound`. */
  | { readonly _tag: "Gone" }
  /** A checked update lost a race. */
  | { readonly _tag: "Mismatch"; readonly expected: number; readonly actual: number; readonly current: Snapshot }
  /** Ended, swept or counted. */
  | { readonly _tag: "Done"; readonly count: number | undefined }
  | { readonly _tag: "Listed"; readonly sessions: ReadonlyArray<{ readonly key: string; readonly version: number }> }
  /** `ended`: "Finished", or the error that the lock failed with after it was granted. */
  | { readonly _tag: "Locked"; readonly section: Section; readonly ended: string }
  /** Refused with this typed error; nothing was changed. */
  | { readonly _tag: "Refused"; readonly error: string }
  | { readonly _tag: "Unavailable"; readonly reason: string; readonly applied: "NotApplied" | "Unknown" }
  /** The node ended before it answered. */
  | { readonly _tag: "Unanswered" }
  /** Something that no operation promises: always a violation. */
  | { readonly _tag: "Defect"; readonly message: string }

export interface Operation {
  readonly id: number
  /** The node's process: `node.incarnation`. */
  readonly node: string
  readonly request: Request
  readonly start: number
  /** Infinite where no answer came. */
  readonly end: number
  /** The longest time in which the node's process did nothing, between start and end. */
  readonly pause: number
  readonly outcome: Outcome
}

/** A row of the table of sessions. */
export interface Row {
  readonly key: string
  readonly user: string | undefined
  readonly version: number
  readonly count: number
  readonly guarded: number
  readonly note: string
  /** Whether neither limit has passed. */
  readonly live: boolean
  /** By the clock of {@link Timing}. */
  readonly lastAccessedAt: number
}

/** The end of a node's process. */
export interface NodeEnd {
  readonly node: string
  readonly how: "Killed" | "Asked" | "ByItself"
  /** Its exit code, or the signal. */
  readonly status: string
  readonly at: number
  /** From the signal to the end. */
  readonly tookMillis: number
}

/** A figure that has a bound: of a node's health, or of the statements that something took. */
export interface Bounded {
  readonly node: string
  readonly what: string
  readonly value: number
  readonly bound: number
}

/** How the nodes ended at the very end, when nothing was wrong any more. */
export interface Farewell {
  /** Sessions that were used just before, and not earlier than when. */
  readonly used: ReadonlyArray<{ readonly key: string; readonly at: number }>
  /** When the database knows them to have been used last. */
  readonly stored: ReadonlyMap<string, number>
  /** Each node held a lock just before. */
  readonly nodes: number
  /** The locks that were held just before, and those that were still held afterwards. */
  readonly locksBefore: ReadonlyArray<string>
  readonly locksAfter: ReadonlyArray<string>
}

/** Everything that is known of a run. */
export interface History {
  readonly settings: {
    readonly maxStaleness: number
    readonly statementTimeout: number
    readonly shutdownTimeout: number
    readonly maxSessionsPerUser: number
    readonly elevatedFor: number
  }
  readonly operations: ReadonlyArray<Operation>
  /** The table at the end, when all faults were healed; `undefined`: it could not be read. */
  readonly rows: ReadonlyArray<Row> | undefined
  /** The rows that were incremented under locks, by the locks' names. */
  readonly counters: ReadonlyMap<string, number>
  /** Moments at which a user had more sessions than allowed, by the table. */
  readonly overLimit: ReadonlyArray<{ readonly user: string; readonly sessions: number }>
  readonly ends: ReadonlyArray<NodeEnd>
  /** Nodes that did not serve from memory again when all was healed. */
  readonly unrecovered: ReadonlyArray<string>
  readonly health: ReadonlyArray<Bounded>
  readonly statements: ReadonlyArray<Bounded>
  /** Where something was found that is secret, and what. */
  readonly leaks: ReadonlyArray<{ readonly where: string; readonly what: string }>
  readonly farewell: Farewell | undefined
}

/** A broken promise. */
export interface Violation {
  readonly guarantee: string
  readonly message: string
}
