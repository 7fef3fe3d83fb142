import { GroupId, isStorableName, SessionKey, UserId } from "@effect-pg-session/core"
import type { LockKey, Notice } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { encode, maxChanges, maxPayloadBytes, parse } from "../src/internal/NotificationPayload.ts"

const keyOf = (seed: number): SessionKey => SessionKey.make(createHash("md5").update(String(seed)).digest("base64url"))

const key = keyOf(1)
const maxVersion = 2n ** 63n - 1n
const kinds = ["Updated", "Rotated", "Deleted", "Expired", "Evicted"] as const

const isLock = (text: string): text is LockKey =>
  text.length > 0 && text.length <= 278 && text.isWellFormed() && !text.includes("\u0000")

const isNode = (text: string): boolean =>
  text.length > 0 && text.length <= 96 && text.isWellFormed() && !/\p{Control}/u.test(text)

const unreadable: Notice = { _tag: "Unreadable" }

const Changes = Schema.Array(
  Schema.Struct({
    seed: Schema.Int,
    kind: Schema.Literals(kinds),
    version: Schema.UndefinedOr(Schema.BigInt)
  })
)

/** Any bigint as a version that a session can have. */
const versionOf = (value: bigint): bigint => ((value < 0n ? -value : value) % maxVersion) + 1n

describe("NotificationPayload", () => {
  it.prop("changes survive the round trip", { changes: Changes }, ({ changes }) => {
    if (changes.length === 0) return
    const notice: Notice = {
      _tag: "Changes",
      changes: changes.slice(0, maxChanges).map(({ kind, seed, version }) => ({
        key: keyOf(seed),
        kind,
        version: version === undefined ? undefined : versionOf(version)
      }))
    }
    assert.deepStrictEqual(parse(encode(notice)), notice)
  })

  it.prop(
    "names of users and groups survive the round trip, whatever they look like",
    { name: Schema.String },
    ({ name }) => {
      const user = parse(`1U${name}`)
      const group = parse(`1G${name}`)
      if (isStorableName(name)) {
        const userId = UserId.make(name)
        const groupId = GroupId.make(name)
        assert.deepStrictEqual(user, { _tag: "User", userId })
        assert.deepStrictEqual(group, { _tag: "Group", groupId })
        assert.strictEqual(encode({ _tag: "User", userId }), `1U${name}`)
        assert.strictEqual(encode({ _tag: "Group", groupId }), `1G${name}`)
      } else {
        assert.deepStrictEqual([user, group], [unreadable, unreadable])
      }
    }
  )

  it.prop(
    "locks survive the round trip, whatever they and the nodes look like",
    { lock: Schema.String, node: Schema.String },
    ({ lock, node }) => {
      const notice = parse(`1L${node}\n${lock}`)
      if (isLock(lock) && isNode(node)) {
        assert.deepStrictEqual(notice, { _tag: "LockFreed", lock, node })
        assert.strictEqual(encode({ _tag: "LockFreed", lock, node }), `1L${node}\n${lock}`)
      } else if (notice._tag !== "Unreadable") {
        assert.include(node, "\n")
      }
    }
  )

  it.prop(
    "parse is total, and what it reads can be written again",
    {
      head: Schema.Literals([
        "",
        "1",
        "2C",
        "1C",
        "1U",
        "1G",
        "1A",
        "1B",
        "1L",
        "1La\n",
        "1CU",
        `1CU${key}`,
        `1CD${key}-`,
        "1c"
      ]),
      text: Schema.String
    },
    ({ head, text }) => {
      const payload = head + text
      const notice = parse(payload)
      if (/^[02-9]/.test(payload)) assert.deepStrictEqual(notice, { _tag: "All" })
      else if (notice._tag !== "Unreadable") assert.strictEqual(encode(notice), payload)
    }
  )

  it("reads what the statements write", () => {
    assert.deepStrictEqual(parse(`1CU${key}12;D${keyOf(2)}-`), {
      _tag: "Changes",
      changes: [
        { key, kind: "Updated", version: 12n },
        { key: keyOf(2), kind: "Deleted", version: undefined }
      ]
    })
    assert.deepStrictEqual(parse("1A"), { _tag: "All" })
    assert.deepStrictEqual(parse("1Babc_-9"), { _tag: "Beat", nonce: "abc_-9" })
    assert.deepStrictEqual<unknown>(parse("1Lnode 1\ng.a\nb"), { _tag: "LockFreed", node: "node 1", lock: "g.a\nb" })
  })

  it("whatever another version of the library announces, nothing in memory outlives it", () => {
    for (const payload of [`2CU${key}1`, "2", "9A", "0", "3 \u{1f4a3}", "4".repeat(maxPayloadBytes)]) {
      assert.deepStrictEqual(parse(payload), { _tag: "All" })
    }
  })

  it("the largest payload that there can be is allowed", () => {
    const changes = Array.from({ length: maxChanges }, (_, seed) => ({
      key: keyOf(seed),
      kind: "Updated" as const,
      version: maxVersion
    }))
    const payload = encode({ _tag: "Changes", changes })
    assert.isAtMost(Buffer.byteLength(payload), maxPayloadBytes)
    assert.deepStrictEqual(parse(payload), { _tag: "Changes", changes })
  })

  const odd: ReadonlyArray<readonly [what: string, payload: string]> = [
    ["nothing", ""],
    ["no changes", "1C"],
    ["no format", `CU${key}1`],
    ["a digit that is not ASCII", "\u0662A"],
    ["another kind", "1Z"],
    ["an unknown change", `1CZ${key}1`],
    ["a key that is too short", `1CU${key.slice(1)}1`],
    ["a key that is not canonical", `1CU${key.slice(0, 21)}B1`],
    ["no version", `1CU${key}`],
    ["version 0", `1CU${key}0`],
    ["a leading zero", `1CU${key}01`],
    ["a negative version", `1CU${key}-1`],
    ["a version beyond bigint", `1CU${key}${2n ** 63n}`],
    ["a version of 5 000 digits", `1CU${key}${"9".repeat(5000)}`],
    ["a trailing separator", `1CU${key}1;`],
    ["one good change and one bad", `1CU${key}1;x`],
    ["a line end", `1CU${key}1\n`],
    [
      "too many changes",
      `1C${Array(maxChanges + 1)
        .fill(`D${key}-`)
        .join(";")}`
    ],
    ["more than a payload holds", `1C${Array(100_000).fill(`D${key}-`).join(";")}`],
    ["all and more", "1Ax"],
    ["no user", "1U"],
    ["a user with NUL", "1Ua\u0000"],
    ["a user of 256 characters", `1U${"a".repeat(256)}`],
    ["no group", "1G"],
    ["no node and no lock", "1L"],
    ["no lock", "1La"],
    ["an empty lock", "1La\n"],
    ["no node", "1L\nb"],
    ["a node of 97 characters", `1L${"a".repeat(97)}\nb`],
    ["a node with a control character", "1La\tb\nc"],
    ["a lock of 279 characters", `1La\n${"b".repeat(279)}`],
    ["a lock with NUL", "1La\nb\u0000"],
    ["no nonce", "1B"],
    ["a nonce with a space", "1Ba b"],
    ["a nonce of 129 characters", `1B${"a".repeat(129)}`]
  ]

  for (const [what, payload] of odd) {
    it(`is unreadable: ${what}`, () => assert.deepStrictEqual(parse(payload), unreadable))
  }
})
