/** The statements behind `create` and `rotate`: calls of the functions in `Functions.ts`, one round trip each. */
import type {
  Answer,
  CreateOutcome,
  CreateRequest,
  RotateOutcome,
  RotateRequest,
  SessionLimit
} from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Attributes from "./Attributes.ts"
import * as Columns from "./Columns.ts"
import { createName, createTypes, rotateName, rotateTypes } from "./Functions.ts"
import { duration, firstRow, milliseconds, numeric, textArray, unexpected } from "./Text.ts"

const call = (names: Names, name: string, types: string): string => {
  const parameters = types.split(", ").map((type, index) => {
    // Only text goes in; the JSON is parsed by the statement.
    const parsed = type === "jsonb" ? "text::jsonb" : type
    return `$${index + 1}::${parsed}`
  })
  return `select f.outcome, ${milliseconds("f.at")}, f.bytes, array_to_string(f.evicted, ';'),
  ${Columns.sessionColumns((column) => `(f.session).${column}`)}
from ${names.qualified(name)}(${parameters.join(", ")}) f`
}

export const createSql = (names: Names): string => call(names, createName, createTypes)

export const rotateSql = (names: Names): string => call(names, rotateName, rotateTypes)

// At least the new session itself fits.
const limit = ({ max, onLimit }: SessionLimit): readonly [Parameter, Parameter] => [
  numeric(max >= 1 ? Math.trunc(max) : 1),
  String(onLimit === "reject")
]

const optionalDuration = (milliseconds: number | undefined): Parameter =>
  milliseconds === undefined ? null : numeric(duration(milliseconds))

export const createParameters = (request: CreateRequest): ReadonlyArray<Parameter> => {
  const { bytes, set } = Attributes.changes(request.attributes, [])
  return [
    request.key,
    request.secretHash,
    request.userId ?? null,
    request.groupId ?? null,
    numeric(duration(request.lifetime)),
    optionalDuration(request.idleTimeout),
    set,
    numeric(bytes),
    ...limit(request.limit)
  ]
}

export const rotateParameters = (request: RotateRequest): ReadonlyArray<Parameter> => {
  const { bytes, names, set } = Attributes.changes(request.set, [])
  const { login } = request
  return [
    request.key,
    request.proof,
    request.secretHash,
    numeric(duration(request.grace)),
    login?.userId ?? null,
    optionalDuration(login?.lifetime),
    optionalDuration(login?.idleTimeout),
    ...(login === undefined ? [null, null] : limit(login.limit)),
    set,
    textArray(names),
    numeric(bytes),
    numeric(request.maxBytes)
  ]
}

export const decodeCreate = (rows: ReadonlyArray<Row>): Answer & CreateOutcome => {
  const row = firstRow(rows)
  const now = Columns.number(row[1])
  switch (row[0]) {
    case "C": {
      const session = Columns.session(row, 4)
      return { _tag: "Created", now, row: session, evicted: Columns.evicted(row[3], session.userId) }
    }
    case "T":
      return { _tag: "TooManySessions", now }
    default:
      return unexpected("outcome")
  }
}

export const decodeRotate = (rows: ReadonlyArray<Row>): Answer & RotateOutcome => {
  const row = firstRow(rows)
  const now = Columns.number(row[1])
  switch (row[0]) {
    case "R": {
      const session = Columns.session(row, 4)
      return { _tag: "Rotated", now, row: session, evicted: Columns.evicted(row[3], session.userId) }
    }
    case "G":
      return { _tag: "Gone", now }
    case "T":
      return { _tag: "TooManySessions", now }
    case "B":
      return { _tag: "TooLarge", now, bytes: Columns.number(row[2]) }
    default:
      return unexpected("outcome")
  }
}
