/**
 * The notification side of the in-process database: every published notice goes
 * to every open link, in the order of publication. A link has a wire (notices
 * that were sent) and a buffer (notices that have arrived); they are the same
 * moment unless a test holds the node's wire.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { SessionStoreUnavailable } from "../../SessionError.ts"
import type { UnavailableReason } from "../../SessionError.ts"
import type { Notice } from "../../SessionNotifier.ts"

/** One subscription. */
export interface Link {
  /** All notices that have arrived, at least one; waits for them. */
  readonly take: Effect.Effect<ReadonlyArray<Notice>, SessionStoreUnavailable>
  readonly close: () => void
}

/** All subscriptions. A missing `node` means every node. */
export interface Hub {
  readonly open: (node: string) => Link
  readonly publish: (notices: ReadonlyArray<Notice>) => void
  readonly hold: (node?: string) => void
  readonly release: (node?: string) => void
  /** Lets the next `count` notices of a held wire arrive. */
  readonly step: (count: number, node?: string) => void
  readonly cut: (node?: string) => void
  /** How many links are open. */
  readonly size: (node?: string) => number
}

interface State {
  readonly node: string
  readonly wire: Array<Notice>
  readonly buffer: Array<Notice>
  readonly ready: Latch.Latch
  failure: SessionStoreUnavailable | undefined
}

const unavailable = (reason: UnavailableReason, detail: string): SessionStoreUnavailable =>
  new SessionStoreUnavailable({ operation: "listen", reason, outcome: "NotApplied", detail })

/** A hub whose links fail when more than `capacity` notices wait to be taken. */
export const make = (capacity: number): Hub => {
  const links = new Set<State>()
  const held = new Set<string>()
  let holdingAll = false

  const each = (node: string | undefined, f: (link: State) => void): void => {
    for (const link of links) {
      if (node === undefined || link.node === node) f(link)
    }
  }

  const fail = (link: State, error: SessionStoreUnavailable): void => {
    links.delete(link)
    link.failure = error
    link.wire.length = 0
    link.buffer.length = 0
    link.ready.openUnsafe()
  }

  const arrive = (link: State, count: number): void => {
    const arrived = link.wire.splice(0, count)
    if (arrived.length === 0) return
    if (link.buffer.length + arrived.length > capacity) {
      return fail(link, unavailable("Overloaded", `more than ${capacity} notifications were waiting`))
    }
    for (const notice of arrived) link.buffer.push(notice)
    link.ready.openUnsafe()
  }

  const isHeld = (link: State): boolean => holdingAll || held.has(link.node)

  const take = (link: State): Link["take"] =>
    Effect.suspend(() => {
      if (link.failure !== undefined) return Effect.fail(link.failure)
      if (link.buffer.length > 0) return Effect.succeed(link.buffer.splice(0))
      link.ready.closeUnsafe()
      // Opening the latch resumes this fiber inside of the statement that published: leave that first.
      return link.ready.await.pipe(Effect.andThen(Effect.yieldNow), Effect.andThen(take(link)))
    })

  return {
    open: (node) => {
      const link: State = { node, wire: [], buffer: [], ready: Latch.makeUnsafe(false), failure: undefined }
      links.add(link)
      return {
        take: take(link),
        close: () => fail(link, unavailable("Closed", "the subscription was closed"))
      }
    },
    publish: (notices) => {
      for (const link of links) {
        for (const notice of notices) link.wire.push(notice)
        if (!isHeld(link)) arrive(link, link.wire.length)
      }
    },
    hold: (node) => {
      if (node === undefined) holdingAll = true
      else held.add(node)
    },
    release: (node) => {
      if (node === undefined) {
        holdingAll = false
        held.clear()
      } else held.delete(node)
      each(node, (link) => {
        if (!isHeld(link)) arrive(link, link.wire.length)
      })
    },
    step: (count, node) => each(node, (link) => arrive(link, count)),
    cut: (node) => each(node, (link) => fail(link, unavailable("Unreachable", "the connection was cut"))),
    size: (node) => {
      let size = 0
      each(node, () => size++)
      return size
    }
  }
}
