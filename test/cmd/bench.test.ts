import { describe, expect, it } from 'vitest'
import { LatencyHistogram } from '../../cmd/latency-histogram.ts'
import { StreamError } from '../../src/base/errors.ts'
import { World } from './fake-world.ts'

const rows = (stdout: string): string[][] =>
  stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'))

describe('bench', () => {
  it('each case is a row; the topic is gone afterwards', async () => {
    const w = new World()
    const { exit, stdout } = await w.run('bench', 'all', '--records', '200', '--size', '20')
    expect(exit).toBe(0)
    const found = rows(stdout)
    expect(found.map((row) => row.slice(0, 3))).toEqual([
      ['produce', '200', '4000'],
      ['consume', '200', '4000'],
      ['latency', '200', '4000'],
    ])
    expect(found[1]?.slice(6)).toEqual(['-', '-', '-', '-'])
    expect(Number(found[2]?.[6])).toBeGreaterThanOrEqual(0)
    expect(w.broker.topics.size).toBe(0)
  })

  it('one case alone; --partitions; --no-delete leaves the topic and names it', async () => {
    const w = new World()
    const result = await w.run(
      'bench',
      'consume',
      '--records',
      '50',
      '--partitions',
      '3',
      '--no-delete',
      '--json',
    )
    const object = JSON.parse(result.stdout)
    expect(object).toMatchObject({ v: 1, kind: 'bench', case: 'consume', records: 50, p50: null })
    const [name] = [...w.broker.topics.keys()]
    expect(result.stderr).toContain(name)
    expect(w.broker.topics.get(name ?? '')?.partitions).toHaveLength(3)
    expect(w.broker.values(name ?? '')[0]).toHaveLength(100)
  })

  it('keeps to a rate', async () => {
    const w = new World()
    const { stdout } = await w.run(
      'bench',
      'produce',
      '--records',
      '100000',
      '--size',
      '100',
      '--rate',
      '20000/s',
    )
    const [, , , seconds, rate] = rows(stdout)[0] ?? []
    expect(Number(seconds)).toBeGreaterThan(4)
    expect(Number(rate)).toBeLessThan(25_000)
  })

  it('what cannot be measured is refused, and nothing is made', async () => {
    for (const words of [
      ['prodce'],
      ['produce', 'consume'],
      ['latency', '--size', '5'],
      ['--records', '0'],
      ['--partitions', '0'],
      ['--size', 'big'],
    ]) {
      const w = new World()
      expect(await w.run('bench', ...words), words.join(' ')).toMatchObject({ exit: 2, stdout: '' })
      expect(w.broker.topics.size).toBe(0)
    }
  })

  it('a refusal of the broker ends it with its error, and the topic goes all the same', async () => {
    const w = new World()
    w.broker.refuse = () => new StreamError('NOT_ALLOWED', 'not for you')
    const result = await w.run('bench', 'produce', '--records', '10')
    expect(result).toMatchObject({ exit: 6, stdout: '' })
    expect(w.broker.topics.size).toBe(0)
  })

  it('Ctrl-C ends it, without rows and without the topic', async () => {
    const w = new World()
    w.time.setTimer(500, () => w.interruption.raise('SIGINT'))
    const result = await w.run('bench', 'latency', '--records', '100000', '--rate', '100/s')
    expect(result).toMatchObject({ exit: 'SIGINT', stdout: '' })
    expect(w.broker.topics.size).toBe(0)
  })
})

describe('LatencyHistogram', () => {
  it('percentiles are exact when small, and within a 32nd when large', () => {
    const latencies = new LatencyHistogram()
    expect(latencies.percentileMs(0.5)).toBeNull()
    for (let us = 1; us <= 100_000; us += 1) latencies.add(us / 1000)
    for (const share of [0.0001, 0.5, 0.99, 0.999]) {
      const exact = share * 100
      const found = latencies.percentileMs(share) ?? 0
      expect(found).toBeGreaterThanOrEqual(exact)
      expect(found).toBeLessThanOrEqual(exact * (1 + 1 / 32))
    }
    expect(latencies.percentileMs(1)).toBe(100)
    expect(latencies.maxMs).toBe(100)
    expect(latencies.count).toBe(100_000)
  })

  it('counts several at once, and takes what is too long', () => {
    const latencies = new LatencyHistogram()
    latencies.add(1, 99)
    latencies.add(1e9)
    expect(latencies.percentileMs(0.99)).toBeLessThan(1.04)
    expect(latencies.maxMs).toBe(1e9)
  })
})
