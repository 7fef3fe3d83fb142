import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import { CacheEntries, Entry } from "../src/internal/CacheEntries.ts"
import { NodeClock } from "../src/internal/NodeClock.ts"
import { prove } from "../src/internal/Proof.ts"
import { generate, GroupId, hashOfToken, SessionId, UserId } from "../src/SessionId.ts"
import type { SessionRow } from "../src/SessionStorage.ts"
import { collect, cutOut, reachable } from "./support/Heap.ts"
import { Whereabouts } from "../src/internal/Whereabouts.ts"

const clock = new NodeClock(Effect.runSync(Clock.Clock))

const entryOf = (owner: Partial<Pick<SessionRow, "key" | "userId" | "groupId" | "version" | "formerUntil">> = {}) => {
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
  const entry = new Entry(row, clock, { sentAt: 0, now: 0 }, undefined)
  entry.serveUntil = 900
  return { id, token: Redacted.value(id), entry }
}

/** What a program makes of a text that it has cut out itself. */
const asId = (text: string): SessionId => Option.getOrThrow(SessionId.fromString(text))

/** Puts an entry in, findable by its id. */
const put = (entries: CacheEntries, owner?: Parameters<typeof entryOf>[0]) => {
  const made = entryOf(owner)
  entries.put(made.entry)
  entries.putHandle(made.entry.accept(made.token, "current"))
  return made
}

describe("CacheEntries", () => {
  it("finds a session by its id and by its key, until it is removed", () => {
    const entries = new CacheEntries(10)
    const { entry, id } = put(entries)
    assert.strictEqual(entries.handle(id)?.entry, entry)
    const found = entries.handle(id)?.id
    assert(found !== undefined)
    assert.strictEqual(Redacted.value(found), Redacted.value(id))
    assert.strictEqual(entries.handle(id)?.id, found)
    assert.strictEqual(entries.entry(entry.key), entry)
    entries.remove(entry)
    entries.remove(entry)
    assert.isUndefined(entries.handle(id))
    assert.isUndefined(entries.entry(entry.key))
    assert.isFalse(entry.cached)
    assert.strictEqual(entries.size, 0)
  })

  it("an entry that was replaced is found by none of its ids", () => {
    const entries = new CacheEntries(10)
    const before = put(entries)
    const former = generate(before.entry.key)
    entries.putHandle(before.entry.accept(Redacted.value(former), "former"))
    const after = put(entries, { key: before.entry.key, version: 2n })
    assert.isUndefined(entries.handle(before.id))
    assert.isUndefined(entries.handle(former))
    assert.strictEqual(entries.handle(after.id)?.entry, after.entry)
    assert.isFalse(before.entry.cached)
    assert.strictEqual(entries.size, 1)
  })

  it("an entry that is not in the cache cannot be made findable", () => {
    const entries = new CacheEntries(10)
    const { entry, id, token } = put(entries)
    entries.remove(entry)
    entries.putHandle(entry.accept(token, "current"))
    assert.isUndefined(entries.handle(id))
  })

  it("a former id is served until its own end, which may be earlier than the session's", () => {
    const { entry, token } = entryOf({ formerUntil: 500 })
    assert.strictEqual(entry.accept(token, "former").serveUntil, 500)
    assert.strictEqual(entry.accept(token, "current").serveUntil, 900)
  })

  it("the answer to a hit is the session itself", () => {
    const { entry, token } = entryOf()
    const handle = entry.accept(token, "current")
    assert.strictEqual(Effect.runSync(handle.exit), handle)
  })

  describe("an id object", () => {
    const there = (owner?: Parameters<typeof entryOf>[0]) => {
      const entries = new CacheEntries(10)
      const made = put(entries, owner)
      assert.strictEqual(entries.handle(made.id), made.entry.current)
      const link = Whereabouts.of(made.id)
      assert(link !== undefined)
      assert.strictEqual(link.handle, made.entry.current)
      return { ...made, entries, link }
    }
    /** An id object of its own. */
    const copyOf = (id: SessionId) => Option.getOrThrow(SessionId.fromString(Redacted.value(id)))

    it("leads nowhere while its session is not in memory", () => {
      const id = generate()
      assert.isUndefined(new CacheEntries(10).handle(id))
      assert.isUndefined(Whereabouts.of(id))
    })

    const endings: Record<string, (cached: ReturnType<typeof there>) => void> = {
      "is removed": ({ entries, entry }) => entries.remove(entry),
      "goes with all others": ({ entries }) => entries.clear(),
      "is replaced": ({ entries, entry }) => void put(entries, { key: entry.key, version: 2n })
    }
    for (const [name, end] of Object.entries(endings)) {
      it(`leads nowhere, and holds nothing, when the session ${name}`, () => {
        const cached = there()
        end(cached)
        assert.isUndefined(cached.link.handle)
        assert.isUndefined(cached.entries.handle(cached.id))
      })
    }

    it("that is a former one leads nowhere then, too", () => {
      const { entries, entry } = there()
      const former = generate(entry.key)
      entries.putHandle(entry.accept(Redacted.value(former), "former"))
      assert.strictEqual(entries.handle(former), entry.former)
      assert.strictEqual(Whereabouts.of(former)?.handle, entry.former)
      entries.remove(entry)
      assert.isUndefined(Whereabouts.of(former)?.handle)
    })

    it("leads to the handle that has taken the place of the one it knew", () => {
      const { entries, entry, id, link, token } = there()
      const second = entry.accept(token, "current")
      assert.isUndefined(link.handle)
      entries.putHandle(second)
      assert.strictEqual(entries.handle(id), second)
      assert.strictEqual(Whereabouts.of(id)?.handle, second)
    })

    it("never leads to a handle that its session has replaced, or that has left", () => {
      const { entries, entry, id, token } = there()
      // Accepted again, and not made findable: the map still has the first one.
      entry.accept(token, "current")
      entries.handle(id)
      entries.remove(entry)
      assert.isUndefined(entries.handle(id))
    })

    it("that another cache knows is looked up in this one, and leads there then", () => {
      const { entries, entry, id, link } = there()
      const others = new CacheEntries(10)
      assert.isUndefined(others.handle(id))
      assert.strictEqual(Whereabouts.of(id), link)
      const other = entryOf().entry
      others.put(other)
      others.putHandle(other.accept(Redacted.value(id), "current"))
      assert.strictEqual(others.handle(id), other.current)
      assert.strictEqual(Whereabouts.of(id)?.handle, other.current)
      assert.strictEqual(entries.handle(id), entry.current)
    })

    it("leads whoever walks over it, or over its session, to nobody's id", () => {
      const { entries, entry, id, token } = there()
      const others = Array.from({ length: 5 }, () => put(entries))
      for (const other of others) entries.handle(other.id)
      const seen = inspect([id, entry, entries], {
        customInspect: false,
        depth: Infinity,
        showHidden: true,
        maxArrayLength: null,
        maxStringLength: null
      })
      assert.include(seen, token.slice(0, 22), "the key")
      for (const each of [token, ...others.map((other) => other.token)]) assert.notInclude(seen, each.slice(22))
    })

    it("is one of many that lead to the same session, and all of them until it goes", () => {
      const { entries, entry, id, link } = there()
      const another = copyOf(id)
      assert.strictEqual(entries.handle(another), entry.current)
      assert.deepStrictEqual([Whereabouts.of(id), Whereabouts.of(another)], [link, link])
      entries.remove(entry)
      assert.isUndefined(entries.handle(another))
    })

    it("that is frozen is looked up each time", () => {
      const { entries, entry, id } = there()
      const frozen = Object.freeze(copyOf(id))
      assert.strictEqual(entries.handle(frozen), entry.current)
      assert.isUndefined(Whereabouts.of(frozen))
    })
  })

  it("the first goes that was not used since the last one had to go", () => {
    const entries = new CacheEntries(3)
    const [a, b, c] = [put(entries), put(entries), put(entries)]
    const keys = (...of: ReadonlyArray<typeof a>) => of.map(({ entry }) => entry.key)
    assert.deepStrictEqual(entries.keys(), keys(a, b, c))
    a.entry.used = true
    c.entry.used = true
    const d = put(entries)
    assert.isUndefined(entries.handle(b.id))
    assert.deepStrictEqual(entries.keys(), keys(a, c, d))
    // The hand goes on from where it was: c was used, d was not.
    const e = put(entries)
    assert.deepStrictEqual(entries.keys(), keys(a, c, e))
    // And a was not used since it came by.
    const f = put(entries)
    assert.deepStrictEqual(entries.keys(), keys(a, c, f))
    const g = put(entries)
    assert.deepStrictEqual(entries.keys(), keys(a, c, g), "what comes after the hand is looked at first")
    assert.strictEqual(entries.evicted, 4)
  })

  it("sessions that are looked at once do not drive out those that are used again", () => {
    const entries = new CacheEntries(100)
    const regulars = Array.from({ length: 50 }, () => put(entries))
    for (const { entry } of regulars) entry.used = true
    for (let visit = 0; visit < 2_000; visit++) {
      put(entries)
      // Each of them is used once in 200 visits: in a list by the order of use it would always be gone before.
      const regular = regulars[Math.floor(visit / 4) % 50]
      if (visit % 4 === 0 && regular !== undefined && entries.handle(regular.id) !== undefined)
        regular.entry.used = true
    }
    assert.lengthOf(
      regulars.filter(({ id }) => entries.handle(id) !== undefined),
      50
    )
    assert.strictEqual(entries.size, 100)
  })

  it("no search for the one that goes takes long, though all are in use", () => {
    const entries = new CacheEntries(10_000)
    const all = Array.from({ length: 10_000 }, () => put(entries).entry)
    for (const entry of all) entry.used = true
    put(entries)
    assert.strictEqual(entries.evicted, 1)
    assert.isAtMost(all.filter((entry) => !entry.used).length, 128)
  })

  it("what takes the place of an entry has its place and its mark", () => {
    const entries = new CacheEntries(2)
    const [a, b] = [put(entries), put(entries)]
    a.entry.used = true
    const renewed = put(entries, { key: a.entry.key, version: 2n })
    assert.deepStrictEqual(entries.keys(), [a.entry.key, b.entry.key])
    put(entries)
    assert.strictEqual(entries.entry(a.entry.key), renewed.entry)
    assert.isUndefined(entries.entry(b.entry.key))
    assert.isFalse(renewed.entry.used, "and has used it up")
    assert.isTrue(a.entry.used)
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

  it("an id that was cut out of a long header keeps nothing else of it in memory", () => {
    const entries = new CacheEntries(1_000)
    const made = Array.from({ length: 1_000 }, () => entryOf())
    for (const { entry } of made) entries.put(entry)
    const before = reachable()
    for (const [n, { entry, token }] of made.entries()) {
      const cut = cutOut(token, n)
      assert.strictEqual(cut, token)
      const proof = prove(entry, cut, 0)
      assert(proof._tag === "Accepted")
      entries.putHandle(proof.handle)
      // Nor does a session keep the ids by which it was found.
      assert.strictEqual(entries.handle(asId(cutOut(token, -n))), proof.handle)
    }
    assert.isBelow(reachable() - before, 2_000_000, "20 MB of headers")
    assert.isTrue(made.every(({ entry, id }) => entries.handle(id)?.entry === entry))
  })

  for (const [what, capacity] of [
    ["that was never full", 10_000],
    ["that was full once", 1_000]
  ] as const) {
    it(`a memory ${what} keeps nothing of the sessions that came and went`, async () => {
      const entries = new CacheEntries(capacity)
      const live: Array<Entry> = []
      const gone: Array<WeakRef<Entry>> = []
      for (let n = 0; n < 1_001; n++) live.push(put(entries).entry)
      for (let n = 0; n < 20_000; n++) {
        const oldest = live.shift()
        assert(oldest !== undefined)
        entries.remove(oldest)
        gone.push(new WeakRef(oldest))
        // One fewer than there is room for: nobody has to go.
        if (live.length < 999) live.push(put(entries).entry)
      }
      const kept = async (of: ReadonlyArray<WeakRef<Entry>>) => {
        // Nothing that was looked at in this turn can be collected in it.
        await new Promise((resolve) => setImmediate(resolve))
        collect()
        return of.filter((entry) => entry.deref() !== undefined).length
      }
      // As many as may go before the hand is given up.
      assert.isAtMost(await kept(gone), 2_100)
      const cleared = live.splice(0).map((entry) => new WeakRef(entry))
      entries.clear()
      assert.isAtMost(await kept([...gone, ...cleared]), 10)
      assert.strictEqual(entries.size, 0)
    })
  }

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
