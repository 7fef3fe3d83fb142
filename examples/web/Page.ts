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

/** What changes while one looks is not read out each time: the script announces when its state becomes another. */
const changing = ({ content, id }: Fragment): Html => html`<div id="${id}" data-announce>${content}</div>`

/** The id is where the browser comes back to, and where the keyboard goes on, after a button of the card. */
const card = (id: string, title: string, hint: string, ...contents: ReadonlyArray<Html>): Html =>
  html`<section id="${id}" aria-labelledby="${id}-title">
    <h2 id="${id}-title">${title}</h2>
    <p class="hint">${hint}</p>
    ${contents}
  </section>`

const duration = (micros: number): string =>
  micros < 1_000 ? `${micros.toFixed(1)} µs` : `${(micros / 1_000).toFixed(1)} ms`

const readingLine = ({ againMicros, micros, source }: Reading): Html =>
  html`<p class="reading" id="reading">
    ${
      source === "nowhere"
        ? "Nobody is logged in here: no session was read."
        : html`Your session came from <b>${source === "memory" ? "this node's memory" : "the database"}</b> in
            <b>${duration(micros)}</b>, its cookie verified. Reading it once more took <b>${duration(againMicros)}</b>.`
    }
  </p>`

const layout = (node: NodeInfo, title: string, theme: string, body: Html): Html =>
  html`<!doctype html>
    <html lang="en" data-theme="${theme}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title} · ${node.name}</title>
        <link rel="stylesheet" href="/styles.css" />
        <script src="/live.js" defer></script>
      </head>
      <body>
        <header>
          <p class="node"><b>${node.name}</b> <span>process ${node.processId}</span></p>
          <a href="${node.otherUrl}">This page on the other node</a>
        </header>
        <main>${body}</main>
        <p id="announcer" class="unseen" role="status"></p>
        <p id="stale" role="status" hidden>
          The connection to this node is lost: what you see may be out of date. Trying again …
        </p>
        <footer>Both nodes share one cookie. Open a private window to be a second device.</footer>
      </body>
    </html>`

const notices = (messages: ReadonlyArray<Message>): Html =>
  html`${messages.map(({ kind, text }) => html`<p class="notice" data-kind="${kind}">${text}</p>`)}`

const nodeCard = (node: NodeInfo, health: Fragment): Html =>
  card(
    "node",
    `Health of ${node.name}`,
    "Break the way on which it hears of changes: it notices, reads from the database, and recovers once that is repaired.",
    changing(health),
    html`<div class="row">
      ${action("/listener", "Cut its listener", "network", "cut")}
      ${action("/listener", "Make it silent", "network", "silent")} ${action("/listener", "Repair it", "network", "up")}
    </div>`
  )

/** For those who are not logged in. */
export const loginPage = (
  node: NodeInfo,
  reading: Reading,
  messages: ReadonlyArray<Message>,
  health: Fragment
): string =>
  layout(
    node,
    "Log in",
    "light",
    html`${notices(messages)}
      <h1 data-live="/live/node">One session, two nodes</h1>
      ${readingLine(reading)}
      <div class="cards">
        <div>
          ${card(
            "login",
            "Who are you?",
            "A small shop on two processes and one PostgreSQL. There are no passwords here: choose somebody.",
            html`<form method="post" action="/login" class="row">
              ${users.map((user) => html`<button name="user" value="${user}">Log in as ${user}</button>`)}
            </form>`
          )}
        </div>
        <div>${nodeCard(node, health)}</div>
      </div>`
  ).text

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
    `Hello, ${user}`,
    theme,
    html`${notices(messages)}
      <div class="who" data-live="/live">
        <h1>Hello, ${user}</h1>
        ${action("/logout", "Log out")}
      </div>
      ${readingLine(reading)}
      <div class="cards">
        <div>
          ${card(
            "shop",
            "Cart",
            "Fill it from both nodes at once: nothing is lost, and each window shows what the other does.",
            changing(fragments.cart),
            html`<form method="post" action="/cart" class="row">
                ${goods.map((item) => html`<button name="item" value="${item}">+ ${item}</button>`)}
              </form>
              <div class="row">${action("/cart/many", "Ten at once")}${action("/cart/empty", "Empty it")}</div>`
          )}
          ${card(
            "access",
            "Step up",
            "A transfer needs the step-up, which ends by itself. A new e-mail address needs a login of the last five minutes.",
            changing(fragments.elevated),
            html`<div class="row">
              ${action("/step-up", "Step up")}${action("/transfer", "Transfer money")}${action("/email", "Change e-mail")}
            </div>`
          )}
          ${card(
            "look",
            "Theme",
            "A preference of the session, on both nodes at once.",
            html`<form method="post" action="/theme" class="row">
              ${themes.map(
                (name) =>
                  html`<button name="theme" value="${name}" aria-pressed="${name === theme ? "true" : "false"}">
                    ${name}
                  </button>`
              )}
            </form>`
          )}
        </div>
        <div>
          ${card(
            "logins",
            "Devices",
            `Where ${user} is logged in. A window whose session is ended leaves at that moment.`,
            changing(fragments.devices),
            html`<div class="row">${action("/devices/end-others", "End all others")}</div>`
          )}
          ${nodeCard(node, fragments.health)}
        </div>
      </div>
      <p class="quiet">Session <code>${session.key.slice(0, 8)}…</code></p>`
  ).text

/** For when something is in the way; `remedy` is what helps, if anything does. */
export const errorPage = (node: NodeInfo, title: string, text: string, remedy?: "step-up"): string =>
  layout(
    node,
    title,
    "light",
    html`<h1>${title}</h1>
      <p>${text}</p>
      ${remedy !== undefined && html`<div class="row">${action("/step-up", "Step up")}</div>`}
      <p><a href="/">Back to the page</a></p>`
  ).text
