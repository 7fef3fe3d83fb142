/**
 * One node of the application: an HTTP server with the session layer, in a process of
 * its own. It says where it listens on its standard output, and ends on SIGTERM.
 */
import { PgSession } from "@effect-pg-session/pg"
import { SessionCookie, SessionMetrics } from "@effect-pg-session/http"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"
import * as App from "./App.ts"
import { ListenerSwitch } from "./ListenerSwitch.ts"

const SessionsLive = Layer.unwrap(
  Effect.gen(function* () {
    const { url: listenUrl } = yield* ListenerSwitch
    return PgSession.layerConfig({
      url: Config.Redacted("DATABASE_URL"),
      listenUrl: Config.succeed(listenUrl),
      schemaName: Config.String("SESSION_SCHEMA_NAME").pipe(Config.withDefault("public")),
      nodeName: Config.String("NODE_NAME"),
      // Short, so that one sees within seconds what happens when the listener is cut.
      maxStaleness: Config.succeed("2 seconds"),
      shutdownTimeout: Config.succeed("2 seconds")
    })
  })
)

const ServerLive = Layer.unwrap(
  Effect.gen(function* () {
    const name = yield* Config.String("NODE_NAME")
    const port = yield* Config.Port("PORT")
    const otherUrl = yield* Config.String("OTHER_URL")
    const routes = Layer.mergeAll(App.make({ name, processId: process.pid, otherUrl }), PrometheusMetrics.layerHttp())
    return HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provide(
        NodeHttpServer.layer(createServer, { port, host: "localhost", gracefulShutdownTimeout: "500 millis" })
      ),
      Layer.tap(() => Effect.sync(() => void process.stdout.write("ready\n")))
    )
  })
).pipe(
  Layer.provide(SessionMetrics.layer),
  Layer.provide(SessionCookie.layerConfig),
  Layer.provide(SessionsLive),
  Layer.provide(ListenerSwitch.layer)
)

// The supervisor is gone, however it ended: end in an orderly way, and soon.
process.once("disconnect", () => {
  process.kill(process.pid, "SIGTERM")
  setTimeout(() => process.exit(1), 5_000).unref()
})

NodeRuntime.runMain(Layer.launch(ServerLive))
