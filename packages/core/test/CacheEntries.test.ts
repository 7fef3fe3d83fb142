import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { CacheEntries, Entry } from "../src/internal/CacheEntries.ts"
import { NodeClock } from "../src/internal/NodeClock.ts"
import { SessionView } from "../src/internal/SessionView.ts"
import { Activity } from "../src/internal/TouchBuffer.ts"
import { generate, GroupId, hashOfToken, SessionId, UserId } from "../src/SessionId.ts"
import type { SessionRow } from "../src/SessionStorage.ts"

const clock = new NodeClock(Effect.runSync(Clock.Clock))

const entryOf = (owner: Partial<Pick<SessionRow, "key" | "userId" | "groupId" | "version">> = {}) => {
  const id = generate(owner.key)
  const row: SessionRow = {
    key: SessionId.key(id),
    secretHash: hashOfToken(Redacted.value(id)),
    formerHash: undefined,
    formerUntil: undefined,
    userId: undefined,
    groupId: undefined,
    version: 1n,
    createdAt: 0,
    authenticatedAt: undefined,
    lastAccessedAt: 0,
    expiresAt: 1_000,
    idleTimeout: undefined,
    attributes: new Map(),
    ...owner
  }
  const view = new SessionView(row, clock, { sentAt: 0, now: 0 }, undefined)
  return { id, token: Redacted.value(id), entry: new Entry(view, new Activity(row.key), 1_000, 900) }
}

/** Puts an entry in, findable by its id. */
const put = (entries: CacheEntries, owner?: Parameters<typeof entryOf>[0]) => {
  const made = entryOf(owner)
  entries.put(made.entry)
  entries.putHandle(made.entry.accept(made.token, made.id, Infinity))
  return made
}

describe("CacheEntries", () => {
  it("finds a session by its id and by its key, until it is removed", () => {
    const entries = new CacheEntries(10)
    const { entry, id, token } = put(entries)
    assert.strictEqual(entries.handle(token)?.entry, entry)
    assert.strictEqual(entries.handle(token)?.session.id, id)
    assert.strictEqual(entries.entry(entry.key), entry)
    entries.remove(entry)
    entries.remove(entry)
    assert.isUndefined(entries.handle(token))
    assert.isUndefined(entries.entry(entry.key))
    assert.isFalse(entry.cached)
    assert.strictEqual(entries.size, 0)
  })

  it("an entry that was replaced is found by none of its ids", () => {
    const entries = new CacheEntries(10)
    const before = put(entries)
    const former = generate(before.entry.key)
    entries.putHandle(before.entry.accept(Redacted.value(former), former, 500))
    const after = put(entries, { key: before.entry.key, version: 2n })
    assert.isUndefined(entries.handle(before.token))
    assert.isUndefined(entries.handle(Redacted.value(former)))
    assert.strictEqual(entries.handle(after.token)?.entry, after.entry)
    assert.isFalse(before.entry.cached)
    assert.strictEqual(entries.size, 1)
  })

  it("an entry that is not in the cache cannot be made findable", () => {
    const entries = new CacheEntries(10)
    const { entry, id, token } = put(entries)
    entries.remove(entry)
    entries.putHandle(entry.accept(token, id, Infinity))
    assert.isUndefined(entries.handle(token))
  })

  it("a former id is served until its own end, which may be earlier than the session's", () => {
    const { entry, id, token } = entryOf()
    assert.strictEqual(entry.accept(token, id, 500).serveUntil, 500)
    assert.strictEqual(entry.accept(token, id, Infinity).serveUntil, 900)
  })

  it("the answers to a hit are made once", () => {
    const { entry, id, token } = entryOf()
    const handle = entry.accept(token, id, Infinity)
    assert.strictEqual(handle.found, handle.found)
    assert.deepStrictEqual(Effect.runSync(handle.found), Option.some(handle.session))
    assert.strictEqual(Effect.runSync(handle.exit), handle.session)
  })

  it("the least recently used one goes first", () => {
    const entries = new CacheEntries(3)
    const [a, b, c] = [put(entries), put(entries), put(entries)]
    assert.deepStrictEqual(
      entries.keys(),
      [a, b, c].map(({ entry }) => entry.key)
    )
    entries.promote(a.entry)
    entries.promote(c.entry)
    entries.promote(c.entry)
    assert.deepStrictEqual(
      entries.keys(),
      [b, a, c].map(({ entry }) => entry.key)
    )
    const d = put(entries)
    assert.strictEqual(entries.evicted, 1)
    assert.isUndefined(entries.handle(b.token))
    assert.deepStrictEqual(
      entries.keys(),
      [a, c, d].map(({ entry }) => entry.key)
    )
    entries.promote(b.entry)
    assert.strictEqual(entries.size, 3, "what is gone cannot be promoted")
  })

  it("holds one where there is room for one", () => {
    const entries = new CacheEntries(1)
    const [a, b] = [put(entries), put(entries)]
    assert.isUndefined(entries.entry(a.entry.key))
    assert.deepStrictEqual(entries.keys(), [b.entry.key])
    entries.remove(b.entry)
    assert.deepStrictEqual(entries.keys(), [])
    assert.deepStrictEqual((put(entries), entries.size), 1)
  })

  it("finds all sessions of a user and of a group, and nobody else's", () => {
    const entries = new CacheEntries(10)
    const userId = UserId.make("alice")
    const groupId = GroupId.make("alice")
    const [a, b, c] = [put(entries, { userId }), put(entries, { userId, groupId }), put(entries, { groupId })]
    assert.deepStrictEqual(entries.ofUser("alice"), [a.entry, b.entry])
    assert.deepStrictEqual(entries.ofGroup("alice"), [b.entry, c.entry])
    for (const entry of entries.ofUser("alice")) entries.remove(entry)
    assert.deepStrictEqual(entries.ofUser("alice"), [])
    assert.deepStrictEqual(entries.ofGroup("alice"), [c.entry])
    // The session changes hands.
    put(entries, { key: c.entry.key, userId })
    assert.deepStrictEqual(entries.ofGroup("alice"), [])
    assert.lengthOf(entries.ofUser("alice"), 1)
    assert.deepStrictEqual(entries.ofUser("bob"), [])
  })

  it("keeps no index of sessions that are gone", () => {
    const entries = new CacheEntries(5)
    for (let n = 0; n < 100; n++) put(entries, { userId: UserId.make(`u${n}`), groupId: GroupId.make(`g${n}`) })
    const found = Array.from({ length: 100 }, (_, n) => [
      ...entries.ofUser(`u${n}`),
      ...entries.ofGroup(`g${n}`)
    ]).flat()
    assert.lengthOf(found, 10)
    entries.clear()
    assert.strictEqual(entries.size, 0)
    assert.deepStrictEqual(entries.keys(), [])
    assert.isTrue(found.every((entry) => !entry.cached))
    put(entries)
    assert.lengthOf(entries.keys(), 1)
  })
})
