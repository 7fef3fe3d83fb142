export type { ProvidedContext } from "vitest"

declare module "vitest" {
  export interface ProvidedContext {
    /** The run's PostgreSQL, started by the tests of the PostgreSQL adapter. */
    readonly databaseUrl: string
  }
}
