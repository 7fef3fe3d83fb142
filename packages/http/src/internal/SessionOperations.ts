/**
 * The operations of `CurrentSession`, on the state of one request.
 */
import {
  type AttributeVersionMismatch,
  type ReadError,
  Session,
  SessionId,
  type SessionKey,
  type UserId,
  type VersionMismatch,
  type WriteError
} from "@effect-pg-session/core"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type {
  SessionCondition,
  CurrentSessionOperations,
  GuestOptions,
  LoginOptions,
  LogoutEverywhereOptions,
  ModifyCurrentOptions,
  ModifySessionError,
  RotateIdOptions
} from "../CurrentSession.ts"
import type {
  SessionDataTooLarge,
  SessionLimitReached,
  SessionUnavailable,
  Unauthenticated
} from "../SessionHttpError.ts"
import { randomBase64Url } from "./Crypto.ts"
import { Flash, type FlashMessage, maxFlashMessages } from "./Flash.ts"
import type { RequestSession } from "./RequestSession.ts"
import { type Answer, answerWith, unauthenticated } from "./StoreErrors.ts"

const noSession: Effect.Effect<Option.Option<Session>> = Effect.succeedNone
const noMessages: Effect.Effect<ReadonlyArray<FlashMessage>> = Effect.succeed([])

/** Nothing of a key but its beginning is ever written down. */
const logged = (event: string, key: SessionKey) =>
  Effect.annotateLogs(Effect.logInfo(event), { session: `${key.slice(0, 8)}…` })

/** An error of the callback of `modify`, told apart from the store's own. */
class CallbackError<E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

type ModifyFailure = ReadError | WriteError | VersionMismatch | AttributeVersionMismatch

const csrfPurpose = "csrf"
const tokenShape = /^([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})$/

/** What a token is bound to: the session, and the login in it, but not its id, which changes while forms are open. */
const csrfText = (session: Session, nonce: string): string => {
  const login = Option.match(session.authenticatedAt, { onNone: () => "guest", onSome: DateTime.toEpochMillis })
  return `${nonce}.${session.key}.${login}`
}

export class SessionOperations implements CurrentSessionOperations {
  readonly request: RequestSession

  constructor(request: RequestSession) {
    this.request = request
  }

  get get(): Effect.Effect<Option.Option<Session>, SessionUnavailable> {
    return this.request.load
  }

  get getOrAnonymous(): Effect.Effect<Option.Option<Session>> {
    return Effect.catch(this.get, () => noSession)
  }

  get require(): Effect.Effect<Session, Unauthenticated | SessionUnavailable> {
    return Effect.flatMap(this.get, userSession)
  }

  ensure(condition: SessionCondition) {
    return Effect.tap(
      Effect.tap(this.require, condition),
      Effect.sync(() => this.request.conditions.push(condition))
    )
  }

  get authoritative() {
    return this.request.reload.pipe(
      Effect.flatMap(userSession),
      Effect.tap((session) =>
        Effect.forEach(this.request.conditions, (condition) => condition(session), { discard: true })
      )
    )
  }

  guest(options?: GuestOptions): Effect.Effect<Session, SessionDataTooLarge | SessionUnavailable> {
    const { request } = this
    const begin = request.environment.store.createAnonymous({ attributes: options?.attributes }).pipe(
      Effect.catch(answerWith),
      Effect.map((session) => request.issued(session, "begin")),
      Effect.tap((session) => logged("A guest's session began", session.key))
    )
    const orElse = <E>(onNone: Effect.Effect<Session, E>) =>
      Effect.flatMap(this.get, (found) => (Option.isSome(found) ? Effect.succeed(found.value) : onNone))
    return orElse(request.beforeResponse("guest", orElse(begin)))
  }

  login(
    userId: UserId,
    options?: LoginOptions
  ): Effect.Effect<Session, SessionLimitReached | SessionDataTooLarge | SessionUnavailable> {
    const { request } = this
    const { store } = request.environment
    const begin = Effect.suspend(() => store.create(userId, options)).pipe(
      Effect.catch(answerWith),
      Effect.map((session) => request.issued(session, "begin"))
    )
    const takeOver = (id: SessionId) =>
      store.rotate(id, { ...options, userId }).pipe(
        Effect.map((session) => request.issued(session, "issue")),
        // Ended meanwhile, or another login of this guest was faster.
        Effect.catch((error) => (error._tag === "SessionNotFound" ? begin : answerWith(error)))
      )
    const login = Effect.suspend(() => (request.id === undefined ? begin : takeOver(request.id))).pipe(
      Effect.tap((session) => logged("A user logged in", session.key))
    )
    return Effect.withSpan(request.beforeResponse("login", login), "CurrentSession.login")
  }

  rotate(
    options?: RotateIdOptions
  ): Effect.Effect<Session, Unauthenticated | SessionDataTooLarge | SessionUnavailable> {
    const { request } = this
    const rotate = Effect.suspend(() =>
      request.id === undefined ? unauthenticated : Effect.catch(this.rotateId(request.id, options), answerWith)
    ).pipe(
      Effect.map((session) => request.issued(session, "issue")),
      Effect.tap((session) => logged("A session got a new id", session.key))
    )
    return Effect.withSpan(request.beforeResponse("rotate", rotate), "CurrentSession.rotate")
  }

  private rotateId(id: SessionId, options: RotateIdOptions | undefined) {
    const { environment } = this.request
    // Without a login the limit of sessions plays no part.
    return Effect.catchTag(environment.store.rotate(id, options), "TooManySessions", Effect.die)
  }

  modify<E = never, R = never>(
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options?: ModifyCurrentOptions
  ): Effect.Effect<Session, E | ModifySessionError, R> {
    const { request } = this
    const absent: Effect.Effect<Session, E | ModifySessionError, R> =
      options?.whenAbsent === "createGuest"
        ? Effect.flatMap(this.guest(), (session) =>
            Effect.catch(this.modifyId(session.id, f, options), (error) => answerModify(error))
          )
        : unauthenticated
    return Effect.suspend(() => {
      const { id } = request
      if (id === undefined) return absent
      return Effect.catch(this.modifyId(id, f, options), (error): Effect.Effect<Session, E | ModifySessionError, R> => {
        if (error instanceof CallbackError || error._tag !== "SessionNotFound") return answerModify(error)
        if (!request.isStill(id)) return this.modify(f, options)
        request.gone()
        return absent
      })
    })
  }

  private modifyId<E, R>(
    id: SessionId,
    f: (session: Session) => Session | Effect.Effect<Session, E, R>,
    options: ModifyCurrentOptions | undefined
  ): Effect.Effect<Session, CallbackError<E> | ModifyFailure, R> {
    const { request } = this
    return Effect.map(
      request.environment.store.modify<CallbackError<E>, R, "attributes" | "session" | "none">(
        id,
        (session) => {
          const changed = f(session)
          return Effect.isEffect(changed) ? Effect.mapError(changed, (error) => new CallbackError(error)) : changed
        },
        { check: options?.check }
      ),
      (session) => request.written(session)
    )
  }

  get logout(): Effect.Effect<void, SessionUnavailable> {
    const { request } = this
    const logout = Effect.suspend(() => {
      const { id } = request
      return (id === undefined ? Effect.void : request.environment.store.delete(id)).pipe(
        Effect.catch(answerWith),
        Effect.tap(() => Effect.sync(() => request.ended())),
        Effect.tap(() => (id === undefined ? Effect.void : logged("A user logged out", SessionId.key(id))))
      )
    })
    return Effect.withSpan(request.beforeResponse("logout", logout), "CurrentSession.logout")
  }

  logoutEverywhere(options?: LogoutEverywhereOptions): Effect.Effect<number, Unauthenticated | SessionUnavailable> {
    const { request } = this
    type End = Effect.Effect<number, Unauthenticated | SessionUnavailable>
    const end = Effect.flatMap(this.require, (session): End => {
      const except = options?.except === "current" ? session.key : options?.except
      if (Option.isNone(session.userId)) return unauthenticated
      return request.environment.store.deleteAllForUser(session.userId.value, { except }).pipe(
        Effect.catch(answerWith),
        Effect.tap(() => Effect.sync(() => (except === session.key ? undefined : request.ended()))),
        Effect.tap(() => logged("A user logged out everywhere", session.key))
      )
    })
    return Effect.withSpan(request.beforeResponse("logoutEverywhere", end), "CurrentSession.logoutEverywhere")
  }

  flash(kind: string, text: string): Effect.Effect<void, ModifySessionError> {
    const leave = (atMost: number) =>
      this.modify(
        (session) =>
          Effect.map(waiting(session), (messages) =>
            Session.set(session, Flash, [...messages, { kind, text }].slice(-atMost))
          ),
        { whenAbsent: "createGuest" }
      )
    // What nobody has read must not be in the way of what is said now.
    return Effect.asVoid(Effect.catchTag(leave(maxFlashMessages), "SessionDataTooLarge", () => leave(1)))
  }

  get takeFlash(): Effect.Effect<ReadonlyArray<FlashMessage>, ModifySessionError> {
    const take = Effect.suspend(() => {
      let taken: ReadonlyArray<FlashMessage> = []
      return this.modify((session) =>
        Effect.map(waiting(session), (messages) => {
          // Another request may have been faster: then nothing is left to take, nor to write.
          taken = messages
          return messages.length === 0 ? session : Session.remove(session, Flash)
        })
      ).pipe(
        Effect.map(() => taken),
        Effect.catchTag("Unauthenticated", () => noMessages)
      )
    })
    return Effect.flatMap(this.get, (found) => {
      if (Option.isNone(found)) return noMessages
      return Effect.flatMap(waiting(found.value), (messages) => (messages.length === 0 ? noMessages : take))
    })
  }

  get csrfToken(): Effect.Effect<string, SessionUnavailable> {
    // A guest without attributes cannot be too large.
    return Effect.map(Effect.catchTag(this.guest(), "SessionDataTooLarge", Effect.die), (session) => {
      const nonce = randomBase64Url(16)
      return `${nonce}.${this.request.environment.cookies.signer.sign(csrfPurpose, csrfText(session, nonce))}`
    })
  }

  verifyCsrfToken(token: string): Effect.Effect<boolean, SessionUnavailable> {
    const [, nonce, signature] = tokenShape.exec(token) ?? []
    if (nonce === undefined || signature === undefined) return Effect.succeed(false)
    return Effect.map(
      this.get,
      Option.match({
        onNone: () => false,
        onSome: (session) =>
          this.request.environment.cookies.signer.verify(csrfPurpose, csrfText(session, nonce), signature) !== "refused"
      })
    )
  }
}

/**
 * `get` and `require`, within an effect that runs: what memory has is answered at once, without effects around it. Other
 * implementations of the operations are asked in the usual way.
 */
export const getNow = (session: CurrentSessionOperations): CurrentSessionOperations["get"] =>
  session instanceof SessionOperations ? session.request.read() : session.get
export const requireNow = (session: CurrentSessionOperations): CurrentSessionOperations["require"] =>
  session instanceof SessionOperations ? Effect.flatMapEager(session.request.read(), userSession) : session.require

const userSession = (found: Option.Option<Session>): Effect.Effect<Session, Unauthenticated> =>
  Option.isSome(found) && Option.isSome(found.value.userId) ? Effect.succeed(found.value) : unauthenticated

/** Messages that cannot be read any more are none. */
const waiting = (session: Session): Effect.Effect<ReadonlyArray<FlashMessage>> =>
  Effect.catch(Session.get(session, Flash), () => noMessages)

const answerModify = <E>(error: CallbackError<E> | ModifyFailure): Effect.Effect<never, E | Answer<ModifyFailure>> =>
  error instanceof CallbackError ? Effect.fail(error.error) : answerWith(error)
