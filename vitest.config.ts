import { defineConfig } from 'vitest/config'

/** Files run in parallel processes; a file that needs the installed program builds on `dist/`, made by `npm run build`. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/seed.ts'],
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    reporters: ['default'],
  },
})
