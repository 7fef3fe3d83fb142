/**
 * What is measured: each figure's meaning, the bound that `--check` insists on, and
 * what we aim at.
 */

/** One figure. */
export interface Figure {
  readonly meaning: string
  /** `atLeast`: higher is better. */
  readonly better: "atLeast" | "atMost"
  readonly bound: number
  readonly aim: number
}

const atLeast = (bound: number, aim: number, meaning: string): Figure => ({ meaning, better: "atLeast", bound, aim })
const atMost = (bound: number, aim: number, meaning: string): Figure => ({ meaning, better: "atMost", bound, aim })

/** By the names that they have in `results/latest.json`. */
export const figures: Readonly<Record<string, Figure>> = {
  "read.hit.opsPerSec": atLeast(2_000_000, 3_000_000, "cached reads a second in one fiber, the touch included"),
  "read.hit.vsFloor": atMost(2, 1.3, "their time over that of suspend, Map.get and a mark"),
  "read.hit.vsRedis": atLeast(200, 300, "operations over Redis GET and JSON.parse, one at a time"),
  "read.hit.vsRedisPipelined64": atLeast(12, 20, "the same, over 64 in flight"),
  "read.hit.vsSizeMillion": atMost(3, 2, "time with 1 000 000 cached sessions over time with 1 000"),
  "read.miss.vsSelect": atMost(1.4, 1.2, "a miss, time over a bare SELECT by primary key"),
  "read.miss64.vsSelect64": atLeast(1.2, 2, "64 misses at once, operations over 64 SELECTs"),
  "update.c1.vsStatement": atMost(1.3, 1.1, "an update, time over one bare UPDATE ... RETURNING with pg_notify"),
  "update.c64.vsStatementEach": atLeast(5, 10, "64 callers that update, operations over a statement each"),
  "update.c1.vsRedisDurable": atLeast(
    1,
    1.3,
    "get, set, update, operations over HGETALL and HSET with appendfsync always"
  ),
  "update.c64.vsRedisDurable": atLeast(0.5, 1, "the same, 64 callers"),
  "update.hotShare": atLeast(0.95, 0.99, "share of updates of rows, those of activity included, that touch no index"),
  "create.c64.vsInsertEach": atLeast(1, 3, "64 logins at once, limits enforced, operations over a bare INSERT each"),
  "create.full64.vsInsertEach": atLeast(0.7, 1.5, "the same, each ends its user's oldest session and tells all nodes"),
  "invalidation.p50vsNotify": atMost(
    2,
    1.3,
    "from the commit on one node until another has dropped the session, median over a bare NOTIFY round trip"
  ),
  "invalidation.p99ms": atMost(20, 10, "the same in milliseconds, the 99th percentile at 1 000 updates a second"),
  "nodes8.update.vsNodes1": atLeast(0.7, 0.9, "update throughput with eight nodes listening over one"),
  "memory.vsPlain": atMost(2, 1.5, "heap per cached session over that of its parsed JSON alone"),
  "http.vsBare": atLeast(0.8, 0.95, "requests a second with a session read over the same route without"),
  "http.vsExpressRedis": atLeast(4, 5, "requests a second over express-session with connect-redis"),
  "http.vsExpressPg": atLeast(15, 25, "requests a second over express-session with connect-pg-simple"),
  "lock.cycle.vsStatements": atMost(1.3, 1.1, "acquire and release, time over two bare statements"),
  "lock.wakeup.vsNotify": atMost(
    3,
    2,
    "from a release until a waiter on another node is awake, median over a bare NOTIFY round trip"
  )
}

/** Whether a value keeps its figure's bound. */
export const keeps = ({ better, bound }: Figure, value: number): boolean =>
  better === "atLeast" ? value >= bound : value <= bound
