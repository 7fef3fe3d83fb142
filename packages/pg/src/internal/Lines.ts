/**
 * Who may stand in line for a connection. Of each operation only so many
 * statements may, a few for each connection; further ones wait in a
 * line of their operation's own. So a crowd that asks for one thing delays that thing
 * only: a batch that carries hundreds of reads, or a lease that must be extended,
 * never stands behind thousands of logins.
 */

interface Line {
  /** Statements that stand in line for a connection, or have one. */
  admitted: number
  /** In the order in which they came. */
  readonly waiting: Set<() => void>
  admitting: boolean
}

/** What a statement holds of its line. */
export interface Place {
  /** The statement is done, or not wanted any more: the next one may come. Can be repeated. */
  readonly leave: () => void
}

export class Lines {
  private readonly lines = new Map<string, Line>()
  private readonly limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  /** How many of an operation's statements wait, or stand in line for a connection, or have one. */
  count(operation: string): number {
    const line = this.lines.get(operation)
    return line === undefined ? 0 : line.admitted + line.waiting.size
  }

  /** Calls `start` once it is the statement's turn, perhaps at once. */
  enter(operation: string, start: () => void): Place {
    const line = this.lines.get(operation) ?? { admitted: 0, waiting: new Set(), admitting: false }
    this.lines.set(operation, line)
    let isIn = true
    line.waiting.add(start)
    this.admit(operation, line)
    return {
      leave: () => {
        if (!isIn) return
        isIn = false
        if (!line.waiting.delete(start)) line.admitted--
        this.admit(operation, line)
      }
    }
  }

  private admit(operation: string, line: Line): void {
    // One that is over as soon as it has begun does not admit the next one on top of itself: there may be thousands.
    if (line.admitting) return
    line.admitting = true
    for (const start of line.waiting) {
      if (line.admitted >= this.limit) break
      line.waiting.delete(start)
      line.admitted++
      start()
    }
    line.admitting = false
    if (line.admitted === 0 && line.waiting.size === 0) this.lines.delete(operation)
  }
}
