// What a reviewer of accessibility would look at; runs in the browser.
;(() => {
  const luminance = (color) => {
    const [red = 0, green = 0, blue = 0] = (color.match(/[\d.]+/g) ?? []).map((part) => {
      const share = Number(part) / 255
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const background = (element) => {
    if (element === null) return "rgb(255, 255, 255)"
    const color = getComputedStyle(element).backgroundColor
    return color === "rgba(0, 0, 0, 0)" ? background(element.parentElement) : color
  }
  const visible = [...document.querySelectorAll("body *")].filter(
    (element) =>
      element.offsetParent !== null &&
      [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent?.trim() !== "")
  )
  const contrasts = visible.map((element) => {
    const [one, two] = [luminance(getComputedStyle(element).color), luminance(background(element))]
    return { text: element.textContent ?? "", ratio: (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05) }
  })
  return {
    title: document.title,
    headings: [...document.querySelectorAll("h1")].map((element) => element.textContent),
    names: [...document.querySelectorAll("button, a")].map((element) => element.textContent?.trim() ?? ""),
    contrasts,
    overflow: document.documentElement.scrollWidth - window.innerWidth
  }
})()
