/** The files of tests that mutations name. */
const core = (name: string): string => `packages/core/test/${name}.test.ts`
const pg = (name: string): string => `packages/pg/test/${name}.test.ts`
const http = (name: string): string => `packages/http/test/${name}.test.ts`

export const inCore = {
  boundedStaleness: core("guarantees/G1-BoundedStaleness"),
  readYourWrites: core("guarantees/G2-ReadYourWrites"),
  lostUpdates: core("guarantees/G3-NoLostUpdate"),
  resurrection: core("guarantees/G4-NoResurrection"),
  acknowledged: core("guarantees/G5-NothingAcknowledgedIsLost"),
  expiry: core("guarantees/G6-ExpiryHoldsAtReadTime"),
  limits: core("guarantees/G7-LimitsHoldUnderConcurrency"),
  hostileInput: core("guarantees/G10-HostileInputIsCheap"),
  orderlyEnd: core("guarantees/G11-OrderlyEnd"),
  storms: core("guarantees/G12-NoStorms"),
  absentKeys: core("AbsentKeys"),
  backlog: core("Backlog"),
  cacheEntries: core("CacheEntries"),
  coalescer: core("Coalescer"),
  crypto: core("Crypto"),
  fillRegistry: core("FillRegistry"),
  lockFaults: core("LockFaults"),
  logins: core("Logins"),
  modify: core("Modify"),
  nodeClock: core("NodeClock"),
  operations: core("Operations"),
  sessionId: core("SessionId"),
  sessionLocks: core("SessionLocks"),
  synchronization: core("Synchronization"),
  touchBuffer: core("TouchBuffer"),
  touchFlush: core("TouchFlush"),
  updates: core("Updates"),
  watch: core("Watch")
} as const

export const inPg = {
  alarms: pg("Alarms"),
  boundedStaleness: pg("guarantees/G1-BoundedStaleness"),
  lostUpdates: pg("guarantees/G3-NoLostUpdate"),
  limits: pg("guarantees/G7-LimitsHoldUnderConcurrency"),
  conformance: pg("Conformance"),
  database: pg("Database"),
  fence: pg("PgSessionFence"),
  keyOrder: pg("KeyOrder"),
  locks: pg("PgSessionLocks"),
  locksHammer: pg("PgSessionLocksHammer"),
  mailbox: pg("Mailbox"),
  notifier: pg("PgSessionNotifier"),
  payload: pg("NotificationPayload"),
  statementRunner: pg("StatementRunner"),
  storage: pg("PgSessionStorage"),
  storageHammer: pg("PgSessionStorageHammer"),
  storageParts: pg("PgSessionStorageParts"),
  tryCreate: pg("TryCreate"),
  tryWrite: pg("TryWrite"),
  tryWriteRaces: pg("TryWriteRaces")
} as const

export const inHttp = {
  concurrency: http("Concurrency"),
  cookieSigner: http("CookieSigner"),
  crypto: http("Crypto"),
  expressMemory: http("ExpressMemory"),
  expressStore: http("ExpressStore"),
  guards: http("Guards"),
  hostileClients: http("HostileClients"),
  hostileCookies: http("HostileCookies"),
  middleware: http("Middleware"),
  owasp: http("Owasp"),
  requestSession: http("RequestSession")
} as const
