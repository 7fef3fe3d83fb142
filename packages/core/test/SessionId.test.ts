import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { inspect } from "node:util"
import {
  GroupId,
  generate,
  hashOfToken,
  isStorableName,
  keyOfToken,
  keyPrefix,
  SessionId,
  SessionKey,
  UserId
} from "../src/SessionId.ts"

const show = (value: unknown): string => String(value)

const textOf = (id: SessionId): string => Redacted.value(id)

describe("SessionId", () => {
  it("is 65 characters: a key of 128 random bits and a secret of 256", () => {
    const text = textOf(generate())
    assert.strictEqual(text.length, 65)
    assert.strictEqual(Buffer.from(text.slice(0, 22), "base64url").length, 16)
    assert.strictEqual(Buffer.from(text.slice(22), "base64url").length, 32)
    const all = Array.from({ length: 1_000 }, () => textOf(generate()))
    assert.strictEqual(new Set(all.map((each) => each.slice(0, 22))).size, 1_000)
    assert.strictEqual(new Set(all.map((each) => each.slice(22))).size, 1_000)
  })

  it("goes through its own parser, and keeps its key where it is renewed", () => {
    const id = generate()
    const parsed = Option.getOrThrow(SessionId.fromString(textOf(id)))
    assert.strictEqual(textOf(parsed), textOf(id))
    const renewed = generate(SessionId.key(id))
    assert.strictEqual(SessionId.key(renewed), SessionId.key(id))
    assert.notStrictEqual(textOf(renewed), textOf(id))
    assert.isTrue(Schema.is(SessionKey)(SessionId.key(id)))
  })

  it("has one spelling only", () => {
    const text = textOf(generate())
    const refused = [
      "",
      " ",
      text.slice(0, -1),
      `${text}A`,
      `${text}\n`,
      ` ${text}`,
      `${text}\u0000`,
      `${text.slice(0, 64)}\u0000`,
      `${text.slice(0, 64)}=`,
      `${text.slice(0, 64)}+`,
      `${text.slice(0, 64)}/`,
      `${text.slice(0, 64)}é`,
      // The same bytes, other unused bits: base64url decoders take them for the same id.
      `${text.slice(0, 21)}R${text.slice(22)}`,
      `${text.slice(0, 64)}B`,
      "A".repeat(66),
      "A".repeat(1_000_000),
      `${"A".repeat(64)}\u{1F600}`
    ]
    for (const each of refused)
      assert.isTrue(Option.isNone(SessionId.fromString(each)), JSON.stringify(each.slice(0, 70)))
  })

  it("is redacted however it is printed, and is not encoded to JSON", () => {
    const id = generate()
    const secret = textOf(id).slice(22)
    const key = textOf(id).slice(0, 22)
    const printed = [
      show(id),
      inspect(id, { depth: 10, showHidden: true }),
      inspect({ nested: [id] }, { depth: 10, showHidden: true, customInspect: false }),
      JSON.stringify({ id }),
      String(Schema.encodeUnknownExit(Schema.toCodecJson(SessionId))(id)),
      Cause.pretty(Cause.fail(id)),
      JSON.stringify(Exit.fail(id))
    ].join("\n")
    assert.include(printed, "<redacted:SessionId>")
    assert.notInclude(printed, secret)
    assert.notInclude(printed, key)
    assert.isTrue(Exit.isFailure(Schema.encodeUnknownExit(Schema.toCodecJson(SessionId))(id)))
    assert.isTrue(
      Exit.isFailure(Schema.encodeUnknownExit(Schema.toCodecJson(Schema.Struct({ id: SessionId })))({ id }))
    )
  })

  it("says nothing of what it refused", () => {
    const refused = Schema.decodeUnknownExit(SessionId)(Redacted.make("hunter2-hunter2", { label: "SessionId" }))
    assert.isTrue(Exit.isFailure(refused))
    assert.notInclude(`${String(refused)} ${inspect(refused, { depth: 20 })}`, "hunter2")
  })

  it("is stored as the SHA-256 of its secret alone", () => {
    const text = textOf(generate())
    const expected = createHash("sha256").update(text.slice(22)).digest("base64url")
    assert.strictEqual(hashOfToken(text), expected)
    assert.strictEqual(keyOfToken(text), text.slice(0, 22))
    // A hash from the database has the length of a secret, so it must not be taken for one.
    const presented = SessionId.fromString(`${text.slice(0, 22)}${expected}`)
    if (Option.isSome(presented)) assert.notStrictEqual(hashOfToken(textOf(presented.value)), expected)
  })

  it("prints a third of its key", () => {
    const key = SessionId.key(generate())
    assert.strictEqual(keyPrefix(key), `${key.slice(0, 8)}…`)
  })

  it("types: a text, a key and an id are three things", () => {
    expectTypeOf<string>().not.toExtend<SessionId>()
    expectTypeOf<string>().not.toExtend<SessionKey>()
    expectTypeOf<SessionKey>().not.toExtend<UserId>()
    expectTypeOf<UserId>().not.toExtend<GroupId>()
    expectTypeOf<SessionKey>().not.toExtend<SessionId>()
    expectTypeOf(SessionId.fromString).returns.toEqualTypeOf<Option.Option<SessionId>>()
  })
})

describe("SessionKey", () => {
  it("is 22 characters of base64url in one spelling", () => {
    assert.strictEqual(SessionKey.make("AAAAAAAAAAAAAAAAAAAAAA"), "AAAAAAAAAAAAAAAAAAAAAA")
    for (const text of [
      "",
      "A",
      "A".repeat(21),
      "A".repeat(23),
      `${"A".repeat(21)}B`,
      `${"A".repeat(21)}=`,
      `${"A".repeat(21)}\n`
    ]) {
      assert.throws(() => SessionKey.make(text), undefined, undefined, JSON.stringify(text))
    }
  })
})

describe.each([
  ["UserId", UserId],
  ["GroupId", GroupId]
] as const)("%s", (_, schema) => {
  it("is 1 to 255 characters that PostgreSQL's text can hold", () => {
    for (const text of [
      "a",
      "é",
      "\u{1F600}",
      "a b",
      "'; drop table sessions; --",
      "__proto__",
      "x".repeat(255),
      "\u{1F600}".repeat(127)
    ]) {
      assert.strictEqual(schema.make(text), text)
    }
    for (const text of [
      "",
      "x".repeat(256),
      "\u{1F600}".repeat(128),
      "a\u0000",
      "\ud800",
      "a\udc00b",
      "\udc00\ud800"
    ]) {
      assert.throws(() => schema.make(text), undefined, undefined, JSON.stringify(text.slice(0, 10)))
      assert.isFalse(isStorableName(text))
    }
  })
})
