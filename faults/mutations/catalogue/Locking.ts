/** Leases and waiting, on the node. */
import { edit, type Mutation } from "../Mutation.ts"
import { inCore } from "../TestFiles.ts"

const lease = "packages/core/src/internal/lock/Lease.ts"
const locks = "packages/core/src/internal/lock/Locks.ts"
const asking = "packages/core/src/internal/lock/Asking.ts"
const waiting = "packages/core/src/internal/lock/Waiting.ts"
const queue = "packages/core/src/internal/lock/WaitQueue.ts"
const { lockFaults, sessionLocks } = inCore

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "lease-margin",
    guarantee: "G8",
    step: "a lease ends for its holder a margin before it ends in the database",
    edits: [edit(lease, "const end = sentAt + left - margin", "const end = sentAt + left - 0 * margin")],
    tests: [sessionLocks, lockFaults]
  },
  {
    name: "lease-sent-at",
    guarantee: "G8",
    step: "a lease counts from before the statement was sent",
    edits: [
      edit(locks, "lease.extendedUntil(sentAt, outcome)", "lease.extendedUntil(clock.now() + 0 * sentAt, outcome)")
    ],
    tests: [sessionLocks, lockFaults]
  },
  {
    name: "lease-extended-sent-at",
    guarantee: "G8",
    step: "so does an extension",
    edits: [
      edit(
        lease,
        "this.extendedUntil(sentAt, outcome)",
        "this.extendedUntil(this.grantor.clock.now() + 0 * sentAt, outcome)"
      )
    ],
    tests: [sessionLocks]
  },
  {
    name: "lease-newest-answer",
    guarantee: "G8",
    step: "the newest answer holds, also where it leaves less",
    edits: [edit(lease, "answer.now > this.asOf ? end :", "answer.now === Infinity ? end :")],
    tests: [lockFaults]
  },
  {
    name: "lease-watch",
    guarantee: "G8",
    step: "a holder is told when its lease can no longer be relied upon",
    edits: [edit(locks, "Effect.andThen(Effect.forkIn(lease.watch, scope)),")],
    tests: [sessionLocks]
  },
  {
    name: "lease-heartbeats",
    guarantee: "G8",
    step: "a lease is extended as long as its holder works",
    edits: [edit(locks, "Effect.andThen(Effect.forkIn(lease.heartbeats(acquisition), scope)),")],
    tests: [sessionLocks]
  },
  {
    name: "lease-heartbeats-repeated",
    guarantee: "G8",
    step: "heartbeats that fail are repeated in time",
    edits: [
      edit(
        lease,
        "return Math.min(longestRetryDelay, millis, this.remainingMillis() / 4)",
        "return millis + 1_000 * longestRetryDelay"
      )
    ],
    tests: [sessionLocks]
  },
  {
    name: "lease-interrupts",
    guarantee: "G8",
    step: "the work is interrupted when the lease is lost",
    edits: [edit(locks, "Effect.raceFirst(work, lease.lost)", "work")],
    tests: [sessionLocks]
  },
  {
    name: "lease-check-before",
    guarantee: "G8",
    step: "work does not begin where the answer came later than the lease",
    edits: [edit(locks, "lease.check,\n              Effect.flatMap(", "Effect.void,\n              Effect.flatMap(")],
    tests: [lockFaults]
  },
  {
    name: "lease-check-after",
    guarantee: "G8",
    step: "work that succeeds after its lease has ended has not succeeded",
    edits: [edit(locks, "(result) => Effect.as(lease.check, result)", "(result) => Effect.succeed(result)")],
    tests: [sessionLocks]
  },
  {
    name: "lease-lost-in-database",
    guarantee: "G8",
    step: "a lease is lost when the database says so",
    edits: [edit(lease, `else this.lose("Ended")`)],
    tests: [sessionLocks]
  },
  {
    name: "lease-lost-freed",
    guarantee: "G8",
    step: "a lease that was lost is freed in the database, too",
    edits: [edit(lease, "this.grantor.freeLater(this.grant, this.deadline)")],
    tests: [sessionLocks]
  },
  {
    name: "lease-verified-on-resume",
    guarantee: "G8",
    step: "leases are asked about when notices are heard again",
    edits: [edit(locks, "for (const lease of held) background(lease.verify)")],
    tests: [sessionLocks, lockFaults]
  },
  {
    name: "lease-of-session",
    guarantee: "G8",
    step: "the holder of a session's lock hears of the session's end",
    edits: [edit(locks, "if (version === undefined) watchers.signal(key)")],
    tests: [sessionLocks, lockFaults]
  },
  {
    name: "lease-one-question",
    guarantee: "G12",
    step: "however many notices come, there is one question at a time for each lease",
    edits: [edit(lease, `if (this.verifying !== "No") {`, `if (this.verifying === undefined) {`)],
    tests: [lockFaults]
  },
  {
    name: "lease-notice-during-question",
    guarantee: "G8",
    step: "a notice that comes during the question leads to another one",
    edits: [edit(lease, `this.verifying = "Again"`)],
    tests: [lockFaults]
  },
  {
    name: "grant-abandoned",
    guarantee: "G8",
    step: "what is granted to somebody who has gone away is freed",
    edits: [edit(asking, "if (!isWanted) return discard(exit)", "if (!isWanted) return Effect.void")],
    tests: [sessionLocks]
  },
  {
    name: "grant-unknown",
    guarantee: "G8",
    step: "what may have been granted by an answer that was lost is freed",
    edits: [
      edit(asking, "(Exit.isFailure(exit) && mayBeGranted)", "(Exit.isFailure(exit) && !isWanted && mayBeGranted)")
    ],
    tests: [sessionLocks]
  },
  {
    name: "grant-while-closing",
    guarantee: "G11",
    step: "what is granted while the layer closes is freed, and nobody works under it",
    edits: [
      edit(locks, `if (!open) return Effect.andThen(free(grant, clock.now()), Effect.fail(unavailable("Closed")))`)
    ],
    tests: [sessionLocks]
  },
  {
    name: "locks-end-tells",
    guarantee: "G11",
    step: "the end interrupts the work under locks",
    edits: [edit(locks, `for (const lease of leases) lease.lose("Closed")`)],
    tests: [sessionLocks]
  },
  {
    name: "locks-end-order",
    guarantee: "G8",
    step: "locks are released only once the work under them has stopped",
    edits: [
      edit(locks, 'inTime("end the work under its locks", returned),', "Effect.asVoid(Effect.succeed(returned)),")
    ],
    tests: [sessionLocks]
  },
  {
    name: "locks-end-releases",
    guarantee: "G11",
    step: "the end releases what is held",
    edits: [
      edit(
        locks,
        "Effect.andThen(releaseAll, FiberSet.awaitEmpty(fibers))",
        "Effect.andThen(Effect.succeed(releaseAll), FiberSet.awaitEmpty(fibers))"
      )
    ],
    tests: [sessionLocks]
  },
  {
    name: "waiting-order",
    guarantee: "G8",
    step: "waiters of a node are served in the order of their arrival",
    edits: [edit(queue, "Latch.makeUnsafe(this.waiters.size === 0)", "Latch.makeUnsafe(true)")],
    tests: [sessionLocks]
  },
  {
    name: "waiting-news-during-question",
    guarantee: "G8",
    step: "what is heard while the question is under way is not overwritten by its answer",
    edits: [edit(queue, "this.askAt = Math.min(this.askAt, time)", "this.askAt = time")],
    tests: [sessionLocks]
  },
  {
    name: "waiting-barrier",
    guarantee: "G8",
    step: "nobody asks again before it is settled what a waiter that went away has left",
    edits: [
      edit(waiting, "if (queue.barrier !== undefined) {", "if (queue.size < 0 && queue.barrier !== undefined) {")
    ],
    tests: [sessionLocks]
  },
  {
    name: "waiting-leaves",
    guarantee: "G8",
    step: "a node that no longer waits gives up its place",
    edits: [edit(waiting, "if (queue.size === 0 && queue.isQueued) settle(queue, giveUpPlace(queue))")],
    tests: [sessionLocks]
  },
  {
    name: "waiting-next",
    guarantee: "G8",
    step: "where the first one's question fails the next one asks at once",
    edits: [edit(waiting, `if (Exit.isFailure(exit) || exit.value._tag !== "Answered") queue.askNow()`)],
    tests: [sessionLocks]
  },
  {
    name: "waiting-deaf",
    guarantee: "G8",
    step: "while notices are not heard waiters ask from time to time",
    edits: [edit(waiting, "board.isHeard() ? longestPause : pause", "longestPause * 1_000")],
    tests: [sessionLocks]
  },
  {
    name: "waiting-bound",
    guarantee: "G10",
    step: "waiters of a node are bounded",
    edits: [edit(waiting, "if (waiting >= maxWaiting) return", "if (waiting < 0) return")],
    tests: [sessionLocks]
  },
  {
    name: "waiting-not-overtaken",
    guarantee: "G8",
    step: "who tries without waiting does not overtake the waiters of its node",
    edits: [edit(locks, "node: `${settings.nodeName}#`,", "node,")],
    tests: [sessionLocks]
  }
]
