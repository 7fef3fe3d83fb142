/**
 * Says in words where and why a value does not fit a schema, without the value:
 * schema issues print what they refuse, and a session's values belong into no
 * log.
 */
import type * as SchemaIssue from "effect/SchemaIssue"

/** The first problem of an issue, such as `at items[0].price: expected Number`. */
export const describe = (issue: SchemaIssue.Issue): string => walk(issue, "")

const walk = (issue: SchemaIssue.Issue, path: string): string => {
  switch (issue._tag) {
    case "Filter":
    case "Encoding":
      return walk(issue.issue, path)
    case "Pointer":
      return walk(issue.issue, path + issue.path.map(segment).join(""))
    case "Composite":
      return walk(issue.issues[0], path)
    case "AnyOf":
      return issue.issues[0] === undefined ? at(path, "fits no member of the union") : walk(issue.issues[0], path)
    case "OneOf":
      return at(path, "fits more than one member of the union")
    case "MissingKey":
      return at(path, "is missing")
    case "UnexpectedKey":
      return at(path, "is not expected")
    case "InvalidType":
      return at(path, `expected ${issue.ast._tag}`)
    case "InvalidValue":
      return at(path, "is not a valid value")
    case "Forbidden":
      return at(path, "the schema needs an asynchronous step or refuses to encode")
  }
}

const segment = (key: PropertyKey): string => (typeof key === "number" ? `[${key}]` : `.${String(key)}`)

const at = (path: string, why: string): string => (path === "" ? why : `at ${path.replace(/^\./, "")}: ${why}`)
