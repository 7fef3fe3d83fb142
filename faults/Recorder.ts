/** Collects the history while it happens, and tells who wants to know. */
import type { NodeEnd, Operation } from "./History.ts"

export class Recorder {
  readonly operations: Array<Operation> = []
  readonly ends: Array<NodeEnd> = []
  private readonly listeners: Array<(operation: Operation) => void> = []
  private nextId = 1

  newId(): number {
    return this.nextId++
  }

  record(operation: Operation): void {
    this.operations.push(operation)
    for (const listener of this.listeners) listener(operation)
  }

  onRecord(listener: (operation: Operation) => void): void {
    this.listeners.push(listener)
  }
}
