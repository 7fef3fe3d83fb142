// Replaces the parts of the page that the server sends anew, says what changed, and leaves when the session has ended.
const live = document.querySelector("[data-live]")
const announcer = document.getElementById("announcer")
const stale = document.getElementById("stale")
const stateOf = (element) => element.querySelector("[data-state]")
const announce = (element) => (announcer.textContent = element.textContent.replace(/\s+/g, " ").trim())

const show = (element, html) => {
  const before = stateOf(element)?.dataset.state
  element.innerHTML = html
  const state = stateOf(element)
  if (state?.dataset.state !== before) announce(state)
}

const follow = () => {
  const source = new EventSource(live.dataset.live)
  source.onopen = () => (stale.hidden = true)
  source.onerror = () => {
    // Closed means that the server has answered with something else: the session is over, or nobody can tell.
    if (source.readyState === EventSource.CLOSED) location.assign("/")
    else stale.hidden = false
  }
  source.addEventListener("fragment", (event) => {
    const { id, html } = JSON.parse(event.data)
    const element = document.getElementById(id)
    if (!element || element.innerHTML === html) return
    // Not while somebody's focus is in it, which would be lost: the latest, once it has gone.
    element.onfocusout = null
    if (element.contains(document.activeElement))
      element.onfocusout = () => setTimeout(() => element.contains(document.activeElement) || show(element, html))
    else show(element, html)
  })
  source.addEventListener("theme", (event) => {
    const theme = JSON.parse(event.data)
    document.documentElement.dataset.theme = theme
    for (const button of document.getElementsByName("theme"))
      button.setAttribute("aria-pressed", String(button.value === theme))
  })
  // The session has a new id, which the cookie has already.
  source.addEventListener("renewed", () => {
    source.close()
    follow()
  })
  source.addEventListener("ended", () => {
    source.close()
    location.assign("/?ended")
  })
}

if (live) follow()
// What is there from the start is not read out by itself.
const notice = document.querySelector(".notice")
if (notice) setTimeout(() => announce(notice), 200)
