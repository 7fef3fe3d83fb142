/**
 * Freezes a decoded value in depth, because one decoded value is handed to every
 * reader of a session. Maps, Sets and Dates keep their state in internal slots
 * that `Object.freeze` does not reach, so their mutators are shadowed by ones that
 * throw.
 *
 * Instances of other classes are left alone and make the result "not shareable":
 * some have state that no freeze reaches (typed arrays, private fields), and
 * some, Effect's `DateTime` and `BigDecimal` among them, remember what they have
 * computed and break when they are frozen. The caller decodes those afresh for
 * every read, so that each reader has its own.
 */

const immutable = (): never => {
  throw new TypeError("A value read from a session is immutable: write a new one with Session.set or Session.modify")
}

const dateMutators = Object.getOwnPropertyNames(Date.prototype).filter((name) => name.startsWith("set"))
const mapMutators = ["set", "delete", "clear"]
const setMutators = ["add", "delete", "clear"]

const shadow = (value: object, mutators: ReadonlyArray<string>): void => {
  for (const name of mutators) Object.defineProperty(value, name, { value: immutable })
}

const freezablePrototypes: ReadonlySet<unknown> = new Set([
  null,
  Object.prototype,
  Array.prototype,
  Map.prototype,
  Set.prototype,
  Date.prototype
])

/** Freezes `value` in place; `false` means that some part of it could not be frozen. */
export const deepFreeze = (value: unknown): boolean => freeze(value, new Set())

const freeze = (value: unknown, seen: Set<object>): boolean => {
  if (typeof value === "function") return false
  if (typeof value !== "object" || value === null || seen.has(value)) return true
  if (!freezablePrototypes.has(Object.getPrototypeOf(value))) return false
  seen.add(value)
  let shareable = true
  const visit = (member: unknown): void => {
    shareable = freeze(member, seen) && shareable
  }
  if (Object.isExtensible(value)) shadowMutators(value)
  if (value instanceof Map) {
    for (const [key, member] of value) {
      visit(key)
      visit(member)
    }
  } else if (value instanceof Set) {
    for (const member of value) visit(member)
  }
  Object.freeze(value)
  for (const member of Object.values(value)) visit(member)
  return shareable
}

const shadowMutators = (value: object): void => {
  if (value instanceof Map) shadow(value, mapMutators)
  else if (value instanceof Set) shadow(value, setMutators)
  else if (value instanceof Date) shadow(value, dateMutators)
}
