import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Files run in parallel processes; a file that needs the installed program builds on `dist/`, made by `npm run build`. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/seed.ts'],
    pool: 'forks',
    // Most files wait for daemons most of their time; one worker on two processors leaves them idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    reporters: ['default'],
  },
})
