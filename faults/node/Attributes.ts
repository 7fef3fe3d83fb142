/** The attributes of the harness's sessions, and sessions as the history records them. */
import { Session, SessionAttribute } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Snapshot } from "../History.ts"
import { elevatedFor } from "../Settings.ts"

export const Count = SessionAttribute.make("count", Schema.Int, { initial: () => 0 })
export const Guarded = SessionAttribute.make("guarded", Schema.Int, { initial: () => 0 })
export const Note = SessionAttribute.make("note", Schema.String, { initial: () => "" })
export const Elevated = SessionAttribute.make("elevated", Schema.Boolean, {
  timeToLive: elevatedFor,
  initial: () => false
})

export const snapshot = (session: Session): Effect.Effect<Snapshot> =>
  Effect.orDie(
    Effect.gen(function* () {
      return {
        key: session.key,
        version: Number(session.version),
        user: Option.getOrUndefined(session.userId),
        group: Option.getOrUndefined(session.groupId),
        count: yield* Session.get(session, Count),
        guarded: yield* Session.get(session, Guarded),
        note: yield* Session.get(session, Note),
        elevated: yield* Session.get(session, Elevated)
      }
    })
  )
