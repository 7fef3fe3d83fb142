/** Recording activity, and what time ends. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const reads = "packages/core/src/internal/store/Reads.ts"
const view = "packages/core/src/internal/SessionView.ts"
const cache = "packages/core/src/SessionCache.ts"
const deadlines = "packages/core/src/internal/Deadlines.ts"
const flush = "packages/core/src/internal/TouchFlush.ts"
const buffer = "packages/core/src/internal/TouchBuffer.ts"
const clock = "packages/core/src/internal/NodeClock.ts"
const { acknowledged, boundedStaleness, expiry, nodeClock, readYourWrites, touchBuffer, touchFlush } = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "touch-synchronous",
    guarantee: "G6",
    step: "close to the idle limit a use is written before it is answered",
    edits: [edit(reads, "if (now < entry.serveUntil && ", "if (now < Infinity && ")],
    tests: [expiry]
  },
  {
    name: "touch-before",
    guarantee: "G6",
    step: "a gathered use is written a margin before the session would be idle",
    edits: [edit(deadlines, "view.idleDeadline - 2 * statementTimeout", "view.idleDeadline + 0 * statementTimeout")],
    tests: [expiry]
  },
  {
    name: "touch-before-hit",
    guarantee: "G6",
    step: "the shortest path does not serve inside that margin",
    edits: [edit(cache, "Math.min(validUntil(entry, this.settings), writeBy)", "validUntil(entry, this.settings)")],
    tests: [expiry]
  },
  {
    name: "touch-shorter-limit",
    guarantee: "G6",
    step: "a use that is gathered already is written earlier where the limit has become shorter",
    edits: [
      edit(cache, "activity?.queued === true && writeBy < activity.flushBy", "activity?.queued === true && writeBy < 0")
    ],
    tests: [expiry]
  },
  {
    name: "touch-partly-taken",
    guarantee: "G6",
    step: "after a part of what was due could not be written, all is looked at for when the next is due",
    edits: [
      edit(
        buffer,
        "if (!this.partlyTaken) return\n    let earliest",
        "if (this.queued.size >= 0) return\n    let earliest"
      )
    ],
    tests: [touchBuffer]
  },
  {
    name: "touch-in-time",
    guarantee: "G6",
    step: "the flush of activity heeds idle limits shorter than its interval",
    edits: [
      edit(buffer, "Math.min(now + this.interval, idleFlushBy)", "idleFlushBy === 0 ? now : now + this.interval")
    ],
    tests: [touchBuffer, expiry]
  },
  {
    name: "touch-put-back",
    guarantee: "G5",
    step: "activity that could not be written is written again",
    edits: [edit(flush, "touches.putBack(activities, clock.now() + retryDelay)")],
    tests: [touchFlush]
  },
  {
    name: "touch-later-use",
    guarantee: "G6",
    step: "of several uses that wait the latest counts",
    edits: [edit(buffer, "waiting.touchedAt = Math.max(waiting.touchedAt, activity.touchedAt)")],
    tests: [touchBuffer]
  },
  {
    name: "touch-bound",
    guarantee: "G10",
    step: "gathered activity is bounded: further uses wait for the database",
    edits: [edit(buffer, "return this.queued.size >= 2 * this.capacity", "return this.queued.size < 0")],
    tests: [touchFlush]
  },
  {
    name: "touch-gone",
    guarantee: "G4",
    step: "a flush that a session was left out of drops it from memory",
    edits: [edit(flush, "cache.acknowledge(key, undefined)\n      continue", "continue")],
    tests: [readYourWrites]
  },
  {
    name: "touch-says-nothing-of-versions",
    guarantee: "G1",
    step: "a flush of activity does not make an entry newer than it is",
    edits: [edit(flush, ", time, entry.loadedAt)", ", time)")],
    tests: [boundedStaleness]
  },
  {
    name: "touch-one-flush",
    guarantee: "G11",
    step: "whoever flushes waits for a flush that is under way",
    edits: [
      edit(
        flush,
        "semaphore.withPermit(Effect.suspend(() => flushDue(time, Math.ceil(touches.size / limit))))",
        "Effect.suspend(() => flushDue(time, Math.ceil(touches.size / limit)))"
      )
    ],
    tests: [touchFlush]
  },
  {
    name: "attribute-expiry",
    guarantee: "G6",
    step: "an attribute's expiry is looked at whenever it is read",
    edits: [
      edit(
        view,
        "expiresAt !== undefined && this.clock.now() >= this.localTime(expiresAt) ? undefined : slot",
        "expiresAt === 0 ? undefined : slot"
      )
    ],
    tests: [expiry]
  },
  {
    name: "absolute-deadline",
    guarantee: "G6",
    step: "the absolute limit ends serving from memory",
    edits: [
      edit(view, "return Math.min(this.localTime(this.expiresAt), this.idleDeadline)", "return this.idleDeadline")
    ],
    tests: [expiry]
  },
  {
    name: "idle-deadline",
    guarantee: "G6",
    step: "the idle limit ends serving from memory",
    edits: [
      edit(
        view,
        "return Math.min(this.localTime(this.expiresAt), this.idleDeadline)",
        "return this.localTime(this.expiresAt)"
      )
    ],
    tests: [expiry]
  },
  {
    name: "clock-ahead",
    guarantee: "G1",
    step: "time that passed while the machine slept counts",
    edits: [edit(clock, "if (jump > resolutionMillis) {", "if (jump > Infinity) {")],
    tests: [nodeClock, boundedStaleness]
  },
  {
    name: "clock-back",
    guarantee: "G1",
    step: "so it does after the wall clock was set back",
    edits: [edit(clock, "} else if (jump < -resolutionMillis) {", "} else if (jump < -Infinity) {")],
    tests: [nodeClock]
  },
  {
    name: "acknowledged-flush",
    guarantee: "G5",
    step: "what waits to be written is written at the end",
    edits: [
      edit(
        "packages/core/src/internal/store/Store.ts",
        "Effect.catch(flush.flushAll,",
        "Effect.catch(Effect.void as typeof flush.flushAll,"
      )
    ],
    tests: [acknowledged]
  }
]
