/**
 * What `PgConnection` takes out of its settings before it connects, for what this
 * library must know as well: where the server is, and what the connection is
 * called. The rules are those that `PgConnection.Config` documents: what is given by itself wins over the URL, and a
 * parameter of the URL over its other parts.
 */
import type { PgConnection } from "@effect/sql-pg"
import * as Redacted from "effect/Redacted"
import type * as Net from "node:net"

type Settings = Pick<
  PgConnection.Config,
  "url" | "host" | "port" | "path" | "applicationName" | "startupParameters" | "keepAlive"
>

/** A URL that cannot be read says nothing here; connecting then fails by itself. */
const parse = (url: Redacted.Redacted | undefined): URL | undefined => {
  const text = url === undefined ? "" : Redacted.value(url)
  return URL.canParse(text) ? new URL(text) : undefined
}

const parameter = (url: URL | undefined, name: string): string | undefined => url?.searchParams.getAll(name).at(-1)

const hostname = (url: URL | undefined): string | undefined =>
  url === undefined || url.hostname === "" ? undefined : decodeURIComponent(url.hostname.replace(/^\[(.*)\]$/, "$1"))

/** Where the socket goes. Only for settings that `PgConnection` has accepted. */
export const address = (settings: Settings): Net.TcpNetConnectOpts | Net.IpcNetConnectOpts => {
  const url = parse(settings.url)
  const host = settings.host ?? parameter(url, "host") ?? hostname(url) ?? "localhost"
  const port = settings.port ?? Number(parameter(url, "port") ?? (url?.port || 5432))
  const path = settings.path ?? (host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : undefined)
  return path === undefined ? { host, port } : { path }
}

/** The application's name where somebody gave one. */
export const applicationName = (settings: Settings): string | undefined => {
  const named = Object.entries(settings.startupParameters ?? {}).find(
    ([name]) => name.toLowerCase() === "application_name"
  )
  return settings.applicationName ?? named?.[1] ?? parameter(parse(settings.url), "application_name")
}
