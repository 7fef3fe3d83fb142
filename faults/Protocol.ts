/** What the harness and its nodes say to each other, over the channel that Node gives a child process. */
import type { Outcome, Request } from "./History.ts"

/** To a node. */
export type Command =
  | { readonly ask: number; readonly request: Request }
  | { readonly wallClock: number }
  | { readonly measure: number; readonly what: Measurement }

/** What the harness wants to know of a node, beside what clients ask. */
export type Measurement =
  | { readonly _tag: "Health" }
  /** Reads these sessions, all at once; `unsynced`: at a moment when memory is not served, which is waited for. */
  | {
      readonly _tag: "ReadAll"
      readonly tokens: ReadonlyArray<string>
      readonly touch: boolean
      readonly unsynced?: boolean
    }
  /** Acquires a lock and keeps it. */
  | { readonly _tag: "Keep"; readonly lock: string }

/** From a node. */
export type Answer =
  | { readonly ready: true }
  | {
      readonly answer: number
      readonly start: number
      readonly end: number
      readonly pause: number
      readonly outcome: Outcome
    }
  | { readonly measured: number; readonly figures: Readonly<Record<string, number>> }

const isObject = (message: unknown): message is object => typeof message === "object" && message !== null

// Both ends are this program: what has the name of a message is one.
export const isCommand = (message: unknown): message is Command =>
  isObject(message) && ("ask" in message || "measure" in message || "wallClock" in message)
export const isAnswer = (message: unknown): message is Answer =>
  isObject(message) && ("ready" in message || "answer" in message || "measured" in message)
