/** One PostgreSQL for the whole run: the server that `DATABASE_URL` names, or an embedded one. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
import { EmbeddedPostgres } from "../../../pg/src/testing/EmbeddedPostgres.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly databaseUrl: string
  }
}

export default async (project: TestProject): Promise<(() => Promise<void>) | undefined> => {
  const given = process.env["DATABASE_URL"]
  if (given) {
    project.provide("databaseUrl", given)
    return undefined
  }
  const scope = Scope.makeUnsafe()
  const context = await Effect.runPromise(Layer.buildWithScope(EmbeddedPostgres.layer(), scope))
  project.provide("databaseUrl", Redacted.value(Context.get(context, EmbeddedPostgres).url))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
