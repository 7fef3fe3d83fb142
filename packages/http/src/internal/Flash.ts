/** Messages for the next page: an attribute of the session. */
import { SessionAttribute } from "@effect-pg-session/core"
import * as Schema from "effect/Schema"

/** A message for the next page, such as `{ kind: "success", text: "Saved" }`. */
export interface FlashMessage {
  readonly kind: string
  readonly text: string
}

const FlashMessage: Schema.Codec<FlashMessage> = Schema.Struct({ kind: Schema.String, text: Schema.String })

/** How many messages wait at most. */
export const maxFlashMessages = 20

export const Flash = SessionAttribute.make("http.flash", Schema.Array(FlashMessage), { initial: () => [] })
