/** A name for a browser, for people to recognize their devices by. Nothing is decided by it. */

const browsers: ReadonlyArray<readonly [pattern: RegExp, name: string]> = [
  [/Edg\//, "Edge"],
  [/Firefox\//, "Firefox"],
  [/Chrom(?:e|ium)\//, "Chrome"],
  [/Safari\//, "Safari"],
  [/curl\//, "curl"]
]

const systems: ReadonlyArray<readonly [pattern: RegExp, name: string]> = [
  [/iPhone|iPad/, "iOS"],
  [/Android/, "Android"],
  [/Windows/, "Windows"],
  [/Mac OS/, "macOS"],
  [/Linux/, "Linux"]
]

export const deviceOf = (userAgent = ""): string => {
  const nameIn = (list: typeof browsers, other: string) =>
    list.find(([pattern]) => pattern.test(userAgent))?.[1] ?? other
  return `${nameIn(browsers, "A browser")} on ${nameIn(systems, "an unknown system")}`
}
