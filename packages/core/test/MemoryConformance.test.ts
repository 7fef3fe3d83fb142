/** The in-memory adapters keep both contracts, under `TestClock`. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryDatabase from "../src/internal/memory/MemoryDatabase.ts"
import * as MemoryLockStorage from "../src/internal/memory/MemoryLockStorage.ts"
import * as MemoryNotifier from "../src/internal/memory/MemoryNotifier.ts"
import * as MemoryStorage from "../src/internal/memory/MemoryStorage.ts"
import {
  sessionLockStorageConformance,
  sessionNotifierConformance,
  sessionStorageConformance
} from "../src/testing/index.ts"

const layerWith = (options: MemoryDatabase.Options) =>
  Layer.mergeAll(MemoryStorage.layer, MemoryNotifier.layer, MemoryLockStorage.layer).pipe(
    Layer.provideMerge(MemoryDatabase.layerWith(options))
  )

const controls = Effect.map(MemoryDatabase.MemoryDatabase, (database) => database.controls)

sessionStorageConformance("MemoryStorage", { layer: layerWith({}), advance: TestClock.adjust })

sessionNotifierConformance("MemoryNotifier", {
  layer: layerWith({ bufferCapacity: 2_000 }),
  advance: TestClock.adjust,
  cut: Effect.flatMap(controls, ({ cut }) => cut()),
  garble: Effect.flatMap(controls, ({ forge }) => forge({ _tag: "Unreadable" })),
  overflowAfter: 2_000
})

sessionLockStorageConformance("MemoryLockStorage", { layer: layerWith({}), advance: TestClock.adjust })
