/**
 * Changes and beats through PostgreSQL's LISTEN and NOTIFY.
 *
 * PostgreSQL delivers what was notified by committed transactions in the order of
 * the commits, to whoever listens, for as long as the connection lasts. So a
 * subscription is one dedicated connection that fails as a whole and never
 * reconnects by itself: who opens another must look for what was missed.
 *
 * Beats go the way of every write, but on a connection of their own, so that they do not wait behind a burst of
 * statements; they commit a row together with their notification.
 */
import type { PgConnection } from "@effect/sql-pg"
import { PgClient } from "@effect/sql-pg"
import { SessionNotifier, SessionStoreUnavailable } from "@effect-pg-session/core"
import type { Connection, Notifier } from "@effect-pg-session/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Database } from "./internal/Database.ts"
import type { Statements } from "./internal/Database.ts"
import { defaultApplicationName } from "./internal/DatabaseLive.ts"
import * as Endpoint from "./internal/Endpoint.ts"
import * as Listener from "./internal/Listener.ts"
import { beatHead, parse } from "./internal/NotificationPayload.ts"
import * as ServerIdentity from "./internal/ServerIdentity.ts"

/** How to listen. */
export interface Options {
  /** How queries reach PostgreSQL; the listener opens a connection of its own with these settings. */
  readonly connection: PgConnection.Config
  /**
   * Where the listener connects to instead, for when queries go through a pooler. What it leaves out of user, password
   * and database is taken from `connection`'s settings of that name, and so is `ssl`.
   */
  readonly listenUrl?: Redacted.Redacted | undefined
  /** How long subscribing may take, from connecting to the server's confirmation. Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How many characters of notifications may wait to be applied before the connection fails, each notification counting
   * 64 more. Default: 33 554 432.
   */
  readonly maxBuffered?: number | undefined
}

const defaultConnectTimeout = Duration.seconds(5)
const defaultKeepAlive = Duration.seconds(10)
const defaultMaxBuffered = 32 * 1024 * 1024

/**
 * The notifier. Subscribing fails, and says why, on a server in recovery. Behind a
 * pooler in transaction mode it succeeds and hears nothing, not even its own
 * beats; a warning is logged where a pooler is noticed.
 */
export const layer = (options: Options): Layer.Layer<SessionNotifier, never, Database> =>
  Layer.effect(
    SessionNotifier,
    Effect.flatMap(Database, (database) => make(database, options))
  )

/** The notifier with the settings of the application's `PgClient`. Its listener is a connection beside the client's pool. */
export const layerFromClient = (
  options?: Omit<Options, "connection">
): Layer.Layer<SessionNotifier, never, Database | PgClient.PgClient> =>
  Layer.effect(
    SessionNotifier,
    Effect.gen(function* () {
      const client = yield* PgClient.PgClient
      return yield* make(yield* Database, { ...options, connection: client.config })
    })
  )

const make = Effect.fnUntraced(function* (
  database: Statements,
  options: Options
): Effect.fn.Return<Notifier, never, Scope.Scope> {
  const { names } = database
  // Both kinds of connections must describe a server by the same parts: what one of them cannot have is left out for good.
  let level = 0
  let probed = false
  let warned = false

  const identify = <A>(
    ask: (expression: string) => Effect.Effect<A, SessionStoreUnavailable>
  ): Effect.Effect<A, SessionStoreUnavailable> =>
    Effect.suspend(() => ask(ServerIdentity.expressions[level] ?? ServerIdentity.expressions[0])).pipe(
      Effect.catchIf(
        (error) => isWithheld(error) && level < ServerIdentity.expressions.length - 1,
        () => {
          level++
          return identify(ask)
        }
      )
    )

  const probe = Effect.suspend(() =>
    probed
      ? Effect.void
      : Effect.map(
          identify((expression) => database.reserved.read("identify the server", `select ${expression}`, [])),
          () => {
            probed = true
          }
        )
  )

  const subscribed = Effect.fnUntraced(function* (listener: Listener.Listener) {
    const [row] = yield* identify((expression) =>
      listener.query(`select pg_is_in_recovery(), ${expression}, pg_backend_pid()`)
    )
    const server = serverOf(row?.[1], row?.[0])
    if (server.inRecovery) return yield* inRecovery()
    if (row?.[2] !== listener.processId && !warned) {
      warned = true
      yield* Effect.logWarning(poolerWarning)
    }
    return { server, take: Effect.map(listener.take, (payloads) => payloads.map(parse)) } satisfies Connection
  })

  const { open } = yield* Listener.make(
    {
      connection: connectionOf(options),
      channel: names.channel,
      openTimeout: options.connectTimeout ?? defaultConnectTimeout,
      maxBuffered: options.maxBuffered ?? defaultMaxBuffered
    },
    subscribed
  )

  // A full queue stays full, also when whoever held it up is gone: only a commit that notifies would move its end, and is
  // refused. So does asking how full it is.
  const makeRoom = Effect.ignore(
    database.reserved.read("make room for notifications", "select pg_notification_queue_usage()", [])
  )

  const beat = (node: string, nonce: string) =>
    Effect.suspend(() =>
      database.reserved.write("send a beat", beatSql(names.beats, ServerIdentity.expressions[level]), [
        node,
        nonce,
        names.channel
      ])
    ).pipe(
      Effect.tapError((error) => {
        if (isQueueFull(error)) return makeRoom
        // Another server may withhold more than the one that was probed.
        if (isWithheld(error)) probed = false
        return Effect.void
      }),
      Effect.map(([row]) => ({ now: Number(row?.[0]), server: serverOf(row?.[1], row?.[2]) }))
    )

  return {
    connect: Effect.andThen(probe, open),
    beat: (node, nonce) => Effect.andThen(probe, beat(node, nonce))
  }
})

// Managed services refuse in their own ways. Only what passes is no refusal: lack of resources, intervention, conflicts.
const isWithheld = (error: SessionStoreUnavailable): boolean =>
  error.reason === "DatabaseError" && !/^(?:53|54|57|40)/.test(error.detail)

// The one limit of a program that a beat can exceed; the message may be in any language.
const isQueueFull = (error: SessionStoreUnavailable): boolean => error.detail.startsWith("54000")

const beatSql = (beats: string, identity: string | undefined): string => `with beaten as (
  insert into ${beats} as b (node, beat_at) values ($1, clock_timestamp())
  on conflict (node) do update set beat_at = excluded.beat_at
  returning b.node
), announced as (
  select pg_notify($3, '${beatHead}' || $2::text) from beaten
)
select (extract(epoch from clock_timestamp()) * 1000)::float8, ${identity}, pg_is_in_recovery(),
  (select count(*)::int4 from announced)`

const serverOf = (identity: unknown, inRecovery: unknown) => ({
  identity: String(identity),
  inRecovery: inRecovery === true
})

const inRecovery = () =>
  new SessionStoreUnavailable({
    operation: Listener.operation,
    reason: "DatabaseError",
    outcome: "NotApplied",
    detail:
      "the server is in recovery (a standby) and delivers no notifications: point the url or listenUrl to the primary"
  })

const poolerWarning =
  "The session listener's connection goes through a pooler. In transaction mode it hears nothing: set listenUrl to the server's own URL"

const connectionOf = ({ connection, listenUrl }: Options): PgConnection.Config => {
  const named = Endpoint.applicationName(connection) ?? Endpoint.applicationName({ url: listenUrl })
  const applicationName = `${named ?? defaultApplicationName} listener`
  const keepAlive = connection.keepAlive ?? defaultKeepAlive
  const behindPooler = connection.prepare === false && listenUrl === undefined
  const startupParameters = {
    // Notifications do not count as activity: a server that ends idle sessions would end this one.
    ...(!behindPooler && { idle_session_timeout: "0" }),
    ...connection.startupParameters
  }
  const common = { applicationName, keepAlive, startupParameters, multiplex: false, prepare: false, types: undefined }
  if (listenUrl === undefined) return { ...connection, ...common }
  const text = Redacted.value(listenUrl)
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  return {
    ...common,
    url: listenUrl,
    ssl: connection.ssl,
    connectTimeout: connection.connectTimeout,
    username: parsed?.username ? undefined : connection.username,
    password: parsed?.password ? undefined : connection.password,
    database: (parsed?.pathname.length ?? 0) > 1 ? undefined : connection.database
  }
}
