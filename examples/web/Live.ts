/** What changes while somebody looks, as server-sent events: rendered again whenever the session changes, and every second. */
import { Session, SessionStore } from "@effect-pg-session/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { HttpServerResponse } from "effect/http"
import { devicesFragment, type Fragment, healthFragment, sessionFragments } from "./Fragments.ts"
import { ListenerSwitch } from "./ListenerSwitch.ts"
import { Theme } from "./Shop.ts"

/** How many cookies this node has refused. */
const refusedCookies = Effect.map(Metric.snapshot, (metrics) =>
  metrics.reduce(
    (sum, metric) =>
      metric.id === "session_cookies_refused" && metric.type === "Counter" ? sum + Number(metric.state.count) : sum,
    0
  )
)

/** How this node is doing. */
export const health = Effect.gen(function* () {
  const sessions = yield* SessionStore
  const { network } = yield* ListenerSwitch
  return healthFragment(yield* sessions.health, yield* refusedCookies, network())
})

/** Everything that may change about a session. */
export const fragments = Effect.fnUntraced(function* (session: Session) {
  const sessions = yield* SessionStore
  const devices = Option.isSome(session.userId) ? yield* sessions.listForUser(session.userId.value) : [session]
  const { cart, elevated } = yield* Effect.orDie(sessionFragments(session, yield* Clock.currentTimeMillis))
  return { cart, elevated, devices: yield* devicesFragment(devices, session), health: yield* health }
})

const event = (name: string, data: unknown): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`

const fragmentEvent = ({ content, id }: Fragment): string => event("fragment", { id, html: content.text })

const stream = <E>(texts: Stream.Stream<string, E>) =>
  HttpServerResponse.stream(Stream.encodeText(texts), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store" }
  })

/** The node's own events, for those who are not logged in: how it is doing, every second. */
export const nodeEvents = Effect.gen(function* () {
  const context = yield* Effect.context<SessionStore | ListenerSwitch>()
  const render = Effect.provideContext(Effect.map(health, fragmentEvent), context)
  return stream(Stream.mapEffect(Stream.tick("1 second"), () => render))
})

/**
 * The events of one window, until its session ends or gets a new id. The old id tells nothing then, but its key is still
 * among the user's sessions: that window has its new cookie already, and only has to ask again.
 */
export const events = Effect.fnUntraced(function* (session: Session) {
  const sessions = yield* SessionStore
  const context = yield* Effect.context<SessionStore | ListenerSwitch>()
  const sent = new Map<string, string>()
  const render = Effect.gen(function* () {
    const found = yield* sessions.find(session.id, { touch: false })
    if (Option.isNone(found)) return ""
    const theme = yield* Effect.orDie(Session.get(found.value, Theme))
    const all = [...Object.values(yield* fragments(found.value)).map(fragmentEvent), event("theme", theme)]
    const changed = all.filter((text, index) => sent.get(String(index)) !== text)
    for (const [index, text] of all.entries()) sent.set(String(index), text)
    return changed.join("")
  }).pipe(Effect.provideContext(context))
  const last = Effect.gen(function* () {
    const devices = Option.isSome(session.userId) ? yield* sessions.listForUser(session.userId.value) : []
    return event(devices.some(({ key }) => key === session.key) ? "renewed" : "ended", {})
  })
  const changes = Stream.map(sessions.watch(session.id), () => undefined)
  const ticks = Stream.map(Stream.tick("1 second"), () => undefined)
  const texts = Stream.merge(changes, ticks, { haltStrategy: "left" }).pipe(
    Stream.mapEffect(() => render),
    Stream.concat(Stream.fromEffect(last))
  )
  return stream(texts)
})
