/** What the soak and its nodes say to each other, over the channel that Node gives a child process. */
import type { Figures } from "./Flatness.ts"
import type { Percentiles } from "./Latencies.ts"

/** To a node. */
export type Command =
  | { readonly sample: number }
  /** Another node has begun this session. */
  | { readonly heard: string }

/** What a node has done since it was last asked. */
export interface Report {
  readonly figures: Figures
  /** How often each kind of operation had which outcome. */
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** What no operation promises. */
  readonly defects: ReadonlyArray<string>
  /** Reads that memory may serve, and everything else. */
  readonly reads: Percentiles
  readonly others: Percentiles
}

/** From a node. */
export type Answer =
  | { readonly ready: true }
  /** It has begun this session. */
  | { readonly begun: string }
  | { readonly sampled: number; readonly report: Report }

const isObject = (message: unknown): message is object => typeof message === "object" && message !== null

// Both ends are this program: what has the name of a message is one.
export const isCommand = (message: unknown): message is Command =>
  isObject(message) && ("sample" in message || "heard" in message)
export const isAnswer = (message: unknown): message is Answer =>
  isObject(message) && ("ready" in message || "begun" in message || "sampled" in message)
