/**
 * Turns recorded changes into what a database stores, and checks the limits of
 * size before anything is sent.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { AttributeValue } from "../../SessionAttribute.ts"
import type { Settings } from "../../SessionConfig.ts"
import { type AttributeInvalid, AttributeTooLarge, SessionTooLarge } from "../../SessionError.ts"
import type { AttributeWrite, SessionRow, WriteRequest } from "../../SessionStorage.ts"
import type { UpdateOptions } from "../../SessionStore.ts"
import type { SessionImpl } from "../SessionImpl.ts"
import type { SessionView } from "../SessionView.ts"

/** No lifetime and no idle limit is longer than this: 100 years, in milliseconds; PostgreSQL's and JavaScript's dates hold it. */
const maxMillis = 100 * 365 * 24 * 60 * 60 * 1_000

/** A duration as the storage takes it: whole milliseconds, not negative, bounded. */
export const lifetimeMillis = (duration: Duration.Duration): number =>
  Math.round(Math.min(maxMillis, Math.max(0, Duration.toMillis(duration))))

/** An idle limit as the storage takes it: `undefined` for none. */
export const idleMillis = (duration: Duration.Duration): number | undefined =>
  Duration.isFinite(duration) ? lifetimeMillis(duration) : undefined

/** Encodes a value. Fails with `AttributeInvalid` or `AttributeTooLarge`. */
const encodeOne = (
  value: AttributeValue,
  settings: Settings
): Result.Result<AttributeWrite, AttributeInvalid | AttributeTooLarge> =>
  Result.flatMap(value.encode(), (text) => {
    const bytes = Buffer.byteLength(text)
    return bytes > settings.maxAttributeBytes
      ? Result.fail(
          new AttributeTooLarge({ attribute: value.attribute.name, bytes, limit: settings.maxAttributeBytes })
        )
      : Result.succeed({
          name: value.attribute.name,
          value: text,
          timeToLive: value.timeToLive === undefined ? undefined : lifetimeMillis(value.timeToLive)
        })
  })

/**
 * Encodes the attributes of a new session; of several values for one attribute the last counts. Fails with
 * `AttributeInvalid`, `AttributeTooLarge` or `SessionTooLarge`.
 */
export const encodeAll = (
  values: ReadonlyArray<AttributeValue>,
  settings: Settings
): Effect.Effect<ReadonlyArray<AttributeWrite>, AttributeInvalid | AttributeTooLarge | SessionTooLarge> =>
  Effect.suspend(
    (): Effect.Effect<ReadonlyArray<AttributeWrite>, AttributeInvalid | AttributeTooLarge | SessionTooLarge> => {
      const writes = new Map<string, AttributeWrite>()
      for (const value of values) {
        const encoded = encodeOne(value, settings)
        if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
        writes.set(encoded.success.name, encoded.success)
      }
      let bytes = 0
      for (const { name, value } of writes.values()) bytes += Buffer.byteLength(name) + Buffer.byteLength(value)
      return bytes > settings.maxSessionBytes
        ? Effect.fail(new SessionTooLarge({ key: undefined, bytes, limit: settings.maxSessionBytes }))
        : Effect.succeed([...writes.values()])
    }
  )

/** The request for what a session has recorded. Fails with `AttributeInvalid` or `AttributeTooLarge`. */
export const encodeChanges = (
  session: SessionImpl,
  options: UpdateOptions | undefined,
  settings: Settings
): Effect.Effect<WriteRequest, AttributeInvalid | AttributeTooLarge> =>
  Effect.suspend(() => {
    const { view, changes, settings: changed } = session
    const check = options?.check ?? "attributes"
    const set: Array<AttributeWrite> = []
    const remove: Array<string> = []
    const expectedAttributes: Array<readonly [string, bigint]> = []
    for (const [name, change] of changes) {
      if (check === "attributes") expectedAttributes.push([name, view.stored(name)?.version ?? 0n])
      if (change._tag === "Remove") {
        remove.push(name)
        continue
      }
      const encoded = encodeOne(change.write, settings)
      if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
      set.push(encoded.success)
    }
    const { groupId, idleTimeout, lifetime } = changed
    return Effect.succeed({
      key: view.key,
      proof: session.proof,
      baseVersion: view.version,
      baseAttributes: view.attributes,
      expectedVersion: check === "session" ? view.version : undefined,
      expectedAttributes,
      set,
      remove,
      groupId,
      lifetime: lifetime === undefined ? undefined : lifetimeMillis(lifetime),
      idleTimeout: idleTimeout === undefined ? undefined : (idleMillis(idleTimeout) ?? null),
      notify: options?.notify ?? settings.notifyOnUpdates,
      maxBytes: settings.maxSessionBytes,
      fence: options?.fence === undefined ? undefined : { lock: options.fence.lock, token: options.fence.token }
    })
  })

/**
 * The row after an accepted write that was made on its current version: what the database would have sent back.
 * `now` is the time that it counted attribute lifetimes from.
 */
export const applyAccepted = (view: SessionView, request: WriteRequest, version: bigint, now: number): SessionRow => {
  const set = request.set.map(
    ({ name, timeToLive, value }) =>
      [name, { value, version, expiresAt: timeToLive === undefined ? undefined : now + timeToLive }] as const
  )
  const attributes = view.attributes.with(set, request.remove)
  return view.with({ version, attributes, lastAccessedAt: Math.max(view.lastAccessedAt, now) })
}
