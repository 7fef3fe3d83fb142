/**
 * The sockets of some connections, so that closing the connections has an end.
 *
 * `@effect/sql-pg` closes a connection by asking the server to, and gives up a
 * statement five seconds after it was told to. Where the network is silent, the first keeps the socket, and with it
 * the process, for many minutes, and the second holds up whoever closes. Here the
 * sockets are known, and those that have not closed in time are destroyed, which ends whatever waits for them.
 */
import type { PgConnection } from "@effect/sql-pg"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Endpoint from "./Endpoint.ts"
import { inRealTime } from "./RealTime.ts"

/** The sockets of all connections that were opened with the same settings. */
export interface Sockets {
  /** The settings, with which connections must be opened. */
  readonly track: <Settings extends PgConnection.Config>(settings: Settings) => Settings
  /** Waits until all sockets have closed by themselves, half a second at most, and destroys those that have not, and any later one. */
  readonly end: Effect.Effect<void>
}

const patience = "500 millis"

/** Makes a set of sockets. */
export const make = (): Sockets => {
  const open = new Set<Duplex>()
  const waiting = new Set<() => void>()
  let ended = false

  const add = (socket: Duplex): Duplex => {
    open.add(socket)
    socket.once("close", () => {
      open.delete(socket)
      if (open.size === 0) for (const resume of waiting) resume()
    })
    if (ended) socket.destroy()
    return socket
  }

  const closed = Effect.callback<void>((resume) => {
    if (open.size === 0) return resume(Effect.void)
    const done = () => resume(Effect.void)
    waiting.add(done)
    return Effect.sync(() => waiting.delete(done))
  })

  return {
    track: (settings) => ({ ...settings, stream: () => add(settings.stream?.() ?? connect(settings)) }),
    end: Effect.andThen(
      Effect.timeoutOption(Effect.interruptible(closed), patience),
      Effect.sync(() => {
        ended = true
        for (const socket of open) socket.destroy()
      })
    ).pipe(inRealTime)
  }
}

/** As `PgConnection` connects by itself; it has checked the settings. */
const connect = (settings: PgConnection.Config): Net.Socket =>
  Net.connect({
    ...Endpoint.address(settings),
    noDelay: true,
    ...(settings.keepAlive !== undefined && {
      keepAlive: true,
      keepAliveInitialDelay: Duration.toMillis(Duration.fromInputUnsafe(settings.keepAlive))
    })
  })
