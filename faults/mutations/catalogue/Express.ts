/** What express-session saves late. */
import { edit, type Mutation } from "../Mutation.ts"
import { inHttp } from "../TestFiles.ts"

const express = "packages/http/src/internal/ExpressSaves.ts"
const { expressMemory, expressStore } = inHttp

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "express-loaded-updates",
    guarantee: "G4",
    step: "a request that has loaded its session only updates it",
    edits: [
      edit(
        express,
        "if (own !== undefined) return change(sessions, own, snapshot)",
        'if (own !== undefined && own.sid === "") return change(sessions, own, snapshot)'
      )
    ],
    tests: [expressStore]
  },
  {
    name: "express-met",
    guarantee: "G4",
    step: "an id that the node has met is never inserted again",
    edits: [edit(express, "if (!met.has(key) && !buried.has(key)) return", "if (!buried.has(key)) return")],
    tests: [expressStore]
  },
  {
    name: "express-buried",
    guarantee: "G4",
    step: "nor is one that was destroyed",
    edits: [edit(express, "if (!met.has(key) && !buried.has(key)) return", "if (!met.has(key)) return")],
    tests: [expressStore]
  },
  {
    name: "express-destroy-waits",
    guarantee: "G4",
    step: "a destroy waits for an insert that is under way",
    edits: [
      edit(
        express,
        "under === undefined ? gone : Effect.andThen(Deferred.await(under), gone)",
        "under === undefined ? gone : gone"
      )
    ],
    tests: [expressStore]
  },
  {
    name: "express-in-turn",
    guarantee: "G3",
    step: "saves of a request that nobody awaits are made in order",
    edits: [
      edit(express, "(turn === undefined ? effect : turn.withPermit(effect))", "(turn === undefined ? effect : effect)")
    ],
    tests: [expressStore]
  },
  {
    name: "express-touch-in-turn",
    guarantee: "G3",
    step: "a touch of a request that is saving waits for its turn",
    edits: [edit(express, "if (request !== undefined && turns.has(request)) return false")],
    tests: [expressMemory]
  },
  {
    name: "express-touch-changed",
    guarantee: "G6",
    step: "a touch that changes the limit is written",
    edits: [edit(express, "return isUnchanged && memory.find", "return memory.find")],
    tests: [expressMemory]
  },
  {
    name: "express-get-is-no-activity",
    guarantee: "G6",
    step: "reading a session is no activity",
    edits: [edit(express, "memory.peek(", "memory.find(")],
    tests: [expressMemory]
  },
  {
    name: "express-one-store",
    guarantee: "G4",
    step: "a runtime that may have several stores is asked each time",
    edits: [
      edit("packages/http/src/ExpressStore.ts", "ManagedRuntime.isManagedRuntime(runtime)", "runtime !== undefined"),
      edit("packages/http/src/ExpressStore.ts", 'import * as ManagedRuntime from "effect/ManagedRuntime"\n')
    ],
    tests: [expressMemory]
  }
]
