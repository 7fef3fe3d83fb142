/**
 * What all nodes of a run are set up with, in milliseconds where it is a time.
 * Short enough that a minute holds every fault several times.
 */
export const settings = {
  maxStaleness: 1_000,
  statementTimeout: 1_500,
  shutdownTimeout: 3_000,
  lastAccessFlushInterval: 2_000,
  cleanupInterval: 2_000,
  lockLeaseTime: 1_500,
  lockHeartbeatInterval: 300,
  maxSessionsPerUser: 4,
  cacheCapacity: 4_000,
  maxConnections: 8
} as const

/** How long a second factor counts: the lifetime of an attribute. */
export const elevatedFor = 1_500
