/** Loading and proving. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const loader = "packages/core/src/internal/SessionLoader.ts"
const reads = "packages/core/src/internal/store/Reads.ts"
const proof = "packages/core/src/internal/Proof.ts"
const entries = "packages/core/src/internal/CacheEntries.ts"
const {
  boundedStaleness,
  cacheEntries,
  crypto,
  expiry,
  hostileInput,
  orderlyEnd,
  readYourWrites,
  resurrection,
  storms,
  watch
} = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "join-marked",
    guarantee: "G2",
    step: "a load that something was announced about takes no new readers",
    edits: [edit(loader, "!load.fill.marked && ")],
    tests: [boundedStaleness, readYourWrites]
  },
  {
    name: "join-epoch",
    guarantee: "G2",
    step: "a load from before a loss of the listener, or an announced end of everything, takes no new readers",
    edits: [edit(loader, " && cache.fills.isCurrent(load.fill))", ")")],
    tests: [boundedStaleness, readYourWrites, resurrection]
  },
  {
    name: "join-authoritative",
    guarantee: "G1",
    step: "an authoritative read joins nothing that was sent before it",
    edits: [edit(loader, "(!authoritative && ", "(")],
    tests: [boundedStaleness]
  },
  {
    name: "join-unknown-id",
    guarantee: "G2",
    step: "an id that a joined load does not accept is asked for again: it may be newer",
    edits: [edit(loader, ": load(key, token, true)", ": Effect.succeed(loaded)")],
    tests: [readYourWrites]
  },
  {
    name: "load-overtaken",
    guarantee: "G4",
    step: "a load that an ending has overtaken says so",
    edits: [
      edit(
        loader,
        "const overtaken = entry !== undefined && cache.fills.mayHaveEnded(fill, entry)",
        "const overtaken = false"
      )
    ],
    tests: [resurrection]
  },
  {
    name: "load-gone-drops",
    guarantee: "G4",
    step: "a load that finds a session gone drops what is in memory of it",
    edits: [edit(loader, "if (entry === undefined) cache.supersede(load.key, undefined)")],
    tests: [boundedStaleness]
  },
  {
    name: "load-sent-at",
    guarantee: "G6",
    step: "local deadlines count from before the statement was sent",
    edits: [edit(loader, "const time = { sentAt, now }", "const time = { sentAt: cache.clock.now(), now }")],
    tests: [expiry, boundedStaleness]
  },
  {
    name: "read-overtaken",
    guarantee: "G4",
    step: "a read that was overtaken by an ending asks again",
    edits: [edit(reads, "(isTooOld || overtaken)", "isTooOld")],
    tests: [resurrection]
  },
  {
    name: "read-late-answer",
    guarantee: "G1",
    step: "an answer that is older than maxStaleness when it arrives is asked for again",
    edits: [edit(reads, "(isTooOld || overtaken)", "overtaken")],
    tests: [boundedStaleness]
  },
  {
    name: "read-joined-end",
    guarantee: "G6",
    step: "what was found before its end is asked for again by whoever joined that load after it",
    edits: [edit(reads, "clock.now() >= entry.deadline", "clock.now() >= Infinity")],
    tests: [expiry]
  },
  {
    name: "read-min-version",
    guarantee: "G2",
    step: "memory below the version that a caller carries is not served",
    edits: [edit(reads, "(minVersion === undefined || entry.version >= minVersion)", "(minVersion !== -1n)")],
    tests: [readYourWrites]
  },
  {
    name: "read-min-version-join",
    guarantee: "G2",
    step: "a read with a version joins no load from before it",
    edits: [edit(reads, "return miss(key, token, minVersion !== undefined)", "return miss(key, token, false)")],
    tests: [readYourWrites]
  },
  {
    name: "touched-version",
    guarantee: "G1",
    step: "after a touch that took its time no older state than before it is answered",
    edits: [edit(reads, "renewed !== undefined && renewed.version >= entry.version", "renewed !== undefined")],
    tests: [boundedStaleness]
  },
  {
    name: "touched-late",
    guarantee: "G1",
    step: "after a touch that took its time memory is served only where it is still recent",
    edits: [edit(reads, "isCurrent && cache.isRecent(renewed, clock.now())", "isCurrent")],
    tests: [boundedStaleness]
  },
  {
    name: "token-shape",
    guarantee: "G10",
    step: "what is no id is not asked for",
    edits: [edit(reads, "if (!isToken(token)) return Effect.succeed(undefined)")],
    tests: [hostileInput]
  },
  {
    name: "secret",
    guarantee: "G9",
    step: "the secret is compared, not only the key",
    edits: [edit(proof, "if (hashesEqual(proof, secretHash)) return", "if (proof !== formerHash) return")],
    tests: [hostileInput]
  },
  {
    name: "secret-constant-time",
    guarantee: "G9",
    step: "hashes of secrets are compared in constant time",
    edits: [
      edit(
        "packages/core/src/internal/Crypto.ts",
        `return timingSafeEqual(Buffer.from(left, "latin1"), Buffer.from(right, "latin1"))`,
        "return left === right"
      )
    ],
    tests: [crypto]
  },
  {
    name: "former-id-grace",
    guarantee: "G4",
    step: "a former id is refused after its grace",
    edits: [edit(proof, "return now < entry.formerDeadline ?", "return entry.formerDeadline > -Infinity ?")],
    tests: [resurrection]
  },
  {
    name: "former-id-known",
    guarantee: "G4",
    step: "so is one that was accepted before",
    edits: [edit(proof, "former?.token === token && now < entry.formerDeadline", "former?.token === token")],
    tests: [resurrection]
  },
  {
    name: "former-id-hit",
    guarantee: "G4",
    step: "the shortest path knows when a former id ends",
    edits: [
      edit(
        entries,
        "this === view.former ? Math.min(view.serveUntil, view.formerDeadline) : view.serveUntil",
        "view.serveUntil"
      )
    ],
    tests: [cacheEntries]
  },
  {
    name: "id-left",
    guarantee: "G4",
    step: "a remembered id leads to no session that has left memory",
    edits: [edit(entries, " && known.entry.cached")],
    tests: [cacheEntries]
  },
  {
    name: "id-owner",
    guarantee: "G4",
    step: "nor to one of another cache",
    edits: [edit(entries, " && link.owner === this.mark")],
    tests: [cacheEntries]
  },
  {
    name: "id-vacated",
    guarantee: "G10",
    step: "a remembered id keeps no session in memory that has left it",
    edits: [
      edit(
        entries,
        "    this.cached = false\n    this.current?.vacate()\n    this.former?.vacate()",
        "    this.cached = false"
      )
    ],
    tests: [cacheEntries]
  },
  {
    name: "id-not-kept",
    guarantee: "G10",
    step: "nor does a session keep the ids by which it was found",
    edits: [
      edit(
        entries,
        "Whereabouts.set(id, handle.link(this.mark))",
        "Whereabouts.set(id, Object.assign(handle.link(this.mark), { id }))"
      )
    ],
    tests: [cacheEntries]
  },
  {
    name: "cache-ends",
    guarantee: "G10",
    step: "nothing of a cache stays in memory when its store has been closed",
    edits: [edit("packages/core/src/internal/store/Store.ts", "  yield* Effect.addFinalizer(() => clearLocalCache)\n")],
    tests: [orderlyEnd]
  },
  {
    name: "id-closed",
    guarantee: "G11",
    step: "a store that has been closed answers nothing from memory to whoever reads without an effect",
    edits: [edit(reads, "(operations.isOpen() ? hit(id) : undefined)", "hit(id)")],
    tests: [orderlyEnd]
  },
  {
    name: "id-closed-peek",
    guarantee: "G11",
    step: "nor to whoever only looks",
    edits: [
      edit(reads, "(operations.isOpen() ? cache.hit(id, clock.now()) : undefined)", "cache.hit(id, clock.now())")
    ],
    tests: [orderlyEnd]
  },
  {
    name: "entry-ids",
    guarantee: "G4",
    step: "an entry that is dropped is found by none of its ids",
    edits: [edit(entries, "if (entry.current !== undefined) this.#byToken.delete(entry.current.token)")],
    tests: [cacheEntries]
  },
  {
    name: "watch-order",
    guarantee: "G1",
    step: "who follows a session misses nothing that is said while it reads",
    edits: [
      edit(
        "packages/core/src/internal/store/Watch.ts",
        "changed.closeUnsafe()\n            return Effect.flatMap(find(id, { touch: false }), (found) => {",
        "return Effect.flatMap(find(id, { touch: false }), (found) => {\n              changed.closeUnsafe()"
      )
    ],
    tests: [watch]
  },
  {
    name: "single-flight",
    guarantee: "G12",
    step: "a session that many miss is loaded once",
    edits: [
      edit(
        loader,
        "if (current !== undefined && isJoinable(current, authoritative)) {",
        "if (current !== undefined && current.key === token) {"
      )
    ],
    tests: [storms]
  }
]
