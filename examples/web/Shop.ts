/** What this application keeps in a session, and who may log in. */
import { SessionAttribute, UserId } from "@effect-pg-session/core"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

export const users = ["alice", "bob", "carol"].map((name) => UserId.make(name))
export const goods = ["pen", "ink", "paper", "lamp"]
export const themes = ["light", "dark", "sepia"] as const

export const Cart = SessionAttribute.make("cart", Schema.Array(Schema.String), { initial: () => [] })
export const Theme = SessionAttribute.make("theme", Schema.Literals(themes), { initial: () => "light" as const })
/** What the list of devices shows; nobody decides anything by it. */
export const Device = SessionAttribute.make("device", Schema.String, { initial: () => "unknown device" })

/** How long a step-up lasts: short, so that one can watch it run out. */
export const elevatedFor = Option.getOrElse(
  Duration.fromInput((process.env["ELEVATED_FOR"] ?? "") as Duration.Input),
  () => Duration.seconds(30)
)
/** Access to more than usual, which ends by itself. The value says when, for the countdown; what ends it is its lifetime. */
export const Elevated = SessionAttribute.make("elevated_access", Schema.Finite, { timeToLive: elevatedFor })
