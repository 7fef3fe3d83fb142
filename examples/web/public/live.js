// Replaces the parts of the page that the server sends anew, counts down, and leaves when the session has ended.
const live = document.querySelector("[data-live]")
const stateOf = (element) => element.querySelector("[data-state]")

const show = (element, html) => {
  const before = stateOf(element)?.dataset.state
  element.innerHTML = html
  const state = stateOf(element)
  if ("announce" in element.dataset && state?.dataset.state !== before) {
    document.getElementById("announcer").textContent = state.textContent.trim()
  }
}

const follow = () => {
  const source = new EventSource(live.dataset.live)
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
  source.addEventListener("theme", (event) => (document.documentElement.dataset.theme = JSON.parse(event.data)))
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

if (live) {
  follow()
  setInterval(() => {
    for (const element of document.querySelectorAll("[data-until]")) {
      element.textContent = `${Math.max(0, Math.ceil((Number(element.dataset.until) - Date.now()) / 1000))} s`
    }
  }, 250)
}
