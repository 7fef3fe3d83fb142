/**
 * The session for endpoints of an `HttpApi`: the same `CurrentSession` as in routes,
 * declared so that the OpenAPI page shows the cookie and generated clients know
 * the errors. Put it on the group after its endpoints (the last `.middleware` is the
 * outermost), and guards on the endpoints: `.middleware` covers what the group has so
 * far, so that an endpoint which is added afterwards is open to everybody, without a word.
 *
 * - `SessionApi` demands a user who is logged in, and provides `CurrentSession` and `Authenticated`.
 * - `OptionalSessionApi` provides `CurrentSession` to endpoints that work without a session, too.
 * - `AnonymousSessionApi` does that, and names the choice to go on with nobody while the store is down.
 */
import { InvalidSessionConfig, type SessionStore } from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as Layer from "effect/Layer"
import { AnonymousWhenUnavailable, Authenticated, CurrentSession } from "./CurrentSession.ts"
import { checkCsrf, type CsrfOptions } from "./Csrf.ts"
import * as Attach from "./internal/Attach.ts"
import { defaultName } from "./internal/CookieSettings.ts"
import { requireNow } from "./internal/SessionOperations.ts"
import { SessionCookie } from "./SessionCookie.ts"
import type { SessionGuard } from "./SessionGuard.ts"
import {
  CsrfRejected,
  SessionHttpErrors,
  SessionUnavailable,
  StepUpRequired,
  Unauthenticated
} from "./SessionHttpError.ts"

/** Options of {@link SessionApiService}. */
export interface SessionApiOptions {
  /** The name that the OpenAPI page shows; must be the one of `SessionCookie`. */
  readonly cookieName: string
}

type Errors = typeof SessionHttpErrors

/** A middleware for APIs that demands a user who is logged in. */
export type SessionApiClass<Self, Id extends string> = HttpApiMiddleware.ServiceClass<
  Self,
  Id,
  {
    requires: never
    provides: CurrentSession | Authenticated
    error: Errors
    clientError: never
    requiredForClient: false
    security: { readonly [scheme: string]: HttpApiSecurity.ApiKey }
  }
> & {
  /** Fails with `InvalidSessionConfig` where the cookie has another name than the API shows. */
  readonly layer: Layer.Layer<Self, InvalidSessionConfig, SessionStore | SessionCookie>
}

/**
 * Makes a `SessionApi` for a cookie of another name.
 *
 * @example
 * ```ts
 * class ShopSessionApi extends SessionApiService<ShopSessionApi>()("ShopSessionApi", { cookieName: "__Secure-shop" }) {}
 * ```
 */
export const SessionApiService =
  <Self>() =>
  <const Id extends string>(id: Id, { cookieName }: SessionApiOptions): SessionApiClass<Self, Id> => {
    // One document may show several cookies: each needs a scheme of its own.
    const scheme = cookieName === defaultName ? "session" : `session.${cookieName.replaceAll(/[^A-Za-z0-9._-]/g, "_")}`
    const service = HttpApiMiddleware.Service<Self, { provides: CurrentSession | Authenticated }>()(id, {
      error: SessionHttpErrors,
      security: { [scheme]: HttpApiSecurity.apiKey({ in: "cookie", key: cookieName }) }
    })
    const layer = Layer.effect(
      service,
      Effect.gen(function* () {
        const attach = Attach.attach(yield* Attach.environment)
        const { settings } = yield* SessionCookie
        if (settings.name !== cookieName) {
          return yield* new InvalidSessionConfig({
            setting: "name",
            value: JSON.stringify(settings.name),
            allowed: `"${cookieName}", which is what ${id} shows in its OpenAPI document; make one for another name with SessionApiService`
          })
        }
        return {
          // The credential that the API decodes hides duplicates: the header is what counts.
          [scheme]: (handler) =>
            attach((current) =>
              Effect.flatMapEager(requireNow(current), (session) =>
                Effect.provideService(handler, Authenticated, session)
              )
            )
        }
      })
    )
    return Object.assign(service, { layer })
  }

/**
 * The session for endpoints that need a user who is logged in, in a cookie of the default name: provides `CurrentSession` and
 * `Authenticated`, fails with `Unauthenticated` (401), and declares every error of this package.
 *
 * @example
 * ```ts
 * class Cart extends HttpApiGroup.make("cart")
 *   .add(HttpApiEndpoint.get("items", "/cart", { success: Schema.Array(Schema.String) }))
 *   .middleware(SessionApi) {}
 * ```
 */
export class SessionApi extends SessionApiService<SessionApi>()("@effect-pg-session/http/SessionApi", {
  cookieName: defaultName
}) {}

const optionalErrors = { error: SessionHttpErrors } as const

/** The session for endpoints that work without one, too: provides `CurrentSession`, and reads nothing unless the handler asks. */
export class OptionalSessionApi extends HttpApiMiddleware.Service<OptionalSessionApi, { provides: CurrentSession }>()(
  "@effect-pg-session/http/OptionalSessionApi",
  optionalErrors
) {
  static readonly layer: Layer.Layer<OptionalSessionApi, never, SessionStore | SessionCookie> = Layer.effect(
    OptionalSessionApi,
    Effect.map(Attach.environment, (environment) => {
      const attach = Attach.attach(environment)
      return OptionalSessionApi.of((handler) => attach(() => handler))
    })
  )
}

/** Like `OptionalSessionApi`, and handlers may use `CurrentSession.getOrAnonymous`, which answers `None` while the store is down. */
export class AnonymousSessionApi extends HttpApiMiddleware.Service<
  AnonymousSessionApi,
  { provides: CurrentSession | AnonymousWhenUnavailable }
>()("@effect-pg-session/http/AnonymousSessionApi", optionalErrors) {
  static readonly layer: Layer.Layer<AnonymousSessionApi, never, SessionStore | SessionCookie> = Layer.effect(
    AnonymousSessionApi,
    Effect.map(Attach.environment, (environment) => {
      const attach = Attach.attach(environment)
      return AnonymousSessionApi.of((handler) =>
        attach(() => Effect.provideService(handler, AnonymousWhenUnavailable, true))
      )
    })
  )
}

const guardErrors = [Unauthenticated, StepUpRequired, SessionUnavailable] as const

/** A middleware for endpoints, made of a guard. */
export type SessionGuardApiClass<Self, Id extends string> = HttpApiMiddleware.ServiceClass<
  Self,
  Id,
  {
    requires: CurrentSession
    provides: Authenticated
    error: typeof guardErrors
    clientError: never
    requiredForClient: false
    security: never
  }
> & { readonly layer: Layer.Layer<Self> }

/**
 * Makes a middleware for endpoints of a guard. It goes on the endpoint, below the group's `SessionApi`.
 *
 * @example
 * ```ts
 * class ElevatedApi extends SessionGuardApi<ElevatedApi>()("ElevatedApi", requireAttribute(Elevated)) {}
 * const transfer = HttpApiEndpoint.post("transfer", "/transfer").middleware(ElevatedApi)
 * ```
 */
export const SessionGuardApi =
  <Self>() =>
  <const Id extends string>(id: Id, guard: SessionGuard): SessionGuardApiClass<Self, Id> => {
    const service = HttpApiMiddleware.Service<Self, { requires: CurrentSession; provides: Authenticated }>()(id, {
      error: guardErrors
    })
    const passed = CurrentSession.use(guard.check)
    const layer = Layer.succeed(service, (handler) =>
      Effect.flatMap(passed, (session) => Effect.provideService(handler, Authenticated, session))
    )
    return Object.assign(service, { layer })
  }

/** The check of `csrf` for endpoints or groups, below a `SessionApi`. */
export class CsrfApi extends HttpApiMiddleware.Service<CsrfApi, { requires: CurrentSession }>()(
  "@effect-pg-session/http/CsrfApi",
  { error: [CsrfRejected, SessionUnavailable] }
) {
  static readonly layer = (options?: CsrfOptions): Layer.Layer<CsrfApi> =>
    Layer.sync(CsrfApi, () => {
      const check = checkCsrf(options)
      return CsrfApi.of((handler) => Effect.andThen(check, handler))
    })
}
