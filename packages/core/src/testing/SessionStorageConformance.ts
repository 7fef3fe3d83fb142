/**
 * The contract of `SessionStorage` as tests. Whoever writes an adapter runs them
 * on it:
 *
 * ```ts
 * sessionStorageConformance("MySessionStorage", { layer: MyDatabase.layer })
 * ```
 *
 * They look at the two ports only, except for what the adapter must cause itself;
 * what it offers no hook for is not tried. Users, groups and sessions are new in
 * each test; some tests end all sessions that the database has.
 */
import { register } from "./conformance/Harness.ts"
import type { ConformanceOptions } from "./conformance/Harness.ts"
import { storageConcurrency } from "./conformance/StorageConcurrency.ts"
import { storageCreation } from "./conformance/StorageCreation.ts"
import { storageDeletion } from "./conformance/StorageDeletion.ts"
import { storageExpiry } from "./conformance/StorageExpiry.ts"
import { storageFaults } from "./conformance/StorageFaults.ts"
import type { StorageFaults } from "./conformance/StorageFaults.ts"
import { storageLoginLimits } from "./conformance/StorageLoginLimits.ts"
import { storageLogins } from "./conformance/StorageLogins.ts"
import { storageNotices } from "./conformance/StorageNotices.ts"
import { storageReading } from "./conformance/StorageReading.ts"
import { storageRotation } from "./conformance/StorageRotation.ts"
import { storageSweeping } from "./conformance/StorageSweeping.ts"
import { storageTouching } from "./conformance/StorageTouching.ts"
import { storageValues } from "./conformance/StorageValues.ts"
import { storageWriting } from "./conformance/StorageWriting.ts"

/** What the suite must know of a storage, and may do to it. */
export interface StorageConformanceOptions<R, E> extends ConformanceOptions<R, E>, StorageFaults<R> {}

/** Registers the tests of a storage with vitest; the layer is built once. */
export const sessionStorageConformance = <R = never, E = never>(
  name: string,
  options: StorageConformanceOptions<R, E>
): void =>
  register(name, options, [
    ["reading", storageReading],
    ["creation", storageCreation],
    ["creation together", storageLogins],
    ["limits of creation together", storageLoginLimits],
    ["writing", storageWriting],
    ["values", storageValues],
    ["touching", storageTouching],
    ["expiry", storageExpiry],
    ["rotation", storageRotation],
    ["deletion", storageDeletion],
    ["sweeping", storageSweeping],
    ["notices", storageNotices],
    ["concurrency", storageConcurrency],
    // vitest refuses an empty part
    ...(options.crash === undefined && options.rolledBack === undefined
      ? []
      : [["faults", storageFaults(options)] as const])
  ])
