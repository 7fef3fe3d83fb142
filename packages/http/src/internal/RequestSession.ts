/**
 * The current session of one request: what was presented, what was read, and what
 * the response has to say about the cookie. The operations are in
 * `SessionOperations.ts`; this is the state that they share.
 */
import { InMemory, type Session, type SessionId, type Sessions } from "@effect-pg-session/core"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type { SessionCondition } from "../CurrentSession.ts"
import type { PresentedCookie, SessionCookies } from "../SessionCookie.ts"
import type { SessionUnavailable } from "../SessionHttpError.ts"
import { answerWith } from "./StoreErrors.ts"

/** What a layer resolves once for all its requests. */
export interface Environment {
  readonly store: Sessions
  readonly cookies: SessionCookies
  readonly clock: Clock.Clock
  readonly memory: InMemory.Memory
}

/** On these services. */
export const makeEnvironment = (services: Omit<Environment, "memory">): Environment => ({
  ...services,
  memory: InMemory.memoryOf(services.store)
})

/** What there is to know of a request. */
export interface PresentingRequest {
  /** The request, as the platform knows it. */
  readonly source: object
  /** Made when they are first read. */
  readonly headers: { readonly [name: string]: string | undefined }
}

/** What the response has to do about the cookie. */
export type CookieChange =
  /** Nothing. */
  | "none"
  /** The session is a new one. */
  | "begin"
  /** The session has a new id. */
  | "issue"
  /** The same id, with a new version, age or signature. */
  | "renew"
  | "clear"

type Found = Exit.Exit<Option.Option<Session>, SessionUnavailable>

const none: Found = Exit.succeed(Option.none())

export class RequestSession {
  readonly environment: Environment
  readonly request: PresentingRequest
  /** What must still hold after an authoritative read. */
  readonly conditions: Array<SessionCondition> = []
  change: CookieChange = "none"
  /** Whether somebody asked for the session, so that the response depends on the cookie. */
  asked = false
  /** Whether the response is on its way, and with it the last chance to set the cookie. */
  sent = false
  /** Called once for a cookie that may not be looked up. */
  private readonly onRefused: () => void
  private decoded: Result.Result<PresentedCookie | undefined, unknown> | undefined = undefined
  private settled: Found | undefined = undefined
  private loading = false
  /** Where others wait for the one that loads. */
  private loaded: Deferred.Deferred<void> | undefined = undefined
  private turns: Semaphore.Semaphore | undefined = undefined

  constructor(environment: Environment, request: PresentingRequest, onRefused: () => void) {
    this.environment = environment
    this.request = request
    this.onRefused = onRefused
  }

  get now(): number {
    return this.environment.clock.currentTimeMillisUnsafe()
  }

  /** The verified cookie; `undefined` where there is none that may be looked up. */
  private presented(): PresentedCookie | undefined {
    this.asked = true
    if (this.decoded === undefined) {
      const { cookies } = this.environment
      // The time is for the age of a cookie only.
      this.decoded = cookies.decode(this.request.headers["cookie"], cookies.settings.maxAge === Infinity ? 0 : this.now)
      if (Result.isFailure(this.decoded)) this.onRefused()
    }
    return Result.isSuccess(this.decoded) ? this.decoded.success : undefined
  }

  /** Whether the browser holds a cookie of the name, be it worth something or not. */
  get hasCookie(): boolean {
    this.presented()
    return this.decoded !== undefined && (Result.isFailure(this.decoded) || this.decoded.success !== undefined)
  }

  /** The session as this request last saw it. */
  get known(): Session | undefined {
    return this.settled !== undefined && Exit.isSuccess(this.settled)
      ? Option.getOrUndefined(this.settled.value)
      : undefined
  }

  /** The id to act on: the session's that was read, or else the one that was presented. */
  get id(): SessionId | undefined {
    return this.settled !== undefined && Exit.isSuccess(this.settled) ? this.known?.id : this.presented()?.id
  }

  /** Whether the request still goes by this id: a login or a rotation may have come in between. */
  isStill(id: SessionId): boolean {
    return this.id !== undefined && Redacted.value(this.id) === Redacted.value(id)
  }

  /** The session, read once. */
  get load(): Effect.Effect<Option.Option<Session>, SessionUnavailable> {
    return Effect.suspend(() => this.read())
  }

  /** The same, within an effect that runs: what memory has is answered at once, as an `Exit`. */
  read(): Effect.Effect<Option.Option<Session>, SessionUnavailable> {
    if (this.settled !== undefined) return this.settled
    // Whoever was loading may have been interrupted: then somebody else does it.
    if (this.loading) {
      this.loaded ??= Deferred.makeUnsafe<void>()
      return Effect.flatMap(Deferred.await(this.loaded), () => this.load)
    }
    const presented = this.presented()
    if (presented === undefined) return this.settle(none)
    const { id, minVersion } = presented
    const remembered = minVersion === undefined ? this.environment.memory.find(id) : undefined
    if (remembered !== undefined) {
      if (presented.renew !== undefined) this.renew()
      return this.settle(Exit.succeed(Option.some(remembered)))
    }
    const find = this.environment.store.find(id, minVersion === undefined ? undefined : { minVersion })
    // Only what is run is awaited by others, and what is run ends.
    const begun = Effect.suspend(() => {
      this.loading = true
      return Effect.catch(find, answerWith)
    })
    const settled = Effect.onExitPrimitive(begun, (exit) => {
      const { loaded } = this
      this.loading = false
      this.loaded = undefined
      // A login may have come in between, and then knows better.
      if (this.settled === undefined && !Exit.hasInterrupts(exit)) {
        this.settled = exit
        if (presented.renew !== undefined && this.known !== undefined) this.renew()
      }
      if (loaded !== undefined) Deferred.doneUnsafe(loaded, Exit.void)
      return undefined
    })
    return Effect.flatMap(settled, (found) => this.settled ?? Exit.succeed(found))
  }

  /** The session from the database, now. */
  get reload(): Effect.Effect<Option.Option<Session>, SessionUnavailable> {
    return Effect.suspend(() => {
      const { id } = this
      if (id === undefined) return this.load
      return this.environment.store.find(id, { refresh: true }).pipe(
        Effect.catch(answerWith),
        // A login or a rotation beside it knows better.
        Effect.flatMap((found) => (this.isStill(id) ? this.settle(Exit.succeed(found)) : this.load))
      )
    })
  }

  private settle(found: Found): Found {
    this.settled = found
    return found
  }

  private renew(): void {
    if (this.change === "none") this.change = "renew"
  }

  /** The session is a new one, or has another id now. */
  issued(session: Session, change: "begin" | "issue"): Session {
    this.settle(Exit.succeed(Option.some(session)))
    // Of a session that this request has begun nobody else can have the id.
    if (this.change !== "begin" || change === "begin") this.change = change
    return session
  }

  /** A newer state of the session, unless the request has moved on to another session or id meanwhile. */
  written(session: Session): Session {
    const { known } = this
    if (this.settled !== undefined && known === undefined && Exit.isSuccess(this.settled)) return session
    if (known !== undefined && (!this.isStill(session.id) || known.version > session.version)) return session
    this.settle(Exit.succeed(Option.some(session)))
    if (this.environment.cookies.settings.readYourWrites) this.renew()
    return session
  }

  /** The session is no more; the cookie is kept. */
  gone(): void {
    this.settle(none)
    if (this.change !== "clear") this.change = "none"
  }

  /** The session was ended on demand. */
  ended(): void {
    this.gone()
    this.change = this.hasCookie ? "clear" : "none"
  }

  /**
   * One at a time, whatever a handler does at once: a request begins one guest's session at most, and none that replaces
   * the login beside it.
   */
  private inTurn<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      this.turns ??= Semaphore.makeUnsafe(1)
      return this.turns.withPermit(effect)
    })
  }

  /**
   * For what changes the cookie: dies when the response is on its way, before and after. Once begun it is not interrupted,
   * because the response must not leave without the new id when the old one is worthless.
   */
  beforeResponse<A, E, R>(operation: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    const tooLate = Effect.suspend(() =>
      this.sent || isWebSocket(this.request)
        ? Effect.die(
            new Error(
              `CurrentSession.${operation} came after the response's headers, so the cookie cannot be sent any more: call it before the handler answers, not in the body of a stream, in a WebSocket, or in a fiber that outlives the handler`
            )
          )
        : Effect.void
    )
    return Effect.uninterruptible(
      this.inTurn(
        Effect.andThen(
          tooLate,
          Effect.tap(effect, () => tooLate)
        )
      )
    )
  }
}

/** Its handshake is answered without a cookie. */
const isWebSocket = ({ headers }: PresentingRequest): boolean => headers["upgrade"]?.toLowerCase() === "websocket"
