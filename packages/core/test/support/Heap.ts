/** What is kept in memory. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** Collects what is not reachable; of what was looked at in this turn of the event loop nothing can be. */
export const collect = (): void => {
  setFlagsFromString("--expose-gc")
  const gc: unknown = runInNewContext("gc")
  if (typeof gc !== "function") throw new Error("this engine does not collect on demand")
  Reflect.apply(gc, undefined, [])
}

/** How much is reachable, in bytes. */
export const reachable = (): number => {
  collect()
  return process.memoryUsage().heapUsed
}

/** A text that was cut out of a header of 20 000 characters, as the ids of careless programs are. */
export const cutOut = (text: string, which: number): string => {
  const header = JSON.stringify(["x".repeat(20_000) + which, text])
  return header.slice(header.length - 2 - text.length, -2)
}
