/** A million mutated texts for each parser that reads what strangers send. */
import { isStorableName, type Session, SessionStore, UserId } from "@effect-pg-session/core"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { SessionCookie } from "../../packages/http/src/index.ts"
import * as CookieHeader from "../../packages/http/src/internal/CookieHeader.ts"
import { encode, maxChanges, parse } from "../../packages/pg/src/internal/NotificationPayload.ts"
import * as Fuzzer from "../fuzz/Fuzzer.ts"
import * as Random from "../Random.ts"

const count = 1_000_000
const key = "AAAAAAAAAAAAAAAAAAAAAA"

describe("a million texts", () => {
  it(
    "as notifications: none makes the parser throw, and what it reads can be written again",
    { timeout: 120_000 },
    () => {
      const seen = Fuzzer.run(
        {
          seeds: [
            `1CU${key}1`,
            `1CU${key}12;D${key}-;R${key}9223372036854775807`,
            "1Ualice",
            "1Gteam",
            "1A",
            "1Bnonce",
            "1Lnode\nlock"
          ],
          pieces: [
            "1C",
            "1U",
            "1G",
            "1A",
            "1B",
            "1L",
            "2",
            ";",
            "U",
            "-",
            key,
            "9223372036854775808",
            "0",
            `;X${key}7`
          ],
          run: (text) => {
            const notice = parse(text)
            switch (notice._tag) {
              case "Unreadable":
                return notice._tag
              case "All":
                if (!/^(1A$|[02-9])/.test(text)) assert.fail(text)
                return notice._tag
              case "Changes":
                if (notice.changes.length > maxChanges) assert.fail(text)
                if (encode(notice) !== text) assert.fail(text)
                return `${notice._tag} ${new Set(notice.changes.map(({ kind }) => kind)).size} ${Math.min(notice.changes.length, 4)}`
              case "User":
                if (!isStorableName(notice.userId)) assert.fail(text)
                break
              case "Group":
                if (!isStorableName(notice.groupId)) assert.fail(text)
                break
              case "Beat":
              case "LockFreed":
            }
            if (encode(notice) !== text) assert.fail(text)
            return notice._tag
          }
        },
        count,
        Random.make(1, "notifications")
      )
      for (const kind of ["Unreadable", "All", "User", "Group", "Beat", "LockFreed", "Changes 1 1", "Changes 2 2"]) {
        assert.isAbove(seen.get(kind) ?? 0, 100, kind)
      }
    }
  )

  it.effect(
    "as cookie headers: none makes the parser throw, each is read as the standard says, and nothing unsigned is believed",
    Effect.fnUntraced(
      function* () {
        const sessions = yield* SessionStore
        const { decode, encode, settings } = yield* SessionCookie
        const created: ReadonlyArray<Session> = yield* Effect.replicateEffect(sessions.create(UserId.make("alice")), 3)
        const values = created.map((session) => Redacted.value(encode(session, 0)))
        const valid = new Set(values)
        const { name } = settings
        const seen = Fuzzer.run(
          {
            seeds: [...values.map((value) => `${name}=${value}`), `a=b; ${name}=${values[0]}; c=d`, "a=b", ""],
            pieces: [
              name,
              "=",
              ";",
              "; ",
              `${name}=`,
              ".",
              ".v1",
              ".t0",
              ...values,
              ...values.map((v) => v.slice(0, 65))
            ],
            run: (header) => {
              const found = CookieHeader.find(header, name)
              if (described(found) !== described(reference(header, name))) assert.fail(header)
              const decoded = decode(header, 0)
              if (Result.isFailure(decoded)) return decoded.failure.reason
              if (decoded.success === undefined) return "Absent"
              if (found._tag !== "Found" || !valid.has(found.value)) assert.fail(header)
              return "Valid"
            }
          },
          count,
          Random.make(1, "cookies")
        )
        for (const kind of ["Absent", "Valid", "Malformed", "Forged", "Duplicated", "Oversized"]) {
          assert.isAbove(seen.get(kind) ?? 0, 10, `${kind} of ${[...seen].join("; ")}`)
        }
      },
      Effect.provide([
        SessionStore.layerMemory(),
        SessionCookie.layer({ keys: [Redacted.make("a key of the tests, which is long enough")] })
      ])
    ),
    120_000
  )
})

const described = (lookup: CookieHeader.Lookup): string =>
  lookup._tag === "Found" ? `Found ${lookup.value}` : lookup._tag

/** The same, written so that one sees that it is right, and not how fast. */
const reference = (header: string, name: string): CookieHeader.Lookup => {
  if (!header.includes(name)) return { _tag: "Absent" }
  if (header.length > 65_536) return { _tag: "Oversized" }
  const trim = (text: string) => text.replace(/^[ \t]+/, "").replace(/[ \t]+$/, "")
  const values = header.split(";").flatMap((pair) => {
    const equals = pair.indexOf("=")
    return equals >= 0 && trim(pair.slice(0, equals)) === name ? [trim(pair.slice(equals + 1))] : []
  })
  const [value, second] = values
  if (second !== undefined) return { _tag: "Duplicated" }
  return value === undefined ? { _tag: "Absent" } : { _tag: "Found", value }
}
