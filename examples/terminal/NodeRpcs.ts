/**
 * What the demo asks of its two nodes. Every figure is taken inside the node, so
 * none contains the way between the processes. Points in time are milliseconds
 * of the machine's monotonic clock, which all processes share.
 */
import * as Schema from "effect/Schema"
import { Rpc, RpcGroup } from "effect/rpc"

/** Milliseconds of the machine's monotonic clock. */
export const monotonicMillis = (): number => Number(process.hrtime.bigint()) / 1_000_000

/** An error of the library as a node met it: its tag and its message. */
export class NodeFailure extends Schema.TaggedError<NodeFailure>()("NodeFailure", {
  error: Schema.String,
  message: Schema.String
}) {}

/** Where an answer came from. */
const Source = Schema.Literals(["memory", "database"])

const Cart = Schema.Array(Schema.String)

/** One session, read. */
export const Reading = Schema.Struct({ source: Source, millis: Schema.Finite, cart: Cart })

/** When a write was sent, and when its answer had arrived. */
export const Write = Schema.Struct({ sentAt: Schema.Finite, answeredAt: Schema.Finite, count: Schema.Int })

/** What a watcher was told; `cart` is null once the session has ended. */
export const Sighting = Schema.Struct({ at: Schema.Finite, cart: Schema.NullOr(Cart) })
export type Sighting = typeof Sighting.Type

/** What a node that reads without a pause observes; one for every change. */
export const Sample = Schema.Struct({
  at: Schema.Finite,
  source: Source,
  cart: Cart,
  synced: Schema.Boolean,
  state: Schema.String,
  problem: Schema.NullOr(Schema.String),
  /** How many reads memory and the database have answered so far. */
  reads: Schema.Struct({ memory: Schema.Int, database: Schema.Int })
})
export type Sample = typeof Sample.Type

/** Something that a node has logged. */
export const LogLine = Schema.Struct({ at: Schema.Finite, level: Schema.String, text: Schema.String })
export type LogLine = typeof LogLine.Type

const error = NodeFailure
const cookie = Schema.String

export class NodeRpcs extends RpcGroup.make(
  /** Answers once the node serves sessions from memory. */
  Rpc.make("Ready"),
  Rpc.make("Login", {
    payload: { user: Schema.String },
    success: Schema.Struct({ cookie, millis: Schema.Finite }),
    error
  }),
  Rpc.make("Read", { payload: { cookie, refresh: Schema.Boolean }, success: Reading, error }),
  /** Reads from memory in a loop; fails if any read was not. */
  Rpc.make("ReadMany", { payload: { cookie, times: Schema.Int }, success: Schema.Finite, error }),
  Rpc.make("Add", { payload: { cookie, item: Schema.String }, success: Write, error }),
  /** Reads the session and keeps what it has read, to be saved by `SaveHeld`. */
  Rpc.make("Hold", { payload: { cookie }, success: Schema.Void, error }),
  Rpc.make("SaveHeld", { payload: { item: Schema.String }, success: Cart, error }),
  /** Adds all items at once, each by a `modify` of its own; answers how many attempts that took. */
  Rpc.make("AddAll", { payload: { cookie, items: Cart }, success: Schema.Int, error }),
  Rpc.make("StepUp", { payload: { cookie, millis: Schema.Int }, success: Write, error }),
  Rpc.make("IsElevated", { payload: { cookie }, success: Schema.Boolean, error }),
  Rpc.make("LogOutEverywhere", { payload: { user: Schema.String }, success: Write, error }),
  Rpc.make("Watch", { payload: { cookie }, success: Sighting, error, stream: true }),
  /** Reads every millisecond for as long as somebody listens. */
  Rpc.make("Observe", { payload: { cookie }, success: Sample, error, stream: true }),
  /** All that the node has logged and will log. */
  Rpc.make("Logs", { success: LogLine, stream: true })
) {}
