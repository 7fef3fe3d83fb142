/**
 * For those who write an adapter for another database: the contracts of the ports
 * as test suites. They need `vitest` and `@effect/vitest`.
 */
export type { ConformanceOptions, Ports } from "./conformance/Harness.ts"
export type { NotifierFaults } from "./conformance/NotifierFaults.ts"
export type { StorageFaults } from "./conformance/StorageFaults.ts"
export * from "./SessionLockStorageConformance.ts"
export * from "./SessionNotifierConformance.ts"
export * from "./SessionStorageConformance.ts"
