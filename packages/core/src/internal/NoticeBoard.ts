/**
 * Where the services of a node meet that hear the same notices: the one that
 * listens (the store's synchronization) hands on what it hears to those that have
 * no connection of their own (the locks). Layers of one build share one board.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { Notice } from "../SessionNotifier.ts"

/** Somebody who wants to hear. */
export interface Reader {
  readonly hear: (notice: Notice) => void
  /** Notices may have been missed until now, and are heard again. */
  readonly resume: () => void
}

export class Board {
  private readonly readers = new Set<Reader>()
  private readonly feeders = new Set<() => boolean>()

  /** Whether a notice that is sent now will be heard; `false` also where nobody listens for this board. */
  isHeard(): boolean {
    for (const isHeard of this.feeders) {
      if (isHeard()) return true
    }
    return false
  }

  /** Who listens says by `isHeard` whether it still hears. The result unregisters. */
  feed(isHeard: () => boolean): () => void {
    this.feeders.add(isHeard)
    return () => this.feeders.delete(isHeard)
  }

  /** The result unregisters. */
  add(reader: Reader): () => void {
    this.readers.add(reader)
    return () => this.readers.delete(reader)
  }

  publish(notice: Notice): void {
    for (const reader of this.readers) reader.hear(notice)
  }

  resume(): void {
    for (const reader of this.readers) reader.resume()
  }
}

/** The board of a node. */
export class NoticeBoard extends Context.Service<NoticeBoard, Board>()("@effect-pg-session/core/internal/NoticeBoard") {
  static readonly layer: Layer.Layer<NoticeBoard> = Layer.sync(NoticeBoard, () => new Board())
}
