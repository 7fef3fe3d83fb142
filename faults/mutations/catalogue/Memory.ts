/** What a node remembers besides: absences, bounds, and decoded values. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const fills = "packages/core/src/internal/FillRegistry.ts"
const cache = "packages/core/src/SessionCache.ts"
const deadlines = "packages/core/src/internal/Deadlines.ts"
const { absentKeys, boundedStaleness, cacheEntries, expiry, fillRegistry, readYourWrites, storms } = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "absence-marked",
    guarantee: "G12",
    step: "an absence is not remembered if something was announced about the key meanwhile",
    edits: [edit(fills, "return this.isCurrent(fill) && !fill.marked", "return this.isCurrent(fill)")],
    tests: [storms]
  },
  {
    name: "absence-epoch",
    guarantee: "G12",
    step: "an absence is not remembered if notices may have been missed meanwhile",
    edits: [edit(fills, "return this.isCurrent(fill) && !fill.marked", "return !fill.marked")],
    tests: [storms, fillRegistry]
  },
  {
    name: "absence-synced",
    guarantee: "G12",
    step: "an absence is not believed while notices may be missed",
    edits: [edit(cache, "return this.isSynced(now) && this.absent", "return this.absent")],
    tests: [storms]
  },
  {
    name: "absence-staleness",
    guarantee: "G1",
    step: "an absence is remembered no longer than maxStaleness",
    edits: [edit(cache, "Math.min(absentMillis, this.settings.maxStaleness)", "absentMillis")],
    tests: [storms]
  },
  {
    name: "absence-forgotten",
    guarantee: "G12",
    step: "what is said about a key ends the memory of its absence",
    edits: [edit(cache, "this.absent.forget(key)")],
    tests: [storms]
  },
  {
    name: "absence-token",
    guarantee: "G12",
    step: "an absence is an id's, not its key's: a wrong secret hides no session",
    edits: [
      edit("packages/core/src/internal/AbsentKeys.ts", " || absent.token !== token) return false", ") return false")
    ],
    tests: [absentKeys, storms]
  },
  {
    name: "absence-bound",
    guarantee: "G10",
    step: "absences, cookies and ids are remembered up to a bound",
    edits: [
      edit(
        "packages/core/src/internal/RecentMap.ts",
        "if (this.young.size <= this.generation) return",
        "if (key !== undefined) return"
      )
    ],
    tests: [absentKeys]
  },
  {
    name: "cache-bound",
    guarantee: "G10",
    step: "sessions are kept in memory up to a bound",
    edits: [
      edit(
        "packages/core/src/internal/CacheEntries.ts",
        "} else if (this.byKey.size >= this.capacity) {",
        "} else if (this.byKey.size < 0) {"
      )
    ],
    tests: [cacheEntries]
  },
  {
    name: "cache-search-bound",
    guarantee: "G10",
    step: "no search for the session that has to go takes long",
    edits: [edit("packages/core/src/internal/CacheEntries.ts", "entry.used && spared < maxSpared", "entry.used")],
    tests: [cacheEntries]
  },
  {
    name: "cache-hand",
    guarantee: "G10",
    step: "the hand that looks for the session that has to go does not keep those that went by themselves",
    edits: [edit("packages/core/src/internal/CacheEntries.ts", "++this.removed >= maxRemoved", "++this.removed < 0")],
    tests: [cacheEntries]
  },
  {
    name: "cache-token-copy",
    guarantee: "G10",
    step: "a cached session keeps nothing of the header that its id came in",
    edits: [edit("packages/core/src/internal/Proof.ts", "token: copyOf(token), proof", "token, proof")],
    tests: [cacheEntries]
  },
  {
    name: "absent-token-copy",
    guarantee: "G10",
    step: "nor does an id that is remembered as absent",
    edits: [edit("packages/core/src/internal/SessionLoader.ts", "presented.token, time)", "load.token, time)")],
    tests: [inCore.hostileInput],
    only: "made-up"
  },
  {
    name: "given-id-shape",
    guarantee: "G9",
    step: "an id that a bridge gives must have the shape of one",
    edits: [edit("packages/core/src/internal/store/GivenId.ts", "!isToken(token) || ", "")],
    tests: [inCore.logins]
  },
  {
    name: "memo-expiry",
    guarantee: "G6",
    step: "a decoded value is no answer by itself where the attribute has an end of its own",
    edits: [
      edit(
        "packages/core/src/internal/SessionView.ts",
        "return slot === undefined || slot.expiresAt !== undefined ? undefined",
        "return slot === undefined ? undefined"
      )
    ],
    tests: [expiry]
  },
  {
    name: "memo-same-version",
    guarantee: "G1",
    step: "a decoded value is kept only for the attribute that was decoded",
    edits: [
      edit(
        "packages/core/src/internal/AttributeTable.ts",
        "known !== undefined && isSame(known, stored)",
        "known !== undefined"
      )
    ],
    tests: [readYourWrites]
  },
  {
    name: "cache-max-age",
    guarantee: "G1",
    step: "a session in constant use is loaded again after cacheMaxAge",
    edits: [edit(deadlines, "Math.min(view.deadline, view.loadedAt + cacheMaxAge)", "view.deadline")],
    tests: [boundedStaleness]
  }
]
