/** The page around the fragments: plain HTML that works without a script, with landmarks and labels. */
import type { Session } from "@effect-pg-session/core"
import { html, type Html } from "./Html.ts"
import type { Fragment } from "./Fragments.ts"
import { goods, themes, users } from "./Shop.ts"

/** Who answers. */
export interface NodeInfo {
  readonly name: string
  readonly processId: number
  /** The other node's page. */
  readonly otherUrl: string
}

/** Where the session came from, and how long that took. */
export interface Reading {
  readonly source: "memory" | "database" | "nowhere"
  /** With the cookie's verification. */
  readonly micros: number
  /** The read alone, done once more; nobody measures it where there is nothing to read. */
  readonly againMicros: number
}

export interface Message {
  readonly kind: string
  readonly text: string
}

const action = (path: string, label: string, name?: string, value?: string): Html =>
  html`<form method="post" action="${path}">
    ${name !== undefined && html`<input type="hidden" name="${name}" value="${value}" />`}<button>${label}</button>
  </form>`

const region = (fragment: Fragment): Html => html`<div id="${fragment.id}" aria-live="polite">${fragment.content}</div>`

/** What changes every second is not read out each time: the script announces when its state becomes another. */
const ticking = ({ content, id }: Fragment): Html => html`<div id="${id}" data-announce>${content}</div>`

const card = (title: string, ...contents: ReadonlyArray<Html>): Html =>
  html`<section>
    <h2>${title}</h2>
    ${contents}
  </section>`

const readingLine = ({ againMicros, micros, source }: Reading): Html =>
  source === "nowhere"
    ? html`<p class="reading">Nobody is logged in here.</p>`
    : html`<p class="reading" id="reading">
        Your session came from <b>${source === "memory" ? "this node's memory" : "the database"}</b> in
        <b>${micros.toFixed(1)} µs</b>, its cookie verified. Reading it once more took
        <b>${againMicros.toFixed(1)} µs</b>.
      </p>`

const layout = (node: NodeInfo, theme: string, body: Html): Html =>
  html`<!doctype html>
    <html lang="en" data-theme="${theme}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Sessions on ${node.name}</title>
        <link rel="stylesheet" href="/styles.css" />
        <script src="/live.js" defer></script>
      </head>
      <body>
        <header>
          <p class="node"><b>${node.name}</b> <span>process ${node.processId}</span></p>
          <a href="${node.otherUrl}">the same page on the other node</a>
        </header>
        <main>${body}</main>
        <p id="announcer" class="unseen" role="status"></p>
        <footer>One cookie for both nodes. Open a private window to be a second device.</footer>
      </body>
    </html>`

const notices = (messages: ReadonlyArray<Message>): Html =>
  html`${messages.map(({ kind, text }) => html`<p class="notice" data-kind="${kind}" role="status">${text}</p>`)}`

/** For those who are not logged in. */
export const loginPage = (
  node: NodeInfo,
  reading: Reading,
  messages: ReadonlyArray<Message>,
  health: Fragment
): string =>
  layout(
    node,
    "light",
    html`${notices(messages)}${readingLine(reading)}
    ${card(
      "Who are you?",
      html`<form method="post" action="/login" class="row">
        ${users.map((user) => html`<button name="user" value="${user}">Log in as ${user}</button>`)}
      </form>`
    )}
    ${card("This node", ticking(health), listenerForms)}`
  ).text

const listenerForms = html`<div class="row">
  ${action("/listener", "Cut its listener", "network", "cut")}
  ${action("/listener", "Make it silent", "network", "silent")} ${action("/listener", "Repair it", "network", "up")}
</div>`

/** For those who are. */
export const homePage = (
  node: NodeInfo,
  reading: Reading,
  messages: ReadonlyArray<Message>,
  user: string,
  session: Session,
  theme: string,
  fragments: Readonly<Record<"cart" | "elevated" | "devices" | "health", Fragment>>
): string =>
  layout(
    node,
    theme,
    html`${notices(messages)}
      <div class="who" data-live="/live">
        <h1>Hello, ${user}</h1>
        ${action("/logout", "Log out")}
      </div>
      ${readingLine(reading)}
      <div class="cards">
        ${card(
          "Cart",
          region(fragments.cart),
          html`<form method="post" action="/cart" class="row">
              ${goods.map((item) => html`<button name="item" value="${item}">+ ${item}</button>`)}
            </form>
            <div class="row">${action("/cart/many", "Ten at once")}${action("/cart/empty", "Empty it")}</div>`
        )}
        ${card(
          "Step up",
          ticking(fragments.elevated),
          html`<div class="row">
            ${action("/step-up", "Step up")}${action("/transfer", "Transfer money")}${action("/email", "Change e-mail")}
          </div>`
        )}
        ${card("Devices", region(fragments.devices), action("/devices/end-others", "End all others"))}
        ${card(
          "Theme",
          html`<form method="post" action="/theme" class="row">
            ${themes.map(
              (name) =>
                html`<button name="theme" value="${name}" aria-pressed="${name === theme ? "true" : "false"}">
                  ${name}
                </button>`
            )}
          </form>`
        )}
        ${card(node.name, ticking(fragments.health), listenerForms)}
      </div>
      <p class="quiet">Session <code>${session.key.slice(0, 8)}…</code></p>`
  ).text

/** For when something is in the way. */
export const errorPage = (node: NodeInfo, title: string, text: string): string =>
  layout(
    node,
    "light",
    html`${card(
      title,
      html`<p>${text}</p>
        <p><a href="/">Back</a></p>`
    )}`
  ).text
