/**
 * A file system of limited size for everything that a run writes, so that the
 * disk can be full without filling anybody else's. It is mounted in a mount
 * namespace of the run's own, and so is gone with it, however that ends.
 */
import { spawn, spawnSync } from "node:child_process"
import * as FileSystem from "node:fs/promises"
import { mkdtempSync, rmdirSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** More than a run needs, and little enough to be filled at once. */
const megabytes = 900
/** Set in the process that runs on the limited file system. */
const variable = "FAULTS_LIMITED_DIRECTORY"

const mountScript = `mount -t tmpfs -o size=${megabytes}m,mode=755 tmpfs "$0" && exec "$@"`
const namespace = ["--mount", "--propagation", "private", "/bin/sh", "-c", mountScript]

/** Removes the directory when this process is gone, however that ends, and so is the one that writes below it. */
const cleanUpScript = 'read -r _; while kill -0 "$1" 2> /dev/null; do sleep 0.1; done; rmdir "$0"'

/** Where this process's limited file system is; `undefined`: it has none. */
export const limitedDirectory = process.env[variable]

/** Why there cannot be one here; `undefined` where there can. */
const impediment = (directory: string): string | undefined => {
  if (process.platform !== "linux") return "mounting a small file system for it is tried on Linux only"
  const tried = spawnSync("unshare", [...namespace, directory, "true"], { encoding: "utf8" })
  if (tried.status === 0) return undefined
  const detail = tried.error?.message ?? tried.stderr.trim()
  return `a small file system cannot be mounted here (${detail}): that takes the rights of root`
}

/**
 * Runs this program again on a file system of limited size and resolves to its exit code, or answers why that is not
 * possible.
 */
export const runLimited = (): Promise<number> | string => {
  const directory = mkdtempSync(join(tmpdir(), "effect-pg-session-faults-"))
  const why = impediment(directory)
  if (why !== undefined) {
    rmdirSync(directory)
    return why
  }
  return new Promise((resolve) => {
    const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
    const child = spawn("unshare", [...namespace, directory, ...command], {
      env: { ...process.env, TMPDIR: directory, [variable]: directory },
      // The channel tells it when this process is gone.
      stdio: ["inherit", "inherit", "inherit", "ipc"],
      detached: true
    })
    spawn("/bin/sh", ["-c", cleanUpScript, directory, String(child.pid)], {
      stdio: ["pipe", "ignore", "ignore"],
      cwd: "/",
      detached: true
    }).unref()
    const passOn = (signal: NodeJS.Signals) => child.kill(signal)
    process.on("SIGINT", passOn).on("SIGTERM", passOn)
    child.once("exit", (code) => resolve(code ?? 2))
  })
}

/** Ends this process in an orderly way when the one that started it is gone. */
export const endWithParent = (): void => {
  if (limitedDirectory === undefined) return
  process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))
  process.channel?.unref()
}

/** Takes all space that is left, and answers the file that has it. */
export const fillUp = async (directory: string): Promise<string> => {
  const path = join(directory, "filler")
  const file = await FileSystem.open(path, "w")
  try {
    for (let size = 4 * 2 ** 20; size >= 512; size /= 2) {
      const chunk = Buffer.alloc(size)
      let wrote = true
      while (wrote)
        wrote = await file.write(chunk).then(
          ({ bytesWritten }) => bytesWritten > 0,
          () => false
        )
    }
  } finally {
    await file.close()
  }
  return path
}
