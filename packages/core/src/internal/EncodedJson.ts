/**
 * JSON text that comes back as exactly what went in. `JSON.stringify` drops
 * `undefined`, calls `toJSON`, turns `NaN` into `null` and `-0` into `0`, and
 * throws on cycles; here all of these are refused by name (`-0` is kept), so
 * that a value is stored faithfully or not at all.
 */
import * as Result from "effect/Result"

/** Deeper values are refused: they are cycles, or would overflow the stack of whoever reads them. */
const maxDepth = 200

/** Encodes a JSON value. The failure says where and why, without the value. */
export const stringify = (value: unknown): Result.Result<string, string> => {
  const problem: { at?: string } = {}
  const text = write(value, "", 0, problem)
  return text === undefined ? Result.fail(problem.at ?? "not JSON") : Result.succeed(text)
}

const refuse = (problem: { at?: string }, path: string, why: string): undefined => {
  problem.at = path === "" ? why : `at ${path}: ${why}`
  return undefined
}

const write = (value: unknown, path: string, depth: number, problem: { at?: string }): string | undefined => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value)
    case "boolean":
      return value ? "true" : "false"
    case "number":
      if (!Number.isFinite(value)) return refuse(problem, path, "a number that is not finite is not JSON")
      return Object.is(value, -0) ? "-0" : String(value)
    case "object":
      if (value === null) return "null"
      if (depth >= maxDepth) return refuse(problem, "", `nested deeper than ${maxDepth} levels, or cyclic`)
      return Array.isArray(value) ? writeArray(value, path, depth, problem) : writeObject(value, path, depth, problem)
    default:
      return refuse(problem, path, `a value of type ${typeof value} is not JSON`)
  }
}

const writeArray = (
  value: ReadonlyArray<unknown>,
  path: string,
  depth: number,
  problem: { at?: string }
): string | undefined => {
  let text = "["
  for (let index = 0; index < value.length; index++) {
    const element = write(value[index], `${path}[${index}]`, depth + 1, problem)
    if (element === undefined) return undefined
    text += index === 0 ? element : `,${element}`
  }
  return `${text}]`
}

const writeObject = (value: object, path: string, depth: number, problem: { at?: string }): string | undefined => {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) {
    return refuse(problem, path, "an instance of a class is not JSON")
  }
  let text = "{"
  for (const [name, member] of Object.entries(value)) {
    const element = write(member, `${path}.${name}`, depth + 1, problem)
    if (element === undefined) return undefined
    text += `${text.length === 1 ? "" : ","}${JSON.stringify(name)}:${element}`
  }
  return `${text}}`
}
