/** How the harness's commands begin: on a file system of limited size, where that can be had, and never longer than who started them. */
import { NodeRuntime } from "@effect/platform-node"
import type * as Effect from "effect/Effect"
import { endWithParent, limitedDirectory, runLimited } from "./Quota.ts"

/** Runs a command. `program` is told why its file system is not limited, where it is not. */
export const start = async <A, E>(
  usage: string,
  program: (unlimited: string | undefined) => Effect.Effect<A, E>
): Promise<void> => {
  if (process.argv.includes("--help")) return console.log(usage)
  const limited = limitedDirectory === undefined ? runLimited() : undefined
  if (typeof limited === "object") {
    process.exitCode = await limited
    return
  }
  endWithParent()
  NodeRuntime.runMain(program(limited))
}
