/** Beats, reconnecting, and the clocks. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const file = "packages/core/src/internal/Synchronization.ts"
const { boundedStaleness, hostileInput, resurrection, storms, synchronization } = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "beat-nonce",
    guarantee: "G10",
    step: "only a beat that this node has sent confirms anything",
    edits: [
      edit(
        file,
        "const sentAt = outstanding.get(notice.nonce)",
        "const sentAt = outstanding.get(notice.nonce) ?? cache.clock.now()"
      )
    ],
    tests: [boundedStaleness, hostileInput]
  },
  {
    name: "beat-once",
    guarantee: "G10",
    step: "a beat confirms once",
    edits: [
      edit(file, "if (time <= sentAt) outstanding.delete(nonce)", "if (time < sentAt) outstanding.delete(nonce)")
    ],
    tests: [boundedStaleness, hostileInput]
  },
  {
    name: "beat-sent-at",
    guarantee: "G1",
    step: "a beat confirms what was committed before it was sent, not before it came",
    edits: [edit(file, "cache.synchronized(sentAt)", "cache.synchronized(cache.clock.now())")],
    tests: [boundedStaleness]
  },
  {
    name: "beat-given-up",
    guarantee: "G1",
    step: "a beat that was given up confirms nothing",
    edits: [edit(file, "() => Effect.sync(() => outstanding.delete(nonce))", "() => Effect.void")],
    tests: [boundedStaleness]
  },
  {
    name: "connect-desynchronized",
    guarantee: "G1",
    step: "what was in flight before LISTEN was confirmed is not cached",
    edits: [
      edit(
        file,
        "cache.desynchronized()\n      outstanding.clear()\n      anchor = undefined",
        "outstanding.clear()\n      anchor = undefined"
      )
    ],
    tests: [boundedStaleness]
  },
  {
    name: "loss-desynchronized",
    guarantee: "G1",
    step: "memory is not served from the moment at which a connection is lost",
    edits: [
      edit(
        file,
        "cache.desynchronized()\n          outstanding.clear()\n          state",
        "outstanding.clear()\n          state"
      )
    ],
    tests: [boundedStaleness, synchronization, storms]
  },
  {
    name: "loss-outstanding",
    guarantee: "G1",
    step: "beats of a lost connection confirm nothing on the next one",
    edits: [
      edit(
        file,
        "cache.desynchronized()\n          outstanding.clear()\n          state",
        "cache.desynchronized()\n          state"
      ),
      edit(
        file,
        "cache.desynchronized()\n      outstanding.clear()\n      anchor = undefined",
        "cache.desynchronized()\n      anchor = undefined"
      )
    ],
    tests: [boundedStaleness]
  },
  {
    name: "revalidation",
    guarantee: "G1",
    step: "after a reconnect memory is compared with the database before it is served",
    edits: [edit(file, "        revalidate,\n        Effect.suspend", "        Effect.void,\n        Effect.suspend")],
    tests: [boundedStaleness]
  },
  {
    name: "revalidation-batches",
    guarantee: "G12",
    step: "that is done in batches",
    edits: [edit(file, "const revalidationBatch = 1_000", "const revalidationBatch = 1")],
    tests: [storms]
  },
  {
    name: "other-server-listener",
    guarantee: "G1",
    step: "a listener that meets another server drops everything",
    edits: [
      edit(
        file,
        "if (identity !== server.identity) cache.forgetAll",
        "if (identity === server.identity) cache.forgetAll"
      )
    ],
    tests: [boundedStaleness]
  },
  {
    name: "other-server-queries",
    guarantee: "G1",
    step: "nothing is served from memory while listener and queries reach different servers",
    edits: [
      edit(
        file,
        "if (answer.server.identity === connection.server.identity) return Effect.void",
        "if (answer.server.identity !== undefined) return Effect.void"
      )
    ],
    tests: [boundedStaleness, synchronization]
  },
  {
    name: "other-server-queries-drop",
    guarantee: "G1",
    step: "what the queries have loaded from another server is dropped",
    edits: [edit(file, `cache.forgetAll({ _tag: "All" })\n      identity = undefined`, "identity = undefined")],
    tests: [boundedStaleness, synchronization],
    redundant:
      "nothing is served before the next connection, which drops everything; both together are noticed, see below"
  },
  {
    name: "other-server-queries-forgotten",
    guarantee: "G1",
    step: "the same, and the next connection takes the server for the former one",
    edits: [edit(file, `cache.forgetAll({ _tag: "All" })\n      identity = undefined`)],
    tests: [synchronization]
  },
  {
    name: "clock-wanders",
    guarantee: "G6",
    step: "deadlines are computed anew when the database's clock wanders",
    edits: [
      edit(
        file,
        "if (wandered <= clockTolerance + error + known.error) return Effect.void",
        "if (wandered <= Infinity) return Effect.void"
      )
    ],
    tests: [synchronization]
  },
  {
    name: "clock-jumps",
    guarantee: "G6",
    step: "after a jump of the database's clock memory is not served until then",
    edits: [edit(file, "if (wandered < clockJump) return renewed", "if (wandered < Infinity) return renewed")],
    tests: [boundedStaleness, synchronization]
  },
  {
    name: "clock-jump-beats",
    guarantee: "G6",
    step: "nor does a beat from before the jump change that",
    edits: [
      edit(
        file,
        "cache.desynchronized()\n      outstanding.clear()\n      return",
        "cache.desynchronized()\n      return"
      )
    ],
    tests: [synchronization]
  },
  {
    name: "clock-leases",
    guarantee: "G8",
    step: "holders of locks are told of a jump of the database's clock",
    edits: [edit(file, "board.resume()\n      if (wandered", "if (wandered")],
    tests: [synchronization]
  },
  {
    name: "silent-listener",
    guarantee: "G1",
    step: "a listener that is silent for maxStaleness is given up for a new one",
    edits: [edit(file, "if (silentFor > settings.maxStaleness) {", "if (silentFor > Infinity) {")],
    tests: [boundedStaleness]
  },
  {
    name: "retry-growth",
    guarantee: "G12",
    step: "a server that refuses is asked at growing intervals",
    edits: [edit(file, "retryDelay = Math.min(maxRetryDelay, retryDelay * 2)")],
    tests: [storms]
  },
  {
    name: "notices-applied",
    guarantee: "G4",
    step: "notices are applied",
    edits: [edit(file, "cache.apply(notice)")],
    tests: [resurrection]
  }
]
