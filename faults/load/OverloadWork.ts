/** What is asked of a node that is given too much: reads that memory cannot answer, updates, logins and locks. */
import { type LockService, Session, SessionAttribute, SessionId, type Sessions, UserId } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Random } from "../Random.ts"

const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })

const weights = { miss: 5, update: 3, create: 1, lock: 1 } as const
export type Kind = keyof typeof weights
export const kinds: ReadonlyArray<Kind> = ["miss", "update", "create", "lock"]

/** Those that are updated are few, so that memory has many of them; all others are read too rarely for that. */
const hot = 1_000

export interface Services {
  readonly sessions: Sessions
  readonly locks: LockService
}

/** Every typed error says what it is. */
export interface Tagged {
  readonly _tag: string
  readonly reason?: unknown
}

export class OverloadWork {
  private readonly services: Services
  private readonly ids: ReadonlyArray<SessionId>
  private readonly random: Random
  private next = 0

  constructor(services: Services, tokens: ReadonlyArray<string>, random: Random) {
    this.services = services
    this.ids = tokens.flatMap((token) => Option.toArray(SessionId.fromString(token)))
    this.random = random
  }

  kind(): Kind {
    return this.random.weighted(weights)
  }

  operation(kind: Kind): Effect.Effect<unknown, Tagged> {
    const { random } = this
    const { locks, sessions } = this.services
    const number = this.next++
    switch (kind) {
      case "miss":
        return sessions.get(this.id(hot, this.ids.length - 1))
      case "update":
        return sessions.modify(
          this.id(1, hot - 1),
          Session.modify(Count, (count) => count + 1)
        )
      case "create":
        return sessions.create(UserId.make(`overload-${number}-${random.integer(0, 2 ** 30)}`))
      case "lock":
        return locks.withLock(`overload-${number}`, () => Effect.void, { wait: "none" })
    }
  }

  /** A session that memory always has, since nobody else changes it and it is read all the time. */
  get cachedRead(): Effect.Effect<unknown, Tagged> {
    return this.services.sessions.get(this.id(0, 0))
  }

  private id(first: number, last: number): SessionId {
    const id = this.ids[this.random.integer(first, last)]
    if (id === undefined) throw new Error("there are too few sessions")
    return id
  }
}
