/**
 * How sessions are doing on this node, through effect's `Metric`: what any exporter
 * (such as `PrometheusMetrics`) shows. What happens seldom is counted from the
 * store's events; what happens on every read is not counted again but read from
 * the store's own figures when an exporter looks, so that a read from memory costs
 * the same with and without.
 */
import { type SessionEvent, type SessionHealth, SessionStore } from "@effect-pg-session/core"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"

const incremental = true

const counted: { readonly [Tag in SessionEvent["_tag"]]?: Metric.Counter<number> } = {
  Created: Metric.counter("session_created", { description: "Sessions begun on this node", incremental }),
  Rotated: Metric.counter("session_rotated", { description: "Sessions given a new id on this node", incremental }),
  Deleted: Metric.counter("session_deleted", { description: "Sessions ended on this node", incremental }),
  Evicted: Metric.counter("session_evicted", {
    description: "Sessions ended for another login of their user",
    incremental
  }),
  Expired: Metric.counter("session_expired", {
    description: "Expired sessions that this node has removed",
    incremental
  }),
  SecretReused: Metric.counter("session_secret_reused", {
    description: "Former ids that were presented after their grace: they may have been stolen",
    incremental
  })
}

type Reading = readonly [name: string, description: string, read: (health: SessionHealth) => number]

/** Figures that only grow. */
const totals: ReadonlyArray<Reading> = [
  ["session_cache_hits", "Sessions served from memory", ({ cache }) => cache.hits],
  ["session_cache_misses", "Sessions asked for in the database", ({ cache }) => cache.misses],
  [
    "session_cache_invalidations",
    "Sessions dropped from memory because something changed",
    ({ cache }) => cache.invalidations
  ],
  ["session_cache_evictions", "Sessions dropped from memory for lack of room", ({ cache }) => cache.evicted],
  ["session_activity_written", "Last accesses that were written", ({ activity }) => activity.written],
  ["session_activity_failures", "Attempts to write last accesses that failed", ({ activity }) => activity.failures],
  ["session_listener_reconnects", "Connections of the listener that were lost", ({ listener }) => listener.reconnects]
]

/** Figures that come and go. */
const levels: ReadonlyArray<Reading> = [
  ["session_synced", "1 while sessions are served from memory, 0 otherwise", ({ synced }) => (synced ? 1 : 0)],
  [
    "session_staleness_seconds",
    "How far back this node's knowledge may be",
    ({ staleness }) => Duration.toSeconds(staleness)
  ],
  [
    "session_beats_missed",
    "Beats that were sent and have not come back; one is usually on its way",
    ({ listener }) => Math.max(0, listener.beatsSent - listener.beatsReturned)
  ],
  ["session_cache_size", "Sessions in memory", ({ cache }) => cache.size],
  ["session_activity_pending", "Sessions whose last access waits to be written", ({ activity }) => activity.pending],
  ["session_updates_pending", "Updates that wait for a statement", ({ pendingUpdates }) => pendingUpdates],
  ["session_watched", "Sessions that are watched", ({ watched }) => watched]
]

const ignored = { update: () => undefined, modify: () => undefined }

/** Registers a series that is read when somebody looks, until the scope closes. */
const observe = (registration: () => Metric.Registration) =>
  Effect.acquireRelease(Effect.sync(registration), ({ remove }) => Effect.sync(remove))

/**
 * The metrics, as a layer beside the store.
 *
 * Counters: `session_created`, `session_rotated`, `session_deleted`, `session_evicted`, `session_expired`, `session_secret_reused`,
 * `session_cache_hits`, `session_cache_misses`, `session_cache_invalidations`, `session_cache_evictions`, `session_activity_written`,
 * `session_activity_failures`, `session_listener_reconnects`. Gauges: `session_synced`, `session_staleness_seconds` (infinite
 * while unknown), `session_beats_missed`, `session_cache_size`, `session_activity_pending`, `session_updates_pending`, `session_watched`.
 * `session_cookies_refused` and `session_csrf_rejections` are counted by the middleware, with or without this layer.
 */
export class SessionMetrics extends Context.Service<SessionMetrics, true>()("@effect-pg-session/http/SessionMetrics") {
  static readonly layer: Layer.Layer<SessionMetrics, never, SessionStore> = Layer.effect(
    SessionMetrics,
    Effect.gen(function* () {
      const sessions = yield* SessionStore
      const context = yield* Effect.context<never>()
      const read = Effect.runSyncWith(context)
      const value = (of: Reading[2]): number => of(read(sessions.health))
      for (const [name, description, of] of totals) {
        const metric = Metric.counter(name, { description, incremental })
        yield* observe(() =>
          Metric.registerUnsafe(metric, context, { get: () => ({ count: value(of), incremental }), ...ignored })
        )
      }
      for (const [name, description, of] of levels) {
        const metric = Metric.gauge(name, { description })
        yield* observe(() => Metric.registerUnsafe(metric, context, { get: () => ({ value: value(of) }), ...ignored }))
      }
      const count = (event: SessionEvent): Effect.Effect<void> => {
        const counter = counted[event._tag]
        return counter === undefined ? Effect.void : Metric.update(counter, 1)
      }
      yield* Effect.forkScoped(Stream.runForEach(sessions.events, count), { startImmediately: true })
      return true as const
    })
  )
}
