/**
 * Random operations on three nodes over one database, whose statements stop and
 * whose notices are held, lost and released at random, against the history of
 * what really stood in the database: after every answer G1 to G4 must hold.
 *
 * A failure prints its seed and its steps; `COHERENCE_SEED=<seed>` runs that one
 * alone, `COHERENCE_RUNS=<count>` runs more of them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import type * as Result from "effect/Result"
import type { Operation, Pause } from "../src/internal/memory/MemoryFaults.ts"
import { accepts } from "../src/internal/memory/MemoryRows.ts"
import { Session } from "../src/Session.ts"
import type { SessionStoreUnavailable } from "../src/SessionError.ts"
import { GroupId, hashOfToken, type SecretHash, SessionId, type SessionKey } from "../src/SessionId.ts"
import type { FindOptions } from "../src/SessionStore.ts"
import * as History from "./support/CoherenceHistory.ts"
import {
  alice,
  bob,
  Color,
  Count,
  makeCluster,
  maxStaleness,
  type Node,
  Note,
  pass,
  settle
} from "./support/Coherence.ts"

const runs = Number(process.env["COHERENCE_RUNS"] ?? 100)
const onlySeed = process.env["COHERENCE_SEED"]
const steps = 80

/** Mulberry32: small, and the same everywhere. */
const makeRandom = (seed: number) => {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    below,
    chance: (probability: number) => next() < probability,
    pick: <A>(items: ReadonlyArray<A>): A => items[below(items.length)] as A
  }
}

/** An id that was issued at some time. */
interface Known {
  readonly name: string
  readonly id: SessionId
  readonly key: SessionKey
  readonly hash: SecretHash
}

const groups = [GroupId.make("g"), GroupId.make("h")]
const texts = [Note, Color]
const pausable: ReadonlyArray<Operation> = [
  "load",
  "load",
  "load",
  "write",
  "write",
  "rotate",
  "create",
  "delete",
  "touch",
  "revalidate",
  "deleteAttribute",
  "beat",
  "connect"
]

const violated = (what: string): never => {
  throw new History.Violation(what)
}

const runSeed = (seed: number) =>
  Effect.gen(function* () {
    const random = makeRandom(seed)
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const model = History.make()
    const { controls, node } = yield* makeCluster({ maxSessionsPerUser: 4 }, undefined, model.observe)
    const nodes = yield* Effect.forEach(["a", "b", "c"], (name) => node(name))

    const trace: Array<string> = []
    const violations: Array<string> = []
    const known: Array<Known> = []
    const read = new Map<string, Array<Session>>()
    const pauses: Array<Pause> = []
    /** What a node has acknowledged, or answered: it must never serve less to whoever asks after that. */
    const acknowledged = new Map<string, bigint | "ended">()
    /** Values of updates that were refused: they must never have been written. */
    const refused: Array<{ readonly key: SessionKey; readonly name: string; readonly value: string }> = []
    const running = new Map<Fiber.Fiber<unknown>, string>()
    const deletions = new Map<string, { started: number; running: number }>()
    let unique = 0

    const learn = (session: Session): void => {
      if (known.some(({ id }) => Redacted.value(id) === Redacted.value(session.id))) return
      const key = SessionId.key(session.id)
      const name = `#${[...new Set(known.map((other) => other.key))].indexOf(key)}`
      const first = name === "#-1" ? `#${new Set(known.map((other) => other.key)).size}` : name
      known.push({
        name: `${first}.${known.filter((other) => other.key === key).length}`,
        id: session.id,
        key,
        hash: hashOfToken(Redacted.value(session.id))
      })
    }

    const remember = (on: Node, session: Session): void => {
      const sessions = read.get(on.name) ?? []
      sessions.push(session)
      read.set(on.name, sessions.slice(-6))
    }

    const floorOf = (on: Node, key: SessionKey) => acknowledged.get(`${on.name} ${key}`)

    const acknowledge = (on: Node, key: SessionKey, version: bigint | "ended"): void => {
      const floor = floorOf(on, key)
      if (floor === "ended" || (version !== "ended" && floor !== undefined && floor >= version)) return
      acknowledged.set(`${on.name} ${key}`, version)
    }

    /** Whatever the outcome was, it has happened by now: this node may not serve what was before. */
    const acknowledgeUnknown = (on: Node, key: SessionKey): void =>
      acknowledge(on, key, model.current(key)?.row.version ?? "ended")

    const stateOf = (session: Session): History.State =>
      model.of(session.key)?.states[Number(session.version) - 1] ??
      violated(`version ${session.version} never stood in the database`)

    /** An answer is exactly one version of the session. */
    const checkContent = (session: Session): History.State => {
      const state = stateOf(session)
      for (const attribute of texts) {
        const is = JSON.stringify(Effect.runSync(Session.get(session, attribute)))
        const should = state.row.attributes.get(attribute.name)?.value ?? '""'
        if (is !== should) violated(`version ${session.version} has ${attribute.name} ${should}, not ${is}`)
      }
      if (String(Effect.runSync(Session.get(session, Count))) !== (state.row.attributes.get("count")?.value ?? "0")) {
        violated(`version ${session.version} has another count`)
      }
      if (Option.getOrUndefined(session.userId) !== state.row.userId) violated("the user is another one")
      if (Option.getOrUndefined(session.groupId) !== state.row.groupId) violated("the group is another one")
      return state
    }

    const isUnavailable = (error: { readonly _tag: string }): error is SessionStoreUnavailable =>
      error._tag === "SessionStoreUnavailable"

    /** Starts an operation and judges its answer when it comes. */
    const launch = <A, E>(what: string, effect: Effect.Effect<A, E>, judge: (result: Result.Result<A, E>) => void) =>
      Effect.gen(function* () {
        trace.push(`${now()} ${what}`)
        const judged = Effect.result(effect).pipe(
          Effect.map((result) => {
            trace.push(`${now()}   ${what}: ${result._tag}`)
            judge(result)
          }),
          Effect.catchCause((cause) =>
            Effect.sync(() => {
              if (!Cause.hasInterruptsOnly(cause)) violations.push(`${what}: ${String(Cause.squash(cause))}`)
            })
          )
        )
        const fiber = yield* Effect.forkScoped(judged, { startImmediately: true })
        running.set(fiber, what)
        fiber.addObserver(() => running.delete(fiber))
      })

    const judgeAbsence = ({ hash, key }: Known): void => {
      if (model.isAccepted(key, hash, now(), maxStaleness)) violated("G2: a live id was refused")
    }

    const find = (on: Node, of: Known, options: FindOptions | undefined) => {
      const floor = floorOf(on, of.key)
      const atStart = model.current(of.key)?.row.version
      return launch(`${on.name}.find(${of.name}, ${describeOptions(options)})`, on.find(of.id, options), (result) => {
        if (result._tag === "Failure") return
        if (Option.isNone(result.success)) {
          judgeAbsence(of)
          if (model.current(of.key) === undefined) acknowledge(on, of.key, "ended")
          return
        }
        const session = result.success.value
        const { version } = session
        const { from, row, until } = checkContent(session)
        const end = now()
        if (until < end - maxStaleness) violated(`G1: version ${version} ended ${end - until} ms ago`)
        if (!accepts(row, of.hash, Math.max(from, end - maxStaleness))) violated(`G4: the id was replaced`)
        if (floor === "ended") violated("G4: this node had acknowledged its end")
        else if (floor !== undefined && version < floor) violated(`G2: ${version} after it had acknowledged ${floor}`)
        if (options?.refresh === true && (atStart === undefined || version < atStart)) {
          violated(`an authoritative read answered ${version}, when ${atStart} stood before`)
        }
        const { minVersion } = options ?? {}
        if (minVersion !== undefined && version < minVersion && (atStart === undefined || minVersion <= atStart)) {
          violated(`G2: ${version} though ${minVersion} was carried`)
        }
        acknowledge(on, of.key, version)
        remember(on, session)
      })
    }

    const update = (on: Node, base: Session) => {
      const attribute = random.pick(texts)
      const value = random.chance(0.2) ? undefined : `v${++unique}`
      const check = random.pick(["attributes", "attributes", "session", "none"] as const)
      const changed = value === undefined ? Session.remove(base, attribute) : Session.set(base, attribute, value)
      const expected = stateOf(base).row.attributes.get(attribute.name)?.version ?? 0n
      const { key, version: baseVersion } = base
      const name = known.find(({ id }) => Redacted.value(id) === Redacted.value(base.id))
      const what = `${on.name}.update(${name?.name} at ${baseVersion}, ${attribute.name}=${value}, ${check})`
      const judgeRefusal = () => {
        if (value !== undefined) refused.push({ key, name: attribute.name, value: JSON.stringify(value) })
      }
      return launch(what, on.update(changed, { check }), (result) => {
        if (result._tag === "Success") {
          const session = result.success
          const { row } = checkContent(session)
          const written = row.attributes.get(attribute.name)
          if (written?.value !== (value === undefined ? undefined : JSON.stringify(value)))
            violated("it was not written")
          if (written !== undefined && written.version !== row.version) violated("it has another version")
          const before = model.of(key)?.states[Number(row.version) - 2]?.row ?? violated("nothing stood before")
          if (check === "attributes" && (before.attributes.get(attribute.name)?.version ?? 0n) !== expected) {
            violated("G3: the attribute had been written since it was read")
          }
          if (check === "session" && before.version !== baseVersion)
            violated("G3: the session had changed since it was read")
          acknowledge(on, key, row.version)
          remember(on, session)
          return
        }
        const error = result.failure
        switch (error._tag) {
          case "AttributeVersionMismatch": {
            const { row } = checkContent(error.current)
            const actual = row.attributes.get(attribute.name)?.version ?? 0n
            if (check !== "attributes" || error.expected !== expected) violated("G3: another expectation")
            if (error.actual !== actual || actual === expected) violated("G3: a mismatch that is none")
            return judgeRefusal()
          }
          case "VersionMismatch": {
            checkContent(error.current)
            if (check !== "session" || error.expected !== baseVersion) violated("G3: another expectation")
            if (error.actual !== error.current.version || error.actual <= baseVersion)
              violated("G3: a mismatch that is none")
            return judgeRefusal()
          }
          case "SessionNotFound": {
            judgeRefusal()
            return judgeAbsence({ name: "", id: base.id, key, hash: hashOfToken(Redacted.value(base.id)) })
          }
          default:
            if (!isUnavailable(error)) return violated(error._tag)
            if (error.outcome === "Unknown") acknowledgeUnknown(on, key)
            else judgeRefusal()
        }
      })
    }

    /** Judges an operation of one session that answers it. */
    const written =
      (on: Node, of: Known) =>
      <E extends { readonly _tag: string }>(result: Result.Result<Session, E>) => {
        if (result._tag === "Success") {
          checkContent(result.success)
          learn(result.success)
          acknowledge(on, of.key, result.success.version)
          remember(on, result.success)
        } else if (isUnavailable(result.failure)) {
          if (result.failure.outcome === "Unknown") acknowledgeUnknown(on, of.key)
        } else if (result.failure._tag === "SessionNotFound") {
          judgeAbsence(of)
        } else {
          violated(result.failure._tag)
        }
      }

    /** Runs a deletion; what it alone can have ended is acknowledged by its node. */
    const deletion = <A, E>(on: Node, what: string, effect: Effect.Effect<A, E>) =>
      Effect.suspend(() => {
        const counter = deletions.get(on.name) ?? { started: 0, running: 0 }
        deletions.set(on.name, counter)
        const alone = counter.running === 0
        const number = ++counter.started
        counter.running++
        const before = new Set(model.keys().filter((key) => model.current(key) === undefined))
        return launch(`${on.name}.${what}`, effect, (result) => {
          counter.running--
          if (result._tag === "Failure" || !alone || counter.started !== number) return
          for (const key of model.keys()) {
            const history = model.of(key)
            if (history?.endedBy === on.name && !before.has(key)) acknowledge(on, key, "ended")
          }
        })
      })

    const create = (on: Node) => {
      const user = random.pick([alice, bob, undefined])
      const options = {
        groupId: random.chance(0.3) ? random.pick(groups) : undefined,
        // So short that every use is written before it is answered.
        idleTimeout: random.chance(0.3) ? "9 seconds" : undefined
      } as const
      const creating = user === undefined ? on.createAnonymous(options) : on.create(user, options)
      return launch(`${on.name}.create(${user})`, creating, (result) => {
        if (result._tag === "Failure") return
        learn(result.success)
        checkContent(result.success)
        acknowledge(on, result.success.key, result.success.version)
        remember(on, result.success)
      })
    }

    const rotate = (on: Node, of: Known) => {
      const userId = random.pick([alice, bob, undefined, undefined])
      const grace = random.pick([undefined, 0, 2_000])
      return launch(
        `${on.name}.rotate(${of.name}, ${userId}, ${grace})`,
        on.rotate(of.id, { userId, grace }),
        written(on, of)
      )
    }

    const fault = (on: Node): Effect.Effect<unknown> => {
      const say = (what: string) => trace.push(`${now()} ${what}`)
      switch (random.below(8)) {
        case 0:
        case 1:
          say(`hold ${on.name}`)
          return controls.hold(on.name)
        case 2:
          say(`release ${on.name}`)
          return controls.release(on.name)
        case 3: {
          const count = 1 + random.below(4)
          say(`step ${on.name} by ${count}`)
          return controls.step(count, on.name)
        }
        case 4: {
          if (random.chance(0.5)) return Effect.void
          say(`cut ${on.name}`)
          return controls.cut(on.name)
        }
        case 5: {
          const operation = random.pick(pausable)
          const applied = random.chance(0.5)
          say(`fail ${operation} of ${on.name}${applied ? " after it is applied" : ""}`)
          return controls.failNext(operation, { node: on.name, applied })
        }
        default: {
          const operation = random.pick(pausable)
          const when = random.pick(["pauseBefore", "pauseAfter"] as const)
          say(`${when} ${operation} on ${on.name}`)
          return Effect.map(controls[when](operation, on.name), (pause) => pauses.push(pause))
        }
      }
    }

    /** Something that changes or ends the session. */
    const disturb = (on: Node, of: Known) => {
      const bases = (read.get(on.name) ?? []).filter(({ key }) => key === of.key)
      switch (random.below(6)) {
        case 0:
          return rotate(on, of)
        case 1:
          return deletion(on, `delete(${of.name})`, on.delete(of.id))
        case 2: {
          const { groupId, userId } = model.current(of.key)?.row ?? {}
          if (userId !== undefined && random.chance(0.5)) {
            return deletion(on, `deleteAllForUser(${userId})`, on.deleteAllForUser(userId))
          }
          if (groupId === undefined) return deletion(on, "deleteAll", on.deleteAll)
          return deletion(on, `deleteAllForGroup(${groupId})`, on.deleteAllForGroup(groupId))
        }
        default:
          return bases.length > 0 ? update(on, random.pick(bases)) : modify(on, of)
      }
    }

    const modify = (on: Node, of: Known) =>
      launch(
        `${on.name}.increment(${of.name})`,
        on.modify(
          of.id,
          Session.modify(Count, (count) => count + 1)
        ),
        written(on, of)
      )

    /** The orders of events that go wrong most easily, which pure chance finds too rarely. */
    const plot = (on: Node, of: Known) =>
      Effect.gen(function* () {
        const other = random.pick(nodes.filter((node) => node !== on))
        const which = random.below(4)
        if (which === 0) {
          // The listener falls silent, something changes, and time passes.
          yield* find(on, of, { touch: false })
          yield* settle
          trace.push(`${now()} hold ${on.name}`)
          yield* controls.hold(on.name)
          yield* disturb(other, of)
          yield* pass(random.pick([4_900, 5_000, 5_100, 5_400, 6_100]), 100)
        } else {
          // An answer is overtaken: by a notice, by the loss of the listener, or by an authoritative read.
          yield* on.clearLocalCache
          if (which === 3) yield* controls.hold(on.name)
          const pause = yield* controls.pauseAfter("load", on.name)
          yield* find(on, of, { touch: false })
          yield* settle
          trace.push(`${now()} plot ${which} on ${on.name}`)
          if (which === 2) yield* controls.cut(on.name)
          yield* disturb(other, of)
          yield* settle
          if (which === 2) yield* pass(200, 50)
          if (which === 3) yield* find(on, of, { refresh: true })
          yield* settle
          yield* pause.resume
        }
        yield* settle
        yield* find(on, of, { touch: false })
        if (which !== 2) yield* pass(random.pick([1, 6_000]), 500)
        yield* find(on, of, { touch: false })
        yield* settle
        yield* controls.release(on.name)
      })

    const step = Effect.suspend((): Effect.Effect<unknown, never, Effect.Services<ReturnType<typeof create>>> => {
      const on = random.pick(nodes)
      if (known.length === 0) return create(on)
      // The latest ones, so that operations meet.
      const of = random.pick(known.slice(-4))
      if (random.chance(0.06)) return plot(on, of)
      const dice = random.below(100)
      if (dice < 28) return find(on, of, random.pick([undefined, undefined, { touch: false }]))
      if (dice < 33) return find(on, of, { refresh: true })
      if (dice < 38) {
        const version = model.current(of.key)?.row.version ?? 1n
        return find(on, of, { minVersion: random.chance(0.8) ? version : version + 5n, touch: false })
      }
      if (dice < 51) {
        const bases = read.get(on.name)
        return bases === undefined ? find(on, of, undefined) : update(on, random.pick(bases))
      }
      if (dice < 57) return modify(on, of)
      if (dice < 59) {
        const group = random.pick(groups)
        const joining = on.modify(of.id, Session.setGroup(Option.some(group)))
        return launch(`${on.name}.join(${of.name}, ${group})`, joining, written(on, of))
      }
      if (dice < 62) return rotate(on, of)
      if (dice < 64) return create(on)
      if (dice < 67) return deletion(on, `delete(${of.name})`, on.delete(of.id))
      if (dice < 69) {
        const group = random.pick(groups)
        return deletion(on, `deleteAllForGroup(${group})`, on.deleteAllForGroup(group))
      }
      if (dice < 71) {
        const user = random.pick([alice, bob])
        const except = random.chance(0.5) ? of.key : undefined
        return deletion(
          on,
          `deleteAllForUser(${user}, ${except === undefined ? "" : of.name})`,
          on.deleteAllForUser(user, { except })
        )
      }
      if (dice < 72) {
        if (random.chance(0.3)) return deletion(on, "deleteAll", on.deleteAll)
        const user = random.pick([alice, bob])
        return launch(`${on.name}.deleteAttributeForUser(${user})`, on.deleteAttributeForUser(user, Note), () => {})
      }
      if (random.chance(0.1)) return launch(`${on.name}.clearCache`, on.clearCache, () => {})
      if (dice < 74) return launch(`${on.name}.clearLocalCache`, on.clearLocalCache, () => {})
      if (dice < 75) return launch(`${on.name}.flushActivity`, on.flushActivity, () => {})
      if (dice < 85) return fault(on)
      if (dice < 91 && pauses.length > 0) {
        const [pause] = pauses.splice(random.below(pauses.length), 1)
        trace.push(`${now()} resume`)
        return pause?.resume ?? Effect.void
      }
      const duration = random.pick([1, 200, 1_000, 2_500, 6_000])
      trace.push(`${now()} pass ${duration}`)
      return pass(duration, 500)
    })

    const fail = (what: string) =>
      assert.fail(`${what}\nseed ${seed} (run it alone with COHERENCE_SEED=${seed})\n${trace.join("\n")}`)

    for (let index = 0; index < steps; index++) {
      yield* step
      // Sometimes the next operation begins before this one gets anywhere.
      if (random.chance(0.7)) yield* settle
      if (violations[0] !== undefined) fail(violations[0])
    }

    // Calm returns: everything that was asked is answered, and every node serves what stands.
    trace.push(`${now()} calm`)
    for (const pause of pauses) yield* pause.resume
    yield* controls.release()
    yield* pass(30_000, 1_000)
    if (violations[0] !== undefined) fail(violations[0])
    if (running.size > 0) fail(`never answered: ${[...running.values()].join(", ")}`)
    for (const { key, name, value } of refused) {
      if (model.wasStored(key, name, value)) fail(`G3: a refused value was written: ${value}`)
    }
    for (const on of nodes) {
      if (!(yield* on.health).synced) fail(`${on.name} is not synchronized`)
      if (on.cache.fills.size !== 0) fail(`${on.name} still has ${on.cache.fills.size} operations registered`)
      for (const of of known) {
        const found = yield* Effect.orDie(Effect.retry(on.find(of.id, { touch: false }), { times: 5 }))
        const should = model.isAccepted(of.key, of.hash, now()) ? model.current(of.key)?.row.version : undefined
        const is = Option.getOrUndefined(found)
        if (is?.version !== should) fail(`${on.name} serves ${of.name} at ${is?.version}, which is at ${should}`)
        if (is !== undefined) checkContent(is)
      }
    }
    return { answers: trace.filter((line) => line.endsWith("Success")).length }
  }).pipe(Effect.scoped, Random.withSeed(`${seed}`), Effect.provideService(References.MinimumLogLevel, "None"))

const describeOptions = (options: FindOptions | undefined): string =>
  options === undefined ? "" : `${options.refresh === true ? "refresh" : ""}${options.minVersion ?? ""}`

describe("coherence, against a model", () => {
  const seeds = onlySeed === undefined ? Array.from({ length: runs }, (_, index) => index + 1) : [Number(onlySeed)]
  it.effect(
    `${seeds.length} random runs on three nodes keep G1 to G4`,
    () =>
      Effect.gen(function* () {
        let answers = 0
        for (const seed of seeds) answers += (yield* runSeed(seed)).answers
        assert.isAbove(answers, 20 * seeds.length, "hardly anything was answered")
      }),
    600_000
  )
})
