/** Cookies, requests of other sites, and what a response says. */
import { edit, type Mutation } from "../Mutation.ts"
import { inHttp } from "../TestFiles.ts"

const cookie = "packages/http/src/SessionCookie.ts"
const crypto = "packages/http/src/internal/Crypto.ts"
const header = "packages/http/src/internal/CookieHeader.ts"
const csrf = "packages/http/src/Csrf.ts"
const guard = "packages/http/src/SessionGuard.ts"
const request = "packages/http/src/internal/RequestSession.ts"
const response = "packages/http/src/internal/ResponseCookie.ts"
const operations = "packages/http/src/internal/SessionOperations.ts"
const { concurrency, cookieSigner, guards, hostileCookies, middleware } = inHttp

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "cookie-signature",
    guarantee: "G10",
    step: "a cookie is looked up only if one of our keys has signed it",
    edits: [edit(cookie, `if (signedBy === "refused") return "Forged"`, `if (signedBy === undefined) return "Forged"`)],
    tests: [cookieSigner, hostileCookies]
  },
  {
    name: "cookie-constant-time",
    guarantee: "G9",
    step: "signatures are compared in constant time",
    edits: [
      edit(
        crypto,
        `return timingSafeEqual(Buffer.from(left, "latin1"), Buffer.from(right, "latin1"))`,
        "return left === right"
      )
    ],
    tests: [inHttp.crypto]
  },
  {
    name: "cookie-purpose",
    guarantee: "G10",
    step: "a signature is for one purpose: a cookie's is none of a CSRF token",
    edits: [edit(crypto, `.update(purpose)`)],
    tests: [cookieSigner]
  },
  {
    name: "cookie-doubled",
    guarantee: "G10",
    step: "a cookie that is sent twice is refused",
    edits: [edit(header, "if (value !== undefined) return duplicated")],
    tests: [cookieSigner]
  },
  {
    name: "cookie-header-bound",
    guarantee: "G10",
    step: "a header that is too long is not looked into",
    edits: [edit(header, "if (header.length > maxHeaderLength) return oversized")],
    tests: [cookieSigner, hostileCookies]
  },
  {
    name: "cookie-bound",
    guarantee: "G10",
    step: "a cookie that is too long is not looked into",
    edits: [edit(cookie, `if (name.length + sent.length > maxCookieLength) return "Oversized"`)],
    tests: [cookieSigner, hostileCookies]
  },
  {
    name: "cookie-own-copy",
    guarantee: "G10",
    step: "a cookie that is remembered does not keep the header that it came in",
    edits: [edit(cookie, "const value = ownCopy(sent)", "const value = sent.slice(0)")],
    tests: [hostileCookies]
  },
  {
    name: "cookie-version",
    guarantee: "G2",
    step: "with readYourWrites the version in the cookie is demanded of the store",
    edits: [
      edit(
        request,
        "minVersion === undefined ? undefined : { minVersion }",
        "minVersion === undefined ? undefined : {}"
      )
    ],
    tests: [middleware]
  },
  {
    name: "csrf-foreign",
    guarantee: "G10",
    step: "what comes from another site is refused",
    edits: [edit(csrf, `if (from === "foreign") return rejected`, `if (from === "foreign") return Effect.void`)],
    tests: [guards]
  },
  {
    name: "csrf-token",
    guarantee: "G10",
    step: "where nothing shows the origin a token is needed",
    edits: [edit(csrf, "(isOurs ? Effect.void : rejected)", '(isOurs || from === "none" ? Effect.void : rejected)')],
    tests: [guards]
  },
  {
    name: "csrf-token-session",
    guarantee: "G10",
    step: "the token is bound to the session",
    edits: [edit(operations, "return `${nonce}.${session.key}.${login}`", "return `${nonce}.${login}`")],
    tests: [guards]
  },
  {
    name: "csrf-token-login",
    guarantee: "G10",
    step: "and to the login",
    edits: [
      edit(
        operations,
        "return `${nonce}.${session.key}.${login}`",
        'return `${nonce}.${session.key}.${typeof login}`.replace(/\\w+$/, "")'
      )
    ],
    tests: [guards]
  },
  {
    name: "csrf-encryption",
    guarantee: "G10",
    step: "a page without encryption is another origin",
    edits: [
      edit(
        csrf,
        `if (protocol !== "https:" && !(protocol === "http:" && isLocal(hostname))) return false`,
        `if (protocol === hostname && isLocal(hostname)) return false`
      )
    ],
    tests: [guards]
  },
  {
    name: "csrf-websocket",
    guarantee: "G10",
    step: "the opening of a WebSocket counts as a change",
    edits: [
      edit(
        csrf,
        `safeMethods.has(request.method) && request.headers["upgrade"] === undefined`,
        "safeMethods.has(request.method)"
      )
    ],
    tests: [guards]
  },
  {
    name: "guard-current-id",
    guarantee: "G4",
    step: "an id that was replaced has no part in the rights for which it was replaced",
    edits: [edit(guard, "Session.hasCurrentId(session) ? condition(session) : stepUpRequired", "condition(session)")],
    tests: [guards]
  },
  {
    name: "guard-authoritative",
    guarantee: "G1",
    step: "a route that demands it reads the database",
    edits: [edit(request, "find(id, { refresh: true })", "find(id)")],
    tests: [guards]
  },
  {
    name: "guard-authoritative-repeats",
    guarantee: "G1",
    step: "and checks again what other guards have demanded",
    edits: [edit(operations, "this.request.conditions.push(condition)", "this.request.conditions.concat(condition)")],
    tests: [guards]
  },
  {
    name: "login-rotates",
    guarantee: "G9",
    step: "a login gives a guest's session another id, so that nobody can know it beforehand",
    edits: [
      edit(
        operations,
        "Effect.suspend(() => (request.id === undefined ? begin : takeOver(request.id)))",
        "Effect.suspend(() => (request.id === undefined || takeOver === undefined ? begin : begin))"
      )
    ],
    tests: [middleware]
  },
  {
    name: "login-not-interrupted",
    guarantee: "G5",
    step: "a login that has begun is finished, because the old id is worthless by then",
    edits: [edit(request, "return Effect.uninterruptible(\n", "return Effect.suspend(() =>\n")],
    tests: [concurrency]
  },
  {
    name: "login-in-turn",
    guarantee: "G12",
    step: "what a request does at once begins one session at most",
    edits: [edit(request, "return this.turns.withPermit(effect)", "return effect")],
    tests: [concurrency]
  },
  {
    name: "login-too-late",
    guarantee: "G5",
    step: "a login after the response's head dies instead of being lost",
    edits: [edit(request, "this.sent || isWebSocket(this.request)", "isWebSocket(this.request)")],
    tests: [middleware, concurrency]
  },
  {
    name: "response-newer-id",
    guarantee: "G4",
    step: "a response does not bring back an id that another request has replaced",
    edits: [edit(response, "if (!Session.hasCurrentId(found.value)) return Option.none()")],
    tests: [concurrency]
  },
  {
    name: "response-overtaken-write",
    guarantee: "G4",
    step: "a write that a login has overtaken does not bring back the guest's cookie",
    edits: [
      edit(
        request,
        "if (known !== undefined && (!this.isStill(session.id) || known.version > session.version)) return session"
      )
    ],
    tests: [concurrency]
  },
  {
    name: "response-plain",
    guarantee: "G9",
    step: "a new id is not sent in the clear",
    edits: [
      edit(
        response,
        "if (cookies.settings.secure && isPlain(request, cookies) === true) {",
        "if (cookies.settings.secure && isPlain(request, cookies) === null) {"
      )
    ],
    tests: [middleware]
  },
  {
    name: "response-no-store",
    guarantee: "G9",
    step: "a response that sets the cookie is kept by no cache",
    edits: [
      edit(
        response,
        `HttpServerResponse.setHeader(dependsOnCookie(response), "cache-control", "no-store")`,
        "dependsOnCookie(response)"
      )
    ],
    tests: [middleware]
  },
  {
    name: "response-vary",
    guarantee: "G9",
    step: "a response that depends on the cookie says so to caches",
    edits: [
      edit(response, "Effect.succeed(session.asked ? dependsOnCookie(response) : response)", "Effect.succeed(response)")
    ],
    tests: [middleware]
  },
  {
    name: "response-keeps-cookie",
    guarantee: "G5",
    step: "only a logout clears the cookie",
    edits: [edit(request, `if (this.change !== "clear") this.change = "none"`, `this.change = "clear"`)],
    tests: [middleware, concurrency]
  }
]
