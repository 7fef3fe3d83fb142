/**
 * All tests, from source. Vitest does not look for this file by itself: run
 * `vitest run --config vitest.workspace.ts` (that is `npm test`).
 */
import { defineConfig } from "vitest/config"

// Both lists matter: without the second one, tests silently read a stale `dist`.
const conditions = ["@effect-pg-session/source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: { name: "core", root: "packages/core", include: ["test/**/*.test.ts"] }
      },
      {
        extends: true,
        test: {
          name: "pg",
          root: "packages/pg",
          include: ["test/**/*.test.ts"],
          globalSetup: ["test/support/globalSetup.ts"]
        }
      },
      {
        extends: true,
        test: {
          name: "http",
          root: "packages/http",
          include: ["test/**/*.test.ts"],
          globalSetup: ["../pg/test/support/globalSetup.ts"]
        }
      },
      {
        extends: true,
        test: { name: "faults", root: "faults", include: ["test/**/*.test.ts"] }
      },
      {
        extends: true,
        test: {
          name: "web",
          root: "examples/web",
          include: ["test/**/*.test.ts"],
          globalSetup: ["../../packages/pg/test/support/globalSetup.ts"]
        }
      }
    ]
  }
})
