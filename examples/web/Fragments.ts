/**
 * The parts of the page that change while one looks at it. The page is made of them,
 * and the same HTML is sent again when the session, or the node's state, changes.
 */
import { Session, type SessionHealth, type SessionSummary } from "@effect-pg-session/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { html, type Html } from "./Html.ts"
import { Cart, Device, Elevated } from "./Shop.ts"

/** What one looks at. */
export interface Fragment {
  /** The element that it is the content of. */
  readonly id: string
  readonly content: Html
}

const seconds = (millis: number): string => `${Math.max(0, Math.ceil(millis / 1_000))} s`

/** What the session holds. */
export const sessionFragments = Effect.fnUntraced(function* (session: Session, now: number) {
  const cart = yield* Session.get(session, Cart)
  const until = yield* Session.getOption(session, Elevated)
  const counts = new Map<string, number>()
  for (const item of cart) counts.set(item, (counts.get(item) ?? 0) + 1)
  const lines = Array.from(counts, ([item, count]) => html`<li><span>${item}</span> <b>× ${count}</b></li>`)
  return {
    cart: {
      id: "cart",
      content: html`<p class="figure" data-state="${cart.length}">
          <strong id="cart-count">${cart.length}</strong> ${cart.length === 1 ? "thing" : "things"} in the cart
          <span class="quiet">· session version ${session.version}</span>
        </p>
        ${
          cart.length === 0
            ? html`<p class="hint">Nothing yet.</p>`
            : html`<ul class="items">
                ${lines}
              </ul>`
        }`
    },
    elevated: {
      id: "elevated",
      content: Option.match(until, {
        onNone: () => html`<p class="state" data-state="off">Ordinary access.</p>`,
        onSome: (end) =>
          html`<p class="state" data-state="on">Elevated access for another <b>${seconds(end - now)}</b>.</p>`
      })
    }
  }
})

/** The user's devices; `own` is the session that looks. */
export const devicesFragment = Effect.fnUntraced(function* (
  devices: ReadonlyArray<SessionSummary>,
  own: SessionSummary
): Effect.fn.Return<Fragment> {
  const rows = yield* Effect.forEach(devices, (device) =>
    Effect.map(
      Effect.orElseSucceed(Session.get(device, Device), () => "unknown device"),
      (name) =>
        html`<li>
          <span
            ><b>${name}</b>
            <code>${device.key.slice(0, 8)}…</code>${device.key === own.key && html` <em>this one</em>`}</span
          >
          ${
            device.key !== own.key &&
            html`<form method="post" action="/devices/end">
              <input type="hidden" name="key" value="${device.key}" /><button>
                End it<span class="unseen">: ${name}, ${device.key.slice(0, 8)}…</span>
              </button>
            </form>`
          }
        </li>`
    )
  )
  return {
    id: "devices",
    content: html`<p class="figure" data-state="${devices.length}">
        <strong>${devices.length}</strong> ${devices.length === 1 ? "device" : "devices"}
      </p>
      <ul class="items">
        ${rows}
      </ul>`
  }
})

/** How the node is doing. */
export const healthFragment = (health: SessionHealth, refused: number, switched: string): Fragment => {
  const { cache, listener, staleness, synced } = health
  const total = cache.hits + cache.misses
  const problem = Option.getOrUndefined(listener.problem)
  return {
    id: "health",
    content: html`<p class="state" data-state="${synced ? "on" : "off"}">
        ${synced ? "In sync: sessions are served from memory." : "Not in sync: sessions are read from the database."}
      </p>
      <dl>
        <dt>Listener</dt>
        <dd id="listener">${listener.state}, network ${switched}</dd>
        <dt>Its problem</dt>
        <dd class="problem">${problem ?? "none"}</dd>
        <dt>Knows everything up to</dt>
        <dd>${Duration.isFinite(staleness) ? `${Math.round(Duration.toMillis(staleness))} ms ago` : "unknown"}</dd>
        <dt>Cached sessions</dt>
        <dd>${cache.size}</dd>
        <dt>Reads from memory</dt>
        <dd>${cache.hits} of ${total}</dd>
        <dt>Refused cookies</dt>
        <dd>${refused}</dd>
        <dt>Reconnects</dt>
        <dd>${listener.reconnects}</dd>
      </dl>`
  }
}
