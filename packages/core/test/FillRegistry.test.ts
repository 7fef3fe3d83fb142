import { assert, describe, it } from "@effect/vitest"
import { FillRegistry, groupOwner, userOwner } from "../src/internal/FillRegistry.ts"
import { generate, SessionId } from "../src/SessionId.ts"

const key = SessionId.key(generate())
const other = SessionId.key(generate())

describe("FillRegistry", () => {
  it("admits what nothing was announced about", () => {
    const fills = new FillRegistry()
    const fill = fills.begin(key)
    assert.isFalse(fill.marked)
    assert.isTrue(fills.admits(fill, 1n))
    assert.isTrue(fills.admitsAbsence(fill))
  })

  it("admits the announced version and later ones, and no earlier one", () => {
    const fills = new FillRegistry()
    const fill = fills.begin(key)
    fills.announce(key, 5n)
    assert.isTrue(fill.marked)
    assert.deepStrictEqual(
      [4n, 5n, 6n].map((version) => fills.admits(fill, version)),
      [false, true, true]
    )
    assert.isFalse(fills.admitsAbsence(fill), "it existed at some version")
  })

  it("keeps the highest announced version, in whatever order they come", () => {
    const fills = new FillRegistry()
    const fill = fills.begin(key)
    for (const version of [5n, 3n, 7n, 6n]) fills.announce(key, version)
    assert.isFalse(fills.admits(fill, 6n))
    assert.isTrue(fills.admits(fill, 7n))
  })

  it("admits nothing of a session whose end was announced, whatever is announced after", () => {
    const fills = new FillRegistry()
    const fill = fills.begin(key)
    fills.announce(key, undefined)
    fills.announce(key, 9n)
    assert.isTrue(fill.marked)
    assert.isFalse(fills.admits(fill, 10n))
    assert.isFalse(fills.admitsAbsence(fill))
  })

  it("marks every operation of the key, those of no other key, and none that begins later", () => {
    const fills = new FillRegistry()
    const [first, second, foreign] = [fills.begin(key), fills.begin(key), fills.begin(other)]
    fills.announce(key, 2n)
    const later = fills.begin(key)
    assert.deepStrictEqual(
      [first, second, foreign, later].map((fill) => fills.admits(fill, 1n)),
      [false, false, true, true]
    )
  })

  it("admits nothing across a bulk announcement, and everything that begins after it", () => {
    const fills = new FillRegistry()
    const before = fills.begin(key)
    fills.announceAll()
    const after = fills.begin(key)
    assert.isFalse(fills.isCurrent(before))
    assert.isFalse(fills.admits(before, 99n))
    assert.isFalse(fills.admitsAbsence(before))
    assert.isTrue(fills.admits(after, 1n))
  })

  it("admits, across an announcement about a user or a group, only what is somebody else's", () => {
    const fills = new FillRegistry()
    const fill = fills.begin(key)
    fills.announceOwner(userOwner("alice"))
    fills.announceOwner(groupOwner("g"))
    const admits = (userId: string | undefined, groupId: string | undefined) =>
      fills.admits(fill, 1n, { userId, groupId })
    assert.isTrue(fill.marked, "nobody joins it: whose it is, is not known yet")
    assert.isFalse(fills.admitsAbsence(fill))
    assert.deepStrictEqual(
      [
        admits("alice", undefined),
        admits("bob", "g"),
        admits("bob", "h"),
        admits(undefined, undefined),
        admits("g", "alice")
      ],
      [false, false, true, true, true]
    )
    assert.isTrue(fills.admits(fills.begin(key), 1n, { userId: "alice", groupId: "g" }))
  })

  it("knows whether what was found may have ended since", () => {
    const fills = new FillRegistry()
    const row = { version: 2n, userId: "alice", groupId: undefined }
    const after = (announce: () => void): boolean => {
      const fill = fills.begin(key)
      announce()
      const answer = fills.mayHaveEnded(fill, row)
      fills.end(fill)
      return answer
    }
    assert.isFalse(after(() => {}))
    assert.isFalse(
      after(() => fills.announce(key, 3n)),
      "it goes on, at another version"
    )
    assert.isFalse(after(() => fills.announceOwner(userOwner("bob"))))
    assert.isTrue(after(() => fills.announce(key, undefined)))
    assert.isTrue(after(() => fills.announceOwner(userOwner("alice"))))
    assert.isTrue(after(() => fills.announceEnd()))
    assert.isTrue(
      after(() => {
        fills.announce(key, 3n)
        fills.announceOwner(userOwner("bob"))
      }),
      "it may be bob's by now"
    )
  })

  it("remembers nothing of what is settled, however often and in whatever order it is settled", () => {
    const fills = new FillRegistry()
    const all = [fills.begin(key), fills.begin(key), fills.begin(other)]
    assert.strictEqual(fills.size, 3)
    for (const fill of [...all, ...all]) fills.end(fill)
    assert.strictEqual(fills.size, 0)
    fills.announce(key, 5n)
    assert.isTrue(fills.admits(fills.begin(key), 1n), "there are no tombstones")
  })

  it("the end of one operation does not unmark another one", () => {
    const fills = new FillRegistry()
    const [first, second] = [fills.begin(key), fills.begin(key)]
    fills.end(first)
    fills.announce(key, 2n)
    assert.isFalse(fills.admits(second, 1n))
  })
})
