/** Promotion while transactions at the source follow each other without a moment in which none is open. */
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Sites } from '../support/mirror-sites.ts'
import { eventually } from '../support/program.ts'

let sites: Sites
beforeAll(() => {
  sites = new Sites()
  for (const name of ['s', 't']) sites.start(name)
}, 60_000)
afterAll(() => sites?.stop())

describe('transactions that always overlap', () => {
  it('hold back --when-caught-up, which says so; without it what is whole is promoted at once', async () => {
    sites.ok('stream topics create t free -b $S; seq 100 | stream produce t -b $S')
    sites.ok("stream mirror link west -b $T --source $S --topics '*'")
    sites.ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    const loads = ['0.9', '1.1', '1.3'].map((seconds) =>
      sites.load(`(seq 20; sleep ${seconds}) | stream produce t --atomic -b "$S"`),
    )
    const status = (): string[] =>
      sites.ok('stream mirror status west -b $T --topics t').split('\t')
    // A marker has come, and the next one is waited for.
    await eventually('they overlap', () => (Number(status()[5]) > 100 ? true : undefined), 60_000)
    const held = sites.shell(
      'stream mirror promote west -b $T --topics t --when-caught-up -y --timeout 4s',
    )
    expect([held.status, held.stdout]).toEqual([7, ''])
    expect(held.stderr).toMatch(
      /^stream: mirror promote: timed out: t partition 0: \d+ offsets are missing, held back by transactions that are open at the source\n$/,
    )
    const waits = sites.shell(
      'timeout -s INT 14 stream mirror promote west -b $T --topics t --when-caught-up -y',
    )
    expect(waits.stderr).toMatch(/waiting: t partition 0: .* held back by transactions/)
    // It goes on, and nothing of it was promoted.
    const before = Number(status()[5])
    expect(status()[3]).toBe('following')
    await eventually('it goes on', () => (Number(status()[5]) > before ? true : undefined), 30_000)
    const beganMs = performance.now()
    const row = sites.ok('stream mirror promote west -b $T --topics t -y --timeout 60s').split('\t')
    expect(performance.now() - beganMs).toBeLessThan(20_000)
    const point = Number(row[3])
    // It was cut to whole transactions: nobody waits for the end of one, and the source has the same up to there.
    sites.ok('echo own | stream produce t -b $T')
    expect(sites.ok('stream cat t -b $T | tail -1')).toBe('own\n')
    expect(sites.ok('stream cat t -b $T --uncommitted | wc -l')).toBe(
      sites.ok('stream cat t -b $T | wc -l'),
    )
    writeFileSync(sites.program.path('over'), '')
    for (const { end } of loads) await end
    expect(sites.ok(`stream cat t -b $T --until 0=${point}`)).toBe(
      sites.ok(`stream cat t -b $S --until 0=${point}`),
    )
    sites.ok('stream mirror verify west -b $T --topics t')
  }, 150_000)

  it('one that is left open holds back nothing that ended before it began', async () => {
    sites.ok('seq 10 | stream produce free -b $S --atomic')
    const open = sites.program.start(
      'bash',
      ['-c', `(echo x; exec sleep 100) | stream produce free --atomic -b ${sites.address('s')}`],
      { stdio: 'ignore' },
    )
    await eventually('it is open', () =>
      sites.ok('stream cat free -b $S --uncommitted').includes('x') ? true : undefined,
    )
    sites.ok('stream mirror promote west -b $T --topics free --when-caught-up -y --timeout 30s')
    expect(sites.ok('stream cat free -b $T')).toBe(sites.ok('seq 10'))
    open.kill('SIGKILL')
  }, 60_000)
})
