/** What the overload test and its node say to each other, over the channel that Node gives a child process. */
import type { Percentiles } from "./Latencies.ts"

/** A part of the test, to the node. */
export type Phase =
  /** So many clients, each of which asks again as soon as it is answered: what can be done at all. */
  | { readonly _tag: "Closed"; readonly clients: number; readonly seconds: number }
  /** So many operations a second, whatever becomes of those before. */
  | { readonly _tag: "Open"; readonly perSecond: number; readonly seconds: number }

/** The sessions that are read and changed, a few at a time, and then the phases. */
export type Command = { readonly tokens: ReadonlyArray<string> } | { readonly phase: Phase }

/** A part of a phase: those operations that ended in it. */
export interface Window {
  /** Milliseconds since the phase began. */
  readonly at: number
  readonly done: number
  readonly refused: number
  /** Of those that were done, in milliseconds. */
  readonly p99: number
}

export interface PhaseReport {
  /** How long operations were begun, in milliseconds. */
  readonly duration: number
  /** How long the last ones took to be answered after that, in milliseconds. */
  readonly drained: number
  /** How often each kind of operation, of those begun in time, had which outcome within the phase, and how often afterwards. */
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly late: Readonly<Record<string, number>>
  /** Of those that were done, by kind. */
  readonly latencies: Readonly<Record<string, Percentiles>>
  /** A session in memory, read every few milliseconds, from when its turn was. */
  readonly cachedReads: Percentiles
  readonly cachedReadsRefused: number
  readonly windows: ReadonlyArray<Window>
  /** How often was looked whether memory is served, and how often it was not. */
  readonly looks: number
  readonly unsynced: number
  readonly mostUnderWay: number
  readonly mostHeapMegabytes: number
  readonly mostRssMegabytes: number
  /** What no operation promises. */
  readonly defects: ReadonlyArray<string>
}

/** From the node. */
export type Answer = { readonly ready: true } | { readonly report: PhaseReport }

const isObject = (message: unknown): message is object => typeof message === "object" && message !== null

// Both ends are this program: what has the name of a message is one.
export const isCommand = (message: unknown): message is Command =>
  isObject(message) && ("tokens" in message || "phase" in message)
export const isAnswer = (message: unknown): message is Answer =>
  isObject(message) && ("ready" in message || "report" in message)
