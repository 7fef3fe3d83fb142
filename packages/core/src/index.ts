export * from "./Session.ts"
export * from "./SessionAttribute.ts"
export * from "./SessionCache.ts"
export * from "./SessionConfig.ts"
export * from "./SessionError.ts"
export * from "./SessionEvent.ts"
export * from "./SessionId.ts"
export * from "./SessionLockStorage.ts"
export * from "./SessionLocks.ts"
export * from "./SessionNotifier.ts"
export * from "./SessionStorage.ts"
export * from "./SessionStore.ts"
/** How adapters that run on every request ask a store's memory. */
export * as InMemory from "./internal/InMemory.ts"
/** What adapters remember of requests, in bounded memory. */
export { RecentMap } from "./internal/RecentMap.ts"
/** How a table of settings is read and checked; for adapters that have settings of their own. */
export * as Setting from "./internal/Setting.ts"
