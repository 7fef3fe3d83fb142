/**
 * A TCP proxy inside this process that misbehaves on demand: between a client
 * and PostgreSQL it makes the network failures that matter, in particular the
 * silent ones, without privileges and without touching either end.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Loopback from "./internal/Loopback.ts"

/** The proxy could not listen on 127.0.0.1. */
export class TcpProxyError extends Data.TaggedError("TcpProxyError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** A proxy on a port of its own; every effect takes hold at once, for all connections. */
export interface TcpProxy {
  /** Always `127.0.0.1`. */
  readonly host: string
  /** The TCP port; it stays the same through `refuse` and `accept`. */
  readonly port: number
  /** The same URL, but through the proxy. */
  readonly url: (target: Redacted.Redacted<string>) => Redacted.Redacted<string>
  /**
   * A black hole: connections stay open, new ones are accepted, and nothing
   * passes in either direction, not even the end of a connection. What was
   * sent meanwhile arrives after `resume`, as it would after a partition of the
   * network.
   */
  readonly pause: Effect.Effect<void>
  /** Only the answers are held back: requests arrive and take effect, and the client never learns. */
  readonly pauseAnswers: Effect.Effect<void>
  /** Only the requests are held back: what the other end sends by itself arrives. */
  readonly pauseRequests: Effect.Effect<void>
  /** Lets everything pass again, beginning with what was held back. */
  readonly resume: Effect.Effect<void>
  /** Breaks every connection (RST to both ends); what was held back is lost. New connections are served. */
  readonly reset: Effect.Effect<void>
  /** Breaks every connection like `reset`, once so many more bytes of answers have passed: in the middle of one. */
  readonly resetAfter: (bytes: number) => Effect.Effect<void>
  /** Refuses new connections (ECONNREFUSED); open ones go on. */
  readonly refuse: Effect.Effect<void>
  /** Accepts new connections again after `refuse`; fails where somebody took the port meanwhile. */
  readonly accept: Effect.Effect<void, TcpProxyError>
  /** How many client connections are open now. */
  readonly connections: Effect.Effect<number>
}

interface Link {
  readonly client: Net.Socket
  readonly upstream: Net.Socket
}

/**
 * Starts a proxy in front of `target`. When the scope closes, its connections
 * are broken and its port is free again.
 *
 * @example
 * const proxy = yield* TcpProxy.make({ host: postgres.host, port: postgres.port })
 * const client = PgClient.layer({ url: proxy.url(postgres.url) })
 * yield* proxy.pause
 */
export const make = Effect.fnUntraced(function* (target: {
  readonly host: string
  readonly port: number
}): Effect.fn.Return<TcpProxy, TcpProxyError, Scope.Scope> {
  const links = new Set<Link>()
  let held: "nothing" | "answers" | "requests" | "everything" = "nothing"
  let bytesLeft = Infinity

  const applyTo = ({ client, upstream }: Link): void => {
    if (held === "everything" || held === "requests") client.pause()
    else if (!upstream.writableNeedDrain) client.resume()
    if (held === "everything" || held === "answers") upstream.pause()
    else if (!client.writableNeedDrain) upstream.resume()
  }
  const hold = (what: typeof held) =>
    Effect.sync(() => {
      held = what
      links.forEach(applyTo)
    })

  const breakAll = (): void => {
    for (const { client, upstream } of links) {
      client.resetAndDestroy()
      upstream.resetAndDestroy()
    }
  }

  const answer = (client: Net.Socket, chunk: Buffer): boolean => {
    if (chunk.length < bytesLeft) {
      bytesLeft -= chunk.length
      return client.write(chunk)
    }
    client.write(chunk.subarray(0, bytesLeft), breakAll)
    bytesLeft = Infinity
    // Nothing may follow what was cut off.
    return false
  }

  const serve = (client: Net.Socket): void => {
    const upstream = Net.connect({ ...target, allowHalfOpen: true })
    const link = { client, upstream }
    links.add(link)
    forward(
      client,
      upstream,
      () => applyTo(link),
      (chunk) => upstream.write(chunk)
    )
    forward(
      upstream,
      client,
      () => applyTo(link),
      (chunk) => answer(client, chunk)
    )
    client.once("close", () => links.delete(link))
    applyTo(link)
  }

  // A closed server cannot be told to listen again while connections are open, so each `accept` makes one.
  const open = (port: number) =>
    Effect.suspend(() => {
      const created = Net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, serve)
      return Effect.as(Loopback.listen(created, port), created)
    })
  const openSomewhere = Effect.fnUntraced(function* (
    attempts: number
  ): Effect.fn.Return<readonly [Net.Server, number], TcpProxyError> {
    const port = yield* Loopback.freePort
    if (port === undefined) return yield* new TcpProxyError({ message: "No free port was found on 127.0.0.1" })
    return yield* open(port).pipe(
      Effect.map((opened) => [opened, port] as const),
      Effect.catch((cause) => (attempts > 0 ? openSomewhere(attempts - 1) : Effect.fail(cannotListen(port, cause))))
    )
  })

  const reset = Effect.sync(breakAll)
  const [first, port] = yield* openSomewhere(5)
  let server: Net.Server | undefined = first
  const refuse = Effect.sync(() => {
    server?.close()
    server = undefined
  })
  yield* Effect.addFinalizer(() => Effect.andThen(refuse, reset))

  return {
    host: Loopback.host,
    port,
    url: (original) => {
      const url = new URL(Redacted.value(original))
      url.hostname = Loopback.host
      url.port = String(port)
      return Redacted.make(url.href)
    },
    pause: hold("everything"),
    pauseAnswers: hold("answers"),
    pauseRequests: hold("requests"),
    resume: hold("nothing"),
    reset,
    resetAfter: (bytes) =>
      Effect.sync(() => {
        bytesLeft = bytes
      }),
    refuse,
    accept: Effect.suspend(() =>
      server !== undefined
        ? Effect.void
        : open(port).pipe(
            Effect.map((opened) => {
              server = opened
            }),
            Effect.mapError((cause) => cannotListen(port, cause))
          )
    ),
    connections: Effect.sync(() => links.size)
  }
})

const cannotListen = (port: number, cause: Error): TcpProxyError =>
  new TcpProxyError({ message: `Cannot listen on ${Loopback.host}:${port}: ${cause.message}`, cause })

/**
 * Passes on data, end and failure from one socket to the other. `pass` writes, and answers whether more may follow at once;
 * `settle` decides whether more may be read.
 */
const forward = (from: Net.Socket, to: Net.Socket, settle: () => void, pass: (chunk: Buffer) => boolean): void => {
  from.on("data", (chunk: Buffer) => {
    if (!pass(chunk)) from.pause()
  })
  to.on("drain", settle)
  from.on("end", () => to.end())
  from.on("error", () => to.resetAndDestroy())
  from.on("close", () => {
    if (!to.writableEnded) to.destroySoon()
  })
}
