/**
 * Finds one cookie in a `Cookie` header. Browsers send the cookies of several
 * paths and domains under one name without saying which is which, so a name that
 * occurs twice is told apart from one that occurs once. Only spaces and tabs are
 * trimmed: browsers apply the rules of `__Host-` to names as they are, and a
 * server that trims more lets a cookie in that was never checked against them.
 */

/** Longer headers are not looked into. Servers refuse them long before: Node at 16 384 bytes. */
const maxHeaderLength = 65_536

/** The cookie's value as it was sent, or what there is instead. */
export type Lookup =
  | { readonly _tag: "Found"; readonly value: string }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Duplicated" }
  | { readonly _tag: "Oversized" }

const absent: Lookup = { _tag: "Absent" }
const duplicated: Lookup = { _tag: "Duplicated" }
const oversized: Lookup = { _tag: "Oversized" }

const isBlank = (code: number): boolean => code === 0x20 || code === 0x09

/** Looks for a cookie; linear in the length of the header, and never throws. */
export const find = (header: string | undefined, name: string): Lookup => {
  // The common case of a request without any cookie, or without this one, costs a search.
  if (header === undefined || !header.includes(name)) return absent
  if (header.length > maxHeaderLength) return oversized
  let value: string | undefined = undefined
  let start = 0
  let equals = header.indexOf("=")
  // Without any further sign nothing is left to find. Looking for it once and not for every pair keeps this linear.
  while (start < header.length && equals >= 0) {
    const semicolon = header.indexOf(";", start)
    const end = semicolon < 0 ? header.length : semicolon
    if (equals < start) equals = header.indexOf("=", start)
    if (equals >= 0 && equals < end && trimmed(header, start, equals) === name) {
      if (value !== undefined) return duplicated
      value = trimmed(header, equals + 1, end)
    }
    start = end + 1
  }
  return value === undefined ? absent : { _tag: "Found", value }
}

const trimmed = (text: string, start: number, end: number): string => {
  let from = start
  let to = end
  while (from < to && isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}
