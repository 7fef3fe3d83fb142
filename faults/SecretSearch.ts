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

/** What secrets are spelled with: shorter runs of it are not looked at. */
const isSpelling = new Uint8Array(256)
for (const character of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
  isSpelling[character.charCodeAt(0)] = 1
}

/** Files are read in parts that overlap by more than a secret's length. */
const overlap = 64

/** A quick look whether a gram may be one of those that are looked for. */
const filterBits = 24
const slot = (bytes: Buffer, at: number): number =>
  Math.imul(bytes.readInt32LE(at) ^ Math.imul(bytes.readInt32LE(at + 4), 0x85_eb_ca_6b), 0x9e_37_79_b1) >>>
  (32 - filterBits)

export class SecretSearch {
  private readonly grams = new Map<string, string>()
  private readonly filter = new Uint8Array(2 ** filterBits)
  private readonly chunk = Buffer.alloc(4 * 2 ** 20)
  private readonly hits = new Map<string, string>()
  /** How many bytes were searched. */
  searched = 0

  /** What is secret, and by what it may be known in a report. */
  add(secret: string, name: string): void {
    const bytes = Buffer.from(secret, "latin1")
    for (let start = 0; start + gram <= bytes.length; start++) {
      this.grams.set(secret.slice(start, start + gram), name)
      this.filter[slot(bytes, start)] = 1
    }
  }

  text(where: string, text: string): void {
    this.bytes(where, Buffer.from(text))
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

  private bytes(where: string, bytes: Buffer): void {
    this.searched += bytes.length
    let start = 0
    for (let end = 0; end <= bytes.length; end++) {
      if (isSpelling[bytes[end] ?? 0] === 1) continue
      if (end - start >= found) this.run(where, bytes, start, end)
      start = end + 1
    }
  }

  private run(where: string, bytes: Buffer, start: number, end: number): void {
    for (let at = start; at + gram <= end; at += stride) {
      if (this.filter[slot(bytes, at)] !== 1) continue
      const name = this.grams.get(bytes.toString("latin1", at, at + gram))
      if (name !== undefined) this.report(where, name)
    }
  }

  private file(path: string): void {
    const { chunk } = this
    const file = FileSystem.openSync(path, "r")
    try {
      for (let position = 0; ; position += chunk.length - overlap) {
        const length = FileSystem.readSync(file, chunk, 0, chunk.length, position)
        this.bytes(path, chunk.subarray(0, length))
        if (length < chunk.length) return
      }
    } finally {
      FileSystem.closeSync(file)
    }
  }
}
