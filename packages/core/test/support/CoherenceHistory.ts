/**
 * The simple model behind the property test of coherence: every state that every
 * session has had in the database, and when. It watches all statements, and knows
 * which answers of a node the guarantees allow.
 */
import type * as MemoryDatabase from "../../src/internal/memory/MemoryDatabase.ts"
import { accepts, isLive } from "../../src/internal/memory/MemoryRows.ts"
import type { SecretHash, SessionKey } from "../../src/SessionId.ts"
import type { SessionRow } from "../../src/SessionStorage.ts"

/** One version of a session, and until when it was the current one. */
export interface State {
  readonly row: SessionRow
  readonly from: number
  /** Infinite for the current one. */
  until: number
}

export interface History {
  /** Version n is at n - 1. */
  readonly states: ReadonlyArray<State>
  /** Infinite while it lives. */
  readonly endedAt: number
  /** The node whose statement ended it. */
  readonly endedBy: string | undefined
}

interface Recorded {
  states: Array<State>
  endedAt: number
  endedBy: string | undefined
}

/** What was wrong, in words. */
export class Violation extends Error {}

const violated = (what: string): never => {
  throw new Violation(what)
}

export const make = () => {
  const histories = new Map<SessionKey, Recorded>()

  /** One step of a session from one row to the next. */
  const checkStep = (before: SessionRow, after: SessionRow): void => {
    if (after.version === before.version) {
      if (after.attributes !== before.attributes) violated("attributes changed without a new version")
      if (after.lastAccessedAt < before.lastAccessedAt) violated("the last access moved backwards")
      return
    }
    if (after.version !== before.version + 1n) violated(`version ${before.version} became ${after.version}`)
    for (const [name, stored] of after.attributes) {
      const former = before.attributes.get(name)
      if (stored.version === after.version) continue
      if (former === undefined || former.version !== stored.version || former.value !== stored.value) {
        violated(`G3: attribute ${name} changed at version ${after.version}, but carries version ${stored.version}`)
      }
    }
    const [count, counted] = [before, after].map(({ attributes }) => Number(attributes.get("count")?.value ?? 0))
    if (count !== counted && counted !== 0 && counted !== Number(count) + 1) {
      violated(`G3: the count went from ${count} to ${counted}`)
    }
  }

  const record = (node: string, { now, rows }: MemoryDatabase.Transaction): void => {
    for (const [key, row] of rows) {
      const history = histories.get(key)
      const last = history?.states.at(-1)
      if (history === undefined || last === undefined) {
        if (row.version !== 1n) violated(`a session began at version ${row.version}`)
        histories.set(key, { states: [{ row, from: now, until: Infinity }], endedAt: Infinity, endedBy: undefined })
        continue
      }
      if (history.endedAt !== Infinity) violated("G4: a session that had ended is back in the database")
      if (last.row === row) continue
      checkStep(last.row, row)
      if (last.row.version === row.version) {
        history.states[history.states.length - 1] = { ...last, row }
        continue
      }
      last.until = now
      history.states.push({ row, from: now, until: Infinity })
    }
    for (const [key, history] of histories) {
      if (history.endedAt !== Infinity || rows.has(key)) continue
      history.endedAt = now
      history.endedBy = node
      const last = history.states.at(-1)
      if (last !== undefined) last.until = now
    }
  }

  const observe = (database: MemoryDatabase.Database): MemoryDatabase.Database => ({
    ...database,
    run: (statement, apply) =>
      database.run(statement, (transaction) => {
        const answer = apply(transaction)
        record(statement.node, transaction)
        return answer
      })
  })

  const of = (key: SessionKey): History | undefined => histories.get(key)

  /** The current state, `undefined` where the session has ended. */
  const current = (key: SessionKey): State | undefined => {
    const history = histories.get(key)
    return history === undefined || history.endedAt !== Infinity ? undefined : history.states.at(-1)
  }

  /**
   * Whether the database would accept the id now. A node ends the grace of a former id too early rather than too late,
   * by up to the time that its last answer took: `slack`.
   */
  const isAccepted = (key: SessionKey, hash: SecretHash, now: number, slack = 0): boolean => {
    const state = current(key)
    return state !== undefined && isLive(state.row, now) && accepts(state.row, hash, now + slack)
  }

  /** Values that were ever stored under a name. */
  const wasStored = (key: SessionKey, name: string, value: string): boolean =>
    (histories.get(key)?.states ?? []).some(({ row }) => row.attributes.get(name)?.value === value)

  return { observe, of, current, isAccepted, wasStored, keys: () => [...histories.keys()] }
}

export type Model = ReturnType<typeof make>
