/**
 * How sessions begin, get a new id, and end.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Session } from "../../Session.ts"
import type { Cache } from "../../SessionCache.ts"
import type { Settings } from "../../SessionConfig.ts"
import { SessionNotFound, SessionStoreUnavailable, SessionTooLarge, TooManySessions } from "../../SessionError.ts"
import { hashOfToken, isToken, keyOfToken, type SessionId, type SessionKey, type WithGivenId } from "../../SessionId.ts"
import type { Deleted, DeleteTarget, SessionLimit, Storage } from "../../SessionStorage.ts"
import type { RotateOptions, Sessions } from "../../SessionStore.ts"
import { givenOr } from "./GivenId.ts"
import { encodeAll, idleMillis, lifetimeMillis } from "./Encoding.ts"
import type { Logins } from "./Logins.ts"
import type { Operations } from "./Operations.ts"
import { letGo, takeIn } from "./TakeIn.ts"
import { write } from "./Writes.ts"

/** For how long the old id is accepted after a rotation unless told otherwise, in milliseconds: requests that are under way carry it. */
const defaultGrace = 10_000

const partly = ({ detail, operation, reason }: SessionStoreUnavailable): SessionStoreUnavailable =>
  new SessionStoreUnavailable({ operation, reason, outcome: "Unknown", detail })

export type Lifecycle = Pick<
  Sessions,
  | "create"
  | "createAnonymous"
  | "rotate"
  | "delete"
  | "deleteByKey"
  | "deleteAllForUser"
  | "deleteAllForGroup"
  | "deleteAll"
  | "deleteAttributeForUser"
>

export const make = (
  cache: Cache,
  storage: Storage,
  settings: Settings,
  operations: Operations,
  logins: Logins
): Lifecycle => {
  const { clock } = cache
  const limit: SessionLimit = { max: settings.maxSessionsPerUser, onLimit: settings.onSessionLimit }

  const rotate = (id: SessionId, options?: RotateOptions & WithGivenId): ReturnType<Lifecycle["rotate"]> =>
    Effect.flatMap(encodeAll(options?.attributes ?? [], settings), (set) => {
      const token = Redacted.value(id)
      if (!isToken(token)) return Effect.fail(new SessionNotFound({ key: undefined }))
      const key = keyOfToken(token)
      const presented = givenOr(options, key)
      const userId = options?.userId
      return operations.run(
        "rotate the session",
        write(cache, key, (fill) => {
          const sentAt = clock.now()
          return Effect.flatMap(
            storage.rotate({
              key,
              proof: hashOfToken(token),
              secretHash: presented.proof,
              grace:
                options?.grace === undefined ? defaultGrace : lifetimeMillis(Duration.fromInputUnsafe(options.grace)),
              login:
                userId === undefined
                  ? undefined
                  : {
                      userId,
                      lifetime:
                        options?.expiresIn === undefined
                          ? settings.sessionLifetime
                          : lifetimeMillis(Duration.fromInputUnsafe(options.expiresIn)),
                      idleTimeout: idleMillis(
                        options?.idleTimeout === undefined
                          ? Duration.millis(settings.idleTimeout)
                          : Duration.fromInputUnsafe(options.idleTimeout)
                      ),
                      limit
                    },
              set,
              maxBytes: settings.maxSessionBytes
            }),
            (outcome): Effect.Effect<Session, SessionNotFound | TooManySessions | SessionTooLarge> => {
              switch (outcome._tag) {
                case "Gone":
                  return Effect.fail(new SessionNotFound({ key }))
                case "TooManySessions":
                  return userId === undefined
                    ? Effect.die(new Error("the storage limited a rotation without a login"))
                    : Effect.fail(new TooManySessions({ userId, limit: limit.max }))
                case "TooLarge":
                  return Effect.fail(
                    new SessionTooLarge({ key, bytes: outcome.bytes, limit: settings.maxSessionBytes })
                  )
                case "Rotated": {
                  letGo(cache, operations, outcome.evicted)
                  const { row } = outcome
                  operations.publish({ _tag: "Rotated", key: row.key, userId: row.userId, login: userId !== undefined })
                  return Effect.succeed(takeIn(cache, fill, row, { sentAt, now: outcome.now }, presented))
                }
              }
            }
          )
        })
      )
    })

  const remove = (target: DeleteTarget): Effect.Effect<Deleted, SessionStoreUnavailable> =>
    Effect.tap(storage.delete(target), ({ keys }) =>
      Effect.sync(() => {
        const by =
          target._tag === "User"
            ? { _tag: target._tag, userId: target.userId }
            : target._tag === "Group"
              ? { _tag: target._tag, groupId: target.groupId }
              : { _tag: target._tag }
        for (const key of keys) {
          cache.acknowledge(key, undefined)
          operations.publish({ _tag: "Deleted", key, by })
        }
      })
    )

  const removeOne = (key: SessionKey, token: string | undefined): Effect.Effect<boolean, SessionStoreUnavailable> =>
    operations.run(
      "delete the session",
      write(cache, key, () =>
        Effect.map(
          remove({ _tag: "Session", key, proof: token === undefined ? undefined : hashOfToken(token) }),
          ({ keys }) => {
            cache.acknowledge(key, undefined)
            return keys.length > 0
          }
        )
      )
    )

  const removeMany = (
    operation: string,
    target: Exclude<DeleteTarget, { readonly _tag: "Session" }>
  ): Effect.Effect<number, SessionStoreUnavailable> => {
    const removeFrom = (ended: number): Effect.Effect<number, SessionStoreUnavailable> =>
      remove(target).pipe(
        // Once a part is done, the whole is neither applied nor not.
        Effect.mapError((error) => (ended === 0 ? error : partly(error))),
        Effect.flatMap(({ keys, more }) => {
          const total = ended + keys.length
          return more ? removeFrom(total) : Effect.succeed(total)
        })
      )
    // Whether it succeeded or not: what was in flight meanwhile may be too old.
    return operations.run(
      operation,
      Effect.ensuring(
        Effect.suspend(() => removeFrom(0)),
        Effect.sync(() => cache.forgetAll(target))
      )
    )
  }

  return {
    create: (userId, options) => logins.insert(userId, settings.sessionLifetime, options),
    createAnonymous: (options) =>
      Effect.catchTag(logins.insert(undefined, settings.anonymousLifetime, options), "TooManySessions", Effect.die),
    rotate,
    delete: (id) =>
      Effect.suspend(() => {
        const token = Redacted.value(id)
        return isToken(token) ? Effect.asVoid(removeOne(keyOfToken(token), token)) : Effect.void
      }),
    deleteByKey: (key) => removeOne(key, undefined),
    deleteAllForUser: (userId, options) =>
      removeMany("delete the user's sessions", { _tag: "User", userId, except: options?.except }),
    deleteAllForGroup: (groupId, options) =>
      removeMany("delete the group's sessions", { _tag: "Group", groupId, except: options?.except }),
    deleteAll: removeMany("delete all sessions", { _tag: "All" }),
    deleteAttributeForUser: (userId, attribute) =>
      operations.run(
        "delete the attribute",
        Effect.map(
          Effect.onError(storage.deleteAttribute(userId, attribute.name), () =>
            Effect.sync(() => cache.forgetAll({ _tag: "User", userId, except: undefined }))
          ),
          ({ changed }) => {
            for (const { key, version } of changed) {
              cache.acknowledge(key, version)
              operations.publish({ _tag: "Updated", key, version, attributes: [attribute.name] })
            }
            return changed.length
          }
        )
      )
  }
}
