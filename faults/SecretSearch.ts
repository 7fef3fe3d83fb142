/**
 * Looks for secrets in everything that outlives a request: every table as text,
 * every file of the server (the write-ahead log and the log included), and what
 * the nodes said. Part of a secret is a secret.
 */
import * as FileSystem from "node:fs"
import { join } from "node:path"

/** So many characters of a secret in a row are found wherever they stand; that is less than half of one. */
const found = 19
const gram = 12
const stride = found - gram + 1

/** What could be a part of a secret: nothing else is looked at. */
const candidates = /[A-Za-z0-9_-]{19,}/g

export class SecretSearch {
  private readonly grams = new Map<string, string>()
  private readonly hits = new Map<string, string>()
  /** How many bytes were searched. */
  searched = 0

  /** What is secret, and by what it may be known in a report. */
  add(secret: string, name: string): void {
    for (let start = 0; start + gram <= secret.length; start++) this.grams.set(secret.slice(start, start + gram), name)
  }

  text(where: string, text: string): void {
    this.searched += text.length
    for (const [run] of text.matchAll(candidates)) {
      for (let start = 0; start + gram <= run.length; start += stride) {
        const name = this.grams.get(run.slice(start, start + gram))
        if (name !== undefined) this.report(where, name)
      }
    }
  }

  /** Every file below a directory. */
  directory(path: string): void {
    for (const entry of FileSystem.readdirSync(path, { withFileTypes: true })) {
      const child = join(path, entry.name)
      if (entry.isDirectory()) this.directory(child)
      else if (entry.isFile()) this.file(child)
    }
  }

  report(where: string, what: string): void {
    this.hits.set(where, what)
  }

  get leaks(): ReadonlyArray<{ readonly where: string; readonly what: string }> {
    return [...this.hits].map(([where, what]) => ({ where, what }))
  }

  private file(path: string): void {
    const chunk = Buffer.alloc(4 * 2 ** 20)
    const overlap = 64
    const file = FileSystem.openSync(path, "r")
    try {
      for (let position = 0; ; position += chunk.length - overlap) {
        const length = FileSystem.readSync(file, chunk, 0, chunk.length, position)
        // One character a byte, whatever the bytes mean.
        this.text(path, chunk.toString("latin1", 0, length))
        if (length < chunk.length) return
      }
    } finally {
      FileSystem.closeSync(file)
    }
  }
}
