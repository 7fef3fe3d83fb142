/**
 * The table of cookie settings, and which of their combinations browsers accept.
 */
import { InvalidSessionConfig, Setting } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"

/** The settings as this package works with them: durations in milliseconds, empty texts mean none. */
export interface CookieSettings {
  readonly name: string
  readonly secure: boolean
  readonly sameSite: "lax" | "strict" | "none"
  readonly path: string
  readonly domain: string
  readonly partitioned: boolean
  /** `Infinity`: as long as the browser runs. */
  readonly maxAge: number
  readonly readYourWrites: boolean
  readonly forwardedProto: "ignore" | "trust"
  readonly clearSiteData: boolean
}

/** The default name: browsers accept it only with Secure, Path=/ and without Domain. */
export const defaultName = "__Host-session"

/** Browsers ignore a cookie whose name and value are longer together, in bytes. */
export const maxCookieLength = 4_096

/** The longest value that is ever written: id, version, time of issue and signature. */
const maxValueLength = 65 + 21 + 15 + 44

const second = 1_000
const maxAgeLimit = 400 * 24 * 60 * 60 * second

export const table: Setting.Table<CookieSettings> = {
  name: Setting.text({
    default: defaultName,
    allowed: "1 to 200 letters, digits or characters of !#$%&'*+-.^_`|~",
    isAllowed: (text) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}$/.test(text)
  }),
  secure: Setting.boolean({ default: true }),
  sameSite: Setting.choice({ default: "lax", of: ["lax", "strict", "none"] }),
  path: Setting.text({
    default: "/",
    allowed: "a path that begins with a slash, of printable ASCII without semicolon",
    isAllowed: (text) => /^\/[\x21-\x3a\x3c-\x7e]*$/.test(text) && text.length <= 1_024
  }),
  domain: Setting.text({
    default: "",
    allowed: "a domain name such as example.com, or nothing for this host only",
    isAllowed: (text) =>
      text === "" ||
      (text.length <= 253 && /^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$/i.test(text) && !/^[\d.]+$/.test(text))
  }),
  partitioned: Setting.boolean({ default: false }),
  maxAge: Setting.duration({ default: Infinity, min: second, max: Infinity }),
  readYourWrites: Setting.boolean({ default: false }),
  forwardedProto: Setting.choice({ default: "ignore", of: ["ignore", "trust"] }),
  clearSiteData: Setting.boolean({ default: false })
}

const broken = (setting: string, value: string, allowed: string) =>
  new InvalidSessionConfig({ setting, value, allowed })

/** The rule that a combination breaks, if any; browsers would ignore such a cookie without a word. */
const brokenRule = (settings: CookieSettings): InvalidSessionConfig | undefined => {
  const { domain, maxAge, name, partitioned, path, sameSite, secure } = settings
  // Browsers compare the prefixes without regard to case.
  const lower = name.toLowerCase()
  const isHost = lower.startsWith("__host-")
  const prefixed = isHost || lower.startsWith("__secure-") || lower.startsWith("__http-")
  if (prefixed && !secure) {
    return broken("secure", "false", `true for a cookie named ${name}: browsers refuse it otherwise, also on localhost`)
  }
  if (isHost && path !== "/") return broken("path", JSON.stringify(path), `"/" for a cookie named ${name}`)
  if (isHost && domain !== "") {
    return broken("domain", JSON.stringify(domain), `left out for a cookie named ${name}; use __Secure- to share it`)
  }
  if (sameSite === "none" && !secure) return broken("sameSite", `"none"`, `"lax" or "strict" unless secure is true`)
  if (partitioned && !secure) return broken("partitioned", "true", "false unless secure is true")
  if (maxAge !== Infinity && maxAge > maxAgeLimit) {
    return broken("maxAge", `${maxAge} ms`, "at most 400 days, where browsers cut it, or left out")
  }
  if (name.length + maxValueLength > maxCookieLength) {
    return broken("name", JSON.stringify(name), `at most ${maxCookieLength - maxValueLength} characters`)
  }
  return undefined
}

/** Checks every setting by itself and all together. */
export const resolve = (options: {
  readonly [Name in keyof CookieSettings]?: unknown
}): Effect.Effect<CookieSettings, InvalidSessionConfig> =>
  Effect.flatMap(Setting.resolve<CookieSettings>(table, options), (settings) => {
    const error = brokenRule(settings)
    return error === undefined ? Effect.succeed(settings) : Effect.fail(error)
  })
