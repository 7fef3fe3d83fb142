/** Changes, batches, and the end of a layer. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const updates = "packages/core/src/internal/store/Updates.ts"
const writes = "packages/core/src/internal/store/Writes.ts"
const lifecycle = "packages/core/src/internal/store/Lifecycle.ts"
const takeIn = "packages/core/src/internal/store/TakeIn.ts"
const known = "packages/core/src/internal/store/KnownRefusal.ts"
const encoding = "packages/core/src/internal/store/Encoding.ts"
const coalescer = "packages/core/src/internal/Coalescer.ts"
const backlog = "packages/core/src/internal/Backlog.ts"
const operations = "packages/core/src/internal/store/Operations.ts"
const store = "packages/core/src/internal/store/Store.ts"
const modify = "packages/core/src/internal/store/Modify.ts"

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "write-acknowledged",
    guarantee: "G2",
    step: "an acknowledged write marks what is in flight and drops what is older",
    edits: [edit(takeIn, "cache.acknowledge(row.key, row.version)")],
    tests: [inCore.readYourWrites]
  },
  {
    name: "write-gone",
    guarantee: "G4",
    step: "a write that finds the session gone drops it from memory",
    edits: [edit(updates, "cache.acknowledge(key, undefined)\n        return")],
    tests: [inCore.readYourWrites]
  },
  {
    name: "write-unknown",
    guarantee: "G2",
    step: "a write of unknown outcome drops what is in memory",
    edits: [edit(writes, "for (const key of keys) cache.forget(key)", "void keys")],
    tests: [inCore.readYourWrites]
  },
  {
    name: "write-unknown-in-batch",
    guarantee: "G2",
    step: "so does one whose batch was applied otherwise",
    edits: [edit(updates, `if (outcome.error.outcome === "Unknown") cache.forget(change.request.key)`)],
    tests: [inCore.readYourWrites]
  },
  {
    name: "write-attribute-check",
    guarantee: "G3",
    step: "a change says which versions of attributes it was made on",
    edits: [
      edit(encoding, `if (check === "attributes") expectedAttributes`, `if (check === "session") expectedAttributes`)
    ],
    tests: [inCore.lostUpdates]
  },
  {
    name: "write-session-check",
    guarantee: "G3",
    step: "with a check of the session it says which version it was made on",
    edits: [edit(encoding, `check === "session" ? view.version : undefined`, "undefined")],
    tests: [inCore.lostUpdates]
  },
  {
    name: "write-attribute-size",
    guarantee: "G10",
    step: "the size of an attribute is limited",
    edits: [edit(encoding, "return bytes > settings.maxAttributeBytes", "return bytes < 0")],
    tests: [inCore.hostileInput],
    only: "sizes|ids"
  },
  {
    name: "unregistered-delete",
    guarantee: "G4",
    step: "an acknowledged deletion marks what is in flight",
    edits: [
      edit(lifecycle, "({ keys }) => {\n            cache.acknowledge(key, undefined)", "({ keys }) => {"),
      edit(
        lifecycle,
        "for (const key of keys) {\n          cache.acknowledge(key, undefined)",
        "for (const key of keys) {"
      )
    ],
    tests: [inCore.readYourWrites, inCore.resurrection]
  },
  {
    name: "bulk-delete-forgets",
    guarantee: "G2",
    step: "an ending of many, acknowledged or of unknown outcome, drops all that it may have ended",
    edits: [edit(lifecycle, "Effect.sync(() => cache.forgetAll(target))", "Effect.void")],
    tests: [inCore.readYourWrites]
  },
  {
    name: "evicted-forgotten",
    guarantee: "G2",
    step: "a session that had to make room for a login is dropped when that is acknowledged",
    edits: [
      edit(
        takeIn,
        "for (const { key, userId } of evicted) {\n    cache.acknowledge(key, undefined)",
        "for (const { key, userId } of evicted) {"
      )
    ],
    tests: [inCore.readYourWrites]
  },
  {
    name: "attribute-removal-unknown",
    guarantee: "G2",
    step: "a removal of an attribute everywhere, of unknown outcome, drops all sessions of the user",
    edits: [
      edit(lifecycle, `Effect.sync(() => cache.forgetAll({ _tag: "User", userId, except: undefined }))`, "Effect.void")
    ],
    tests: [inCore.readYourWrites]
  },
  {
    name: "refusal-from-recent-memory",
    guarantee: "G3",
    step: "a change is refused from memory only where that may be served",
    edits: [edit(known, "cache.live(request.key, cache.clock.now())", "cache.peek(request.key)")],
    tests: [inCore.lostUpdates]
  },
  {
    name: "refusal-proof",
    guarantee: "G9",
    step: "a change is refused from memory, with what stands, only to who has the secret",
    edits: [
      edit(
        known,
        "const proof = cache.verify(entry, session.token, session)",
        "const proof = cache.verify(entry, session.token, { token: session.token, proof: entry.secretHash })"
      )
    ],
    tests: [inCore.lostUpdates]
  },
  {
    name: "refusal-attribute",
    guarantee: "G3",
    step: "only where an attribute that the change is checked against was written since",
    edits: [edit(known, "if (actual > expected) {", "if (actual >= expected) {")],
    tests: [inCore.lostUpdates]
  },
  {
    name: "batch-key-once",
    guarantee: "G3",
    step: "changes of one session never share a statement, and keep their order",
    edits: [edit(updates, "keyOf: ({ request }) => request.key,")],
    tests: [inCore.updates]
  },
  {
    name: "batch-successors",
    guarantee: "G3",
    step: "the next change of a session waits until the one before it is settled",
    edits: [edit(backlog, "successors.waiting.push(waiting)", "this.ready.push(waiting)")],
    tests: [inCore.backlog]
  },
  {
    name: "postponed-order",
    guarantee: "G3",
    step: "no change overtakes one of its session that waits for a lock",
    edits: [
      edit(
        updates,
        "postponed.has(change.request.key) ? postpone(change) : refuseKnown(cache, change)",
        "refuseKnown(cache, change)"
      )
    ],
    tests: [inCore.updates]
  },
  {
    name: "batch-weight",
    guarantee: "G12",
    step: "one large change does not delay many small ones",
    edits: [edit(backlog, "if (weight > maxWeight && batch.length > 0) break")],
    tests: [inCore.backlog, inCore.updates]
  },
  {
    name: "pending-bound",
    guarantee: "G10",
    step: "what waits for a statement is bounded",
    edits: [edit(coalescer, "if (backlog.size >= options.maxPending) {", "if (backlog.size < 0) {")],
    tests: [inCore.coalescer]
  },
  {
    name: "patience",
    guarantee: "G10",
    step: "what has waited too long for its turn is refused, so that an outage is not waited for again and again",
    edits: [edit(coalescer, "if (patience === undefined) return batch", "if (patience !== null) return batch")],
    tests: [inCore.coalescer]
  },
  {
    name: "coalescing",
    guarantee: "G12",
    step: "requests that come while a batch is in flight share the next one",
    edits: [edit(coalescer, "if (inFlight >= options.concurrency) return", "if (inFlight > 1_000_000) return")],
    tests: [inCore.coalescer]
  },
  {
    name: "batch-defect",
    guarantee: "G5",
    step: "whoever waits for a batch that dies is told that the outcome is unknown",
    edits: [
      edit(
        coalescer,
        "batch[index]?.resume(answers[index] ?? otherwise)",
        "batch[index]?.resume(answers[index] ?? refused)"
      )
    ],
    tests: [inCore.coalescer]
  },
  {
    name: "own-fiber",
    guarantee: "G5",
    step: "a write that has begun runs to its end although its caller was interrupted",
    edits: [
      edit(
        operations,
        "Effect.flatMap(Fiber.await(fiber),",
        "Effect.flatMap(Effect.onInterrupt(Fiber.await(fiber), () => Fiber.interrupt(fiber)),"
      )
    ],
    tests: [inCore.operations]
  },
  {
    name: "modify-nested",
    guarantee: "G3",
    step: "a modify inside another one waits for nobody's turn, so that none wait for each other",
    edits: [
      edit(modify, "Effect.provideService(effect, HasTurn, true)", "Effect.provideService(effect, HasTurn, false)")
    ],
    tests: [inCore.modify]
  },
  {
    name: "modify-turns",
    guarantee: "G12",
    step: "those who lost a race take turns",
    edits: [edit(modify, "const turn = turns.get(key) ?? {", "const turn = turns.get(`${key}-` as SessionKey) ?? {")],
    tests: [inCore.modify]
  },
  {
    name: "gate",
    guarantee: "G11",
    step: "nothing is accepted any more once the end has begun",
    edits: [edit(operations, "if (!open) return Effect.fail(closed(operation))")],
    tests: [inCore.orderlyEnd]
  },
  {
    name: "end-waits-for-operations",
    guarantee: "G11",
    step: "the end waits for creates, rotations and deletions that have begun",
    edits: [edit(operations, "else idle.push(() => resume(Effect.void))", "else resume(Effect.void)")],
    tests: [inCore.orderlyEnd, inCore.operations]
  },
  {
    name: "end-waits-for-updates",
    guarantee: "G11",
    step: "the end waits for updates that were accepted",
    edits: [edit(store, "Effect.andThen(operations.close, updates.drained)", "operations.close")],
    tests: [inCore.orderlyEnd]
  },
  {
    name: "end-waits-for-locked",
    guarantee: "G11",
    step: "also for those that wait for a session that somebody has locked",
    edits: [edit(updates, "Effect.andThen(fast.drained, waiting.drained)", "fast.drained")],
    tests: [inCore.updates]
  },
  {
    name: "end-in-time",
    guarantee: "G11",
    step: "the end has a time limit",
    edits: [edit(store, "duration: settings.shutdownTimeout / 2,", "duration: settings.shutdownTimeout * 1_000,")],
    tests: [inCore.orderlyEnd]
  },
  {
    name: "batch-stalled",
    guarantee: "G12",
    step: "a few requests do not wait for a batch that takes very long",
    edits: [edit(coalescer, " || isStalled()")],
    tests: [inCore.coalescer]
  }
]
