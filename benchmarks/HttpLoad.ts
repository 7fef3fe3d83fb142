/**
 * A client that asks a server over connections that stay open, one request at a time on each, and compares every
 * answer, byte for byte, with what it must be. It does little else, so that what is measured is the server.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { NotMeasured } from "./Interleaved.ts"

/** A request, and the body that must come back with status 200. */
export interface Exchange {
  readonly request: Buffer
  readonly body: Buffer
}

/** A request for `GET /value` with a cookie. */
export const exchange = (cookie: string, body: string): Exchange => ({
  request: Buffer.from(`GET /value HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: ${cookie}\r\n\r\n`),
  body: Buffer.from(body)
})

const status = Buffer.from("HTTP/1.1 200 ")
const headEnd = Buffer.from("\r\n\r\n")
const lengthOf = (head: string): number => Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN)

class Connection {
  private readonly socket: Net.Socket
  private received = Buffer.alloc(0)
  private settle: (isRight: boolean) => void = () => {}
  private expected: Buffer = headEnd

  constructor(socket: Net.Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on("data", (chunk) => {
      this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk])
      const head = this.received.indexOf(headEnd)
      if (head < 0) return
      const begin = head + headEnd.length
      const length = lengthOf(this.received.toString("latin1", 0, head))
      if (this.received.length < begin + length) return
      const isRight =
        this.received.subarray(0, status.length).equals(status) && this.received.subarray(begin).equals(this.expected)
      this.received = Buffer.alloc(0)
      this.settle(isRight)
    })
    socket.on("close", () => this.settle(false))
    socket.on("error", () => {})
  }

  /** Whether the answer is what it must be; not, where the server hangs up. */
  ask({ body, request }: Exchange, settle: (isRight: boolean) => void): void {
    this.settle = settle
    this.expected = body
    // Not at once: whoever is told asks again, and there is no end to the stack then.
    if (this.socket.destroyed) setImmediate(() => settle(false))
    else this.socket.write(request)
  }

  close(): void {
    this.socket.destroy()
  }
}

const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Connection, NotMeasured>((resume) => {
      const socket = Net.connect({ port, host: "127.0.0.1" })
      socket.once("connect", () => resume(Effect.succeed(new Connection(socket))))
      socket.once("error", (error) => resume(Effect.fail(new NotMeasured({ message: error.message }))))
    }),
    (connection) => Effect.sync(() => connection.close())
  )

/** So many connections; the result asks for so many exchanges, in turn, and answers how many were right. */
export const make = Effect.fnUntraced(function* (
  port: number,
  connections: number,
  exchanges: ReadonlyArray<Exchange>
) {
  const open = yield* Effect.forEach(Array.from({ length: connections }), () => connect(port))
  let next = 0
  return (count: number): Effect.Effect<number> =>
    Effect.callback<number>((resume) => {
      let begun = 0
      let done = 0
      let right = 0
      const step = (connection: Connection): void => {
        if (begun === count) return
        begun++
        connection.ask(exchanges[next++ % exchanges.length] as Exchange, (isRight) => {
          if (isRight) right++
          if (++done === count) resume(Effect.succeed(right))
          else step(connection)
        })
      }
      for (const connection of open) step(connection)
    })
})
