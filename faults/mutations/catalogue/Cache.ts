/** What may enter a node's memory, and what is served from it. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const fills = "packages/core/src/internal/FillRegistry.ts"
const cache = "packages/core/src/SessionCache.ts"
const { boundedStaleness, expiry, fillRegistry, readYourWrites, resurrection, storms, synchronization } = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "fill-registration",
    guarantee: "G1",
    step: "what is in flight is registered, so that notices reach it",
    edits: [edit(fills, "this.fills.add(key, fill)")],
    tests: [boundedStaleness]
  },
  {
    name: "fill-version",
    guarantee: "G1",
    step: "an answer is not cached if a newer version was announced meanwhile",
    edits: [edit(fills, "fill.announced > version) return false", "fill.announced < 0n) return false")],
    tests: [boundedStaleness]
  },
  {
    name: "fill-highest-version",
    guarantee: "G1",
    step: "of several versions announced meanwhile the highest counts",
    edits: [
      edit(
        fills,
        "else if (fill.announced === undefined || fill.announced < version) fill.announced",
        "else fill.announced"
      )
    ],
    tests: [fillRegistry]
  },
  {
    name: "fill-gone",
    guarantee: "G4",
    step: "an answer is not cached if the session's end was announced meanwhile",
    edits: [
      edit(fills, "if (!this.isCurrent(fill) || fill.gone) return false", "if (!this.isCurrent(fill)) return false")
    ],
    tests: [resurrection]
  },
  {
    name: "fill-epoch",
    guarantee: "G1",
    step: "an answer is not cached if notices may have been missed meanwhile",
    edits: [edit(fills, "if (!this.isCurrent(fill) || fill.gone) return false", "if (fill.gone) return false")],
    tests: [boundedStaleness]
  },
  {
    name: "fill-owners",
    guarantee: "G1",
    step: "an answer is not cached if a notice about its user or group came meanwhile",
    edits: [edit(fills, "return !isNamed(fill, owners)", "return true")],
    tests: [synchronization]
  },
  {
    name: "fill-all-ended",
    guarantee: "G4",
    step: "a load during which the end of all sessions was announced is asked for again",
    edits: [edit(fills, "fill.allEnded = true", "fill.allEnded = false")],
    tests: [fillRegistry, resurrection]
  },
  {
    name: "fill-changed-owners",
    guarantee: "G4",
    step: "so is one whose session may have got another user or group meanwhile, about whom there was a notice",
    edits: [
      edit(
        fills,
        "return fill.owners !== undefined && fill.announced !== undefined && fill.announced > row.version",
        "return false"
      )
    ],
    tests: [fillRegistry, resurrection]
  },
  {
    name: "admit-newest",
    guarantee: "G1",
    step: "an answer does not replace a newer one in memory",
    edits: [edit(cache, "if (isNewest && ", "if (")],
    tests: [boundedStaleness, readYourWrites]
  },
  {
    name: "notice-drops",
    guarantee: "G1",
    step: "a notice drops an entry of an older version",
    edits: [edit(cache, "entry.version < version)) this.drop", "entry.version < 0n)) this.drop")],
    tests: [boundedStaleness]
  },
  {
    name: "notice-marks",
    guarantee: "G1",
    step: "a notice, and an own acknowledged write, mark what is in flight",
    edits: [edit(cache, "this.fills.announce(key, version)")],
    tests: [boundedStaleness]
  },
  {
    name: "user-notice-marks",
    guarantee: "G4",
    step: "a notice about a user marks what is in flight",
    edits: [edit(cache, "this.fills.announceOwner(userOwner(target.userId))")],
    tests: [boundedStaleness, resurrection]
  },
  {
    name: "group-notice-marks",
    guarantee: "G4",
    step: "a notice about a group marks what is in flight",
    edits: [edit(cache, "this.fills.announceOwner(groupOwner(target.groupId))")],
    tests: [boundedStaleness, resurrection]
  },
  {
    name: "all-notice-marks",
    guarantee: "G4",
    step: "a notice about all sessions marks what is in flight",
    edits: [edit(cache, "this.fills.announceEnd()")],
    tests: [boundedStaleness, resurrection]
  },
  {
    name: "max-staleness",
    guarantee: "G1",
    step: "memory is served only for maxStaleness after the last beat that returned",
    edits: [
      edit(
        cache,
        "return now - this.syncedThrough <= this.settings.maxStaleness",
        "return this.syncedThrough > -Infinity && now > 0"
      )
    ],
    tests: [boundedStaleness]
  },
  {
    name: "hit-synced",
    guarantee: "G1",
    step: "the shortest path looks whether memory may be served",
    edits: [edit(cache, " || !this.isSynced(now)) return undefined", ") return undefined")],
    tests: [boundedStaleness]
  },
  {
    name: "hit-deadline",
    guarantee: "G6",
    step: "the shortest path looks at the session's deadline",
    edits: [edit(cache, "now >= handle.serveUntil || ")],
    tests: [expiry]
  },
  {
    name: "live-deadline",
    guarantee: "G6",
    step: "every other read from memory looks at the session's deadline",
    edits: [edit(cache, "now < validUntil(entry, this.settings) && ")],
    tests: [expiry]
  },
  {
    name: "desynchronized",
    guarantee: "G1",
    step: "a lost listener ends serving from memory at once",
    edits: [edit(cache, "this.syncedThrough = -Infinity\n    ", "")],
    tests: [boundedStaleness, storms, resurrection]
  },
  {
    name: "desynchronized-fills",
    guarantee: "G1",
    step: "nothing that was in flight while the listener was lost is cached",
    edits: [edit(cache, "this.fills.announceAll()")],
    tests: [boundedStaleness]
  },
  {
    name: "desynchronized-absences",
    guarantee: "G12",
    step: "a lost listener ends the memory of absences",
    edits: [edit(cache, "this.fills.announceAll()\n    this.absent.clear()", "this.fills.announceAll()")],
    tests: [storms, boundedStaleness]
  },
  {
    name: "revalidation-version",
    guarantee: "G1",
    step: "the comparison after a reconnect drops what has another version",
    edits: [edit(cache, " || session.version !== entry.version")],
    tests: [boundedStaleness]
  },
  {
    name: "revalidation-gone",
    guarantee: "G4",
    step: "the comparison after a reconnect drops what has ended",
    edits: [
      edit(
        cache,
        "if (session === undefined || session.version",
        "if (session === undefined) continue\n      if (session.version"
      )
    ],
    tests: [resurrection]
  },
  {
    name: "synchronized-forward",
    guarantee: "G12",
    step: "an older beat does not take back what a newer one has confirmed",
    edits: [edit(cache, "if (time > this.syncedThrough) this.syncedThrough = time", "this.syncedThrough = time")],
    tests: [boundedStaleness],
    redundant: "beats return in order, and one that has returned makes those before it worthless"
  }
]
