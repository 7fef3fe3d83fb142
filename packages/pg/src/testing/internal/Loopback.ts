/**
 * Free ports on 127.0.0.1 for servers that come and go on the same port.
 *
 * They are taken from below the range that operating systems hand out to
 * outgoing connections. Otherwise, while the server is down, a client that keeps
 * trying to connect can be given the very port it dials, connect to itself, and
 * so keep the server from coming back.
 */
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import * as Net from "node:net"

/** The only address that the test servers listen on. */
export const host = "127.0.0.1"

const lowest = 10_000
const highest = 32_000
const attempts = 50

/** Listens on `port`; the effect fails with the socket error where it cannot. */
export const listen = (server: Net.Server, port: number): Effect.Effect<void, Error> =>
  Effect.callback<void, Error>((resume) => {
    const onError = (error: Error) => resume(Effect.fail(error))
    server.once("error", onError)
    server.listen({ host, port }, () => {
      server.off("error", onError)
      resume(Effect.void)
    })
  })

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const server = Net.createServer()
    return Effect.matchEffect(listen(server, port), {
      onFailure: () => Effect.succeed(false),
      onSuccess: () =>
        Effect.callback<boolean>((resume) => {
          server.close(() => resume(Effect.succeed(true)))
        })
    })
  })

/**
 * A port that nobody listens on right now, or `undefined` after 50 occupied
 * ones. Somebody may take it before the caller does, so callers try again.
 */
export const freePort: Effect.Effect<number | undefined> = Effect.gen(function* () {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = randomInt(lowest, highest)
    if (yield* isFree(port)) return port
  }
  return undefined
})

/** Resolves to `true` where something accepts connections on the port. */
export const accepts = (port: number): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect({ host, port })
    socket.once("connect", () => resume(Effect.succeed(true)))
    socket.once("error", () => resume(Effect.succeed(false)))
    socket.once("close", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })
