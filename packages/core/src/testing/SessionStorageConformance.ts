/**
 * The contract of `SessionStorage` as tests. Whoever writes an adapter runs them
 * on it:
 *
 * ```ts
 * sessionStorageConformance("MySessionStorage", { layer: MyDatabase.layer })
 * ```
 *
 * They look at the two ports only. Users, groups and sessions are new in each
 * test; one test ends all sessions that the database has.
 */
import { register } from "./conformance/Harness.ts"
import type { ConformanceOptions } from "./conformance/Harness.ts"
import { storageConcurrency } from "./conformance/StorageConcurrency.ts"
import { storageCreation } from "./conformance/StorageCreation.ts"
import { storageDeletion } from "./conformance/StorageDeletion.ts"
import { storageExpiry } from "./conformance/StorageExpiry.ts"
import { storageNotices } from "./conformance/StorageNotices.ts"
import { storageReading } from "./conformance/StorageReading.ts"
import { storageRotation } from "./conformance/StorageRotation.ts"
import { storageSweeping } from "./conformance/StorageSweeping.ts"
import { storageTouching } from "./conformance/StorageTouching.ts"
import { storageValues } from "./conformance/StorageValues.ts"
import { storageWriting } from "./conformance/StorageWriting.ts"

/** Registers the tests of a storage with vitest; the layer is built once. */
export const sessionStorageConformance = <R = never, E = never>(
  name: string,
  options: ConformanceOptions<R, E>
): void =>
  register(name, options, [
    ["reading", storageReading],
    ["creation", storageCreation],
    ["writing", storageWriting],
    ["values", storageValues],
    ["touching", storageTouching],
    ["expiry", storageExpiry],
    ["rotation", storageRotation],
    ["deletion", storageDeletion],
    ["sweeping", storageSweeping],
    ["notices", storageNotices],
    ["concurrency", storageConcurrency]
  ])
