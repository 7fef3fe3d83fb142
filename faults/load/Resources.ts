/** What a process has of memory and of the operating system. */
import { readdirSync } from "node:fs"
import type { Figures } from "./Flatness.ts"

const megabyte = 2 ** 20

const descriptors = (): Figures => {
  try {
    return { descriptors: readdirSync("/proc/self/fd").length }
  } catch {
    return {}
  }
}

/** Collects what can be collected first: the process must have been started with `--expose-gc`. */
export const measure = (): Figures => {
  if (globalThis.gc === undefined) throw new Error("the process was not started with --expose-gc")
  // What the first round finalizes, the second one frees.
  globalThis.gc()
  globalThis.gc()
  const { arrayBuffers, external, heapUsed, rss } = process.memoryUsage()
  const resources = process.getActiveResourcesInfo()
  const timers = resources.filter((kind) => kind === "Timeout").length
  return {
    heapMegabytes: heapUsed / megabyte,
    externalMegabytes: (external + arrayBuffers) / megabyte,
    rssMegabytes: rss / megabyte,
    timers,
    otherResources: resources.filter((kind) => kind !== "Timeout" && kind !== "Immediate").length,
    ...descriptors()
  }
}
