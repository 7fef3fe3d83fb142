// Replaces the parts of the page that the server sends anew, counts down, and leaves when the session has ended.
const live = document.querySelector("[data-live]")
if (live) {
  const source = new EventSource(live.dataset.live)
  source.addEventListener("fragment", (event) => {
    const { id, html } = JSON.parse(event.data)
    const element = document.getElementById(id)
    // Not while somebody's focus is in it, which would be lost.
    if (element && element.innerHTML !== html && !element.contains(document.activeElement)) element.innerHTML = html
  })
  source.addEventListener("theme", (event) => (document.documentElement.dataset.theme = JSON.parse(event.data)))
  source.addEventListener("ended", () => {
    source.close()
    location.assign("/?ended")
  })
  setInterval(() => {
    for (const element of document.querySelectorAll("[data-until]")) {
      element.textContent = `${Math.max(0, Math.ceil((Number(element.dataset.until) - Date.now()) / 1000))} s`
    }
  }, 250)
}
