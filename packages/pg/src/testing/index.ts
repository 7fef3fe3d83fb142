/**
 * What tests of sessions on PostgreSQL need: a real server from npm, and the
 * faults that production has.
 */
export { EmbeddedPostgres, EmbeddedPostgresError } from "./EmbeddedPostgres.ts"
export type { EmbeddedPostgresOptions, EmbeddedPostgresService } from "./EmbeddedPostgres.ts"
export * as PgBouncer from "./PgBouncer.ts"
export * as TcpProxy from "./TcpProxy.ts"
