/** `stream pipe` is exactly once, whatever is killed when (the million: `npm run pipe-kills`). */
import { describe, expect, it } from 'vitest'
import { runUnderKills } from '../support/pipe-kill.ts'
import { Program } from '../support/program.ts'

describe('pipe under kill -9 of daemon, command and child', () => {
  for (const barrier of ['exit', 'line'] as const) {
    it(`--barrier ${barrier}: the output is exactly the filtered input, in order`, async () => {
      const program = new Program()
      try {
        const result = await runUnderKills(program, {
          records: 60_000,
          killsMax: 12,
          pauseMs: { min: 30, max: 250 },
          partitions: 2,
          barrier,
          epoch: '700,1MiB,50ms',
        })
        const { kills } = result
        expect(result.differences).toBe('')
        expect(kills.daemon + kills.command + kills.child).toBeGreaterThan(4)
        expect(result.expected).toBeGreaterThan(30_000)
      } finally {
        program.stop()
      }
    }, 180_000)
  }
})
