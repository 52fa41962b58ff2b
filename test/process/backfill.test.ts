/** Ranges of the past by time, as from cron: `produce`, `cat` and `mirror` with percent and time left, and what a rerun does. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Sites } from '../support/mirror-sites.ts'
import { ended, eventually } from '../support/program.ts'

const DAY_S = 86_400
let sites: Sites

/** 4000 records over four days, one each 86.4 s, in two partitions; the last day ends at midnight of 2026-03-05. */
beforeAll(() => {
  sites = new Sites()
  sites.start('a')
  sites.start('b')
  sites.ok('stream topics create past -b $A --partitions 2')
  const begin = Date.UTC(2026, 2, 1)
  const lines = Array.from({ length: 4000 }, (_, at) =>
    JSON.stringify({
      value: `${at} ${'x'.repeat(60)}`,
      ts: begin + Math.floor((at * DAY_S * 1000) / 1000),
      partition: at % 2,
    }),
  )
  sites.program.ok('stream produce past --json --keep-partition --batch-size 4KiB', {
    input: `${lines.join('\n')}\n`,
    environment: { STREAM_BROKER: sites.address('a') },
  })
})
afterAll(() => sites?.stop())

/** A line that is asked for its progress until it has told percent and time left. */
async function progressOf(
  line: string,
): Promise<{ readonly status: number; readonly said: string }> {
  const child = sites.program.start('bash', ['-c', `exec ${line}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...sites.program.environment, ...sites.environment },
  })
  let said = ''
  child.stderr?.on('data', (chunk) => {
    said += chunk
  })
  await new Promise((resolve) => setTimeout(resolve, 700))
  await eventually('percent and time left', () => {
    child.kill('SIGUSR1')
    return /[1-9]\d?%.* left/.test(said) || child.exitCode !== null ? true : undefined
  })
  return { status: await ended(child), said }
}

const DAY_2 = '--since 2026-03-02 --until 2026-03-03'

describe('a range of the past', () => {
  it('cat: exactly what is of that day, with percent and time left', async () => {
    const expected = Array.from({ length: 1000 }, (_, at) => String(at + 1000)).join('\n')
    expect(sites.ok(`stream cat past -b $A ${DAY_2} | cut -d' ' -f1 | sort -n`).trim()).toBe(
      expected,
    )
    const { status, said } = await progressOf(`stream cat past -b $A ${DAY_2} --rate 400/s`)
    expect([status, said]).toEqual([0, expect.stringMatching(/%.* left/)])
  }, 60_000)

  it('mirror: copies that day and no more; the rerun copies nothing, another day is added', async () => {
    const line = `stream mirror $A --topics past -b $B ${DAY_2}`
    const { status, said } = await progressOf(`${line} --rate 400/s`)
    expect([status, said]).toEqual([0, expect.stringMatching(/%.* left/)])
    const copied = "stream cat past -b $B | cut -d' ' -f1 | sort -n | sed -n '1p;$p' | tr '\\n' ' '"
    expect(sites.ok(copied)).toBe('1000 1999 ')
    sites.ok(`${line} --report r`)
    expect(sites.ok('jq .records r').trim()).toBe('0')
    sites.ok('stream mirror $A --topics past -b $B --until 2026-03-04 --report r')
    expect(sites.ok('jq .records r').trim()).toBe('1000')
    expect(sites.ok(copied)).toBe('1000 2999 ')
    expect(sites.ok('stream cat past -b $B | wc -l').trim()).toBe('2000')
  }, 60_000)

  it('produce: a file that takes long, with percent and time left', async () => {
    sites.ok(`stream cat past -b $A ${DAY_2} > day; stream topics create again -b $A`)
    const { status, said } = await progressOf('stream produce again -b $A --rate 400/s day')
    expect([status, said]).toEqual([0, expect.stringMatching(/%.* left/)])
    expect(sites.ok('stream cat again -b $A | cmp - day')).toBe('')
  }, 60_000)
})
