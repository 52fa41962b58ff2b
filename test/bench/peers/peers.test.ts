/** The parts of `npm run bench:peers` that need no server: its arguments, its tables, its payload files. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseArguments } from './arguments.ts'
import {
  latencySection,
  markdown,
  memorySection,
  significant,
  startUpSection,
  thousands,
  throughputSection,
} from './table.ts'
import { rewriteLines } from './wire-file.ts'

describe('arguments', () => {
  it('runs everything, in full, and writes nothing unless told', () => {
    const plan = parseArguments([])
    expect(plan).toMatchObject({ quick: false, save: false, lineBytes: [100, 1000], rounds: 5 })
    expect(plan.peers).toEqual(['kafka', 'nats', 'redis'])
  })

  it('does less with --quick', () => {
    const plan = parseArguments(['--quick', '--save'])
    expect(plan).toMatchObject({ quick: true, save: true, rounds: 1, latencyRounds: 1 })
    expect(plan.megabytes).toBeLessThan(parseArguments([]).megabytes)
  })

  it('takes names of peers', () => {
    expect(parseArguments(['--only', 'redis,nats']).peers).toEqual(['redis', 'nats'])
    expect(parseArguments(['--only=kafka']).peers).toEqual(['kafka'])
    expect(parseArguments(['--tables', 'group,memory']).tables).toEqual(['group', 'memory'])
  })

  it.each([
    [['--fast'], '--fast'],
    [['kafka'], 'kafka'],
    [['--only'], '--only'],
    [['--only='], '--only'],
    [['--only', 'rabbit'], 'rabbit'],
    [['--tables', 'speed'], 'speed'],
  ])('names what it does not understand: %j', (args, named) => {
    expect(() => parseArguments(args)).toThrow(named)
  })
})

describe('tables', () => {
  const ours = {
    name: '**ours**',
    durability: 'durable',
    flush: 'fdatasync',
    isOurs: true,
  } as const
  const peer = { name: 'peer', durability: 'relaxed', flush: 'everysec', isOurs: false } as const

  it('has medians, the ratios of the same rounds, and says whether the target holds', () => {
    const section = throughputSection('Produce, 100 B', 100, [
      { ...ours, records: 2_000_000, rates: [4e6, 2e6, 6e6] },
      // Rounds apart the ratios are 10, 20 and 10; the medians of the rates alone would say 10.
      { ...peer, records: 500_000, rates: [4e5, 1e5, 6e5], must: 10 },
      { ...peer, name: 'fast', records: 500_000, rates: [2e6, 1e6, 3e6], must: 5 },
    ])
    expect(section.rows).toEqual([
      ['**ours**', 'fdatasync', '2,000,000', '4', '400', '', '', ''],
      ['peer', 'everysec', '500,000', '0.4', '40', '10x', '≥ 10x', 'yes'],
      ['fast', 'everysec', '500,000', '2', '200', '2x', '≥ 5x', '**no**'],
    ])
  })

  it('compares with the durable one of ours, whichever comes first', () => {
    const section = throughputSection('Produce', 100, [
      { ...ours, durability: 'relaxed', records: 1, rates: [9e6] },
      { ...ours, records: 1, rates: [3e6] },
      { ...peer, records: 1, rates: [1e6] },
    ])
    expect(section.rows[2]?.[5]).toBe('3x')
  })

  it('keeps a row for what could not be measured, with the reason', () => {
    const section = throughputSection('Produce', 100, [
      { ...peer, records: 0, rates: [], must: 10, failure: 'not here: no redis-server' },
      { ...ours, records: 0, rates: [], failure: 'exit 1' },
    ])
    expect(section.rows[0]).toEqual([
      'peer',
      'everysec',
      'not here: no redis-server',
      '',
      '',
      '',
      '≥ 10x',
      '',
    ])
    expect(section.rows.every((row) => row.length === section.head.length)).toBe(true)
  })

  it('judges latency at the same durability, commands by commands and sockets by sockets', () => {
    const means = 'commands'
    const section = latencySection('Latency', [
      { ...ours, means, p50: [0.5, 0.6, 0.7], p99: [1, 2, 3], judged: false },
      { ...ours, means, durability: 'relaxed', p50: [0.3], p99: [0.8], judged: false },
      { ...ours, means: 'sockets', durability: 'relaxed', p50: [0.1], p99: [0.2], judged: false },
      { ...peer, means, p50: [0.4], p99: [0.9], judged: true },
      { ...peer, means, durability: 'durable', p50: [0.4], p99: [1.9], judged: true },
      { ...peer, means: 'sockets', p50: [0.1], p99: [0.1], judged: true },
      { ...peer, means, p50: [], p99: [], judged: true, failure: 'the consumer ended early (1)' },
    ])
    expect(section.rows.map((row) => row.slice(2))).toEqual([
      ['0.60', '2.00', '', '', ''],
      ['0.30', '0.80', '', '', ''],
      ['0.10', '0.20', '', '', ''],
      ['0.40', '0.90', '0.80 (relaxed, commands)', 'below', 'yes'],
      ['0.40', '1.90', '2.00 (durable, commands)', 'below', '**no**'],
      ['0.10', '0.10', '0.20 (relaxed, sockets)', 'below', '**no**'],
      ['the consumer ended early (1)', '', '', 'below', ''],
    ])
  })

  it('shows start-up and memory', () => {
    const startUp = startUpSection('Start-up', [
      { name: 'ours', isOurs: true, ms: [40, 50, 60] },
      { name: 'theirs', isOurs: false, ms: [400, 500, 600] },
      { name: 'broken', isOurs: false, ms: [], failure: 'exit 1' },
    ])
    expect(startUp.rows).toEqual([
      ['ours', '50.0', ''],
      ['theirs', '500.0', '0.1x'],
      ['broken', 'exit 1', ''],
    ])
    expect(memorySection('Memory', [{ name: 'daemon', megabytes: 123.4 }]).rows).toEqual([
      ['daemon', '123'],
    ])
  })

  it('is Markdown: a title, a head, and as many cells in every line', () => {
    const text = markdown([
      { title: 'One', head: ['contender', 'ms'], rows: [['`a \\| b`', '1']] },
      { title: 'Two', head: ['process', 'MB'], rows: [] },
    ])
    expect(text).toBe(
      '### One\n\n| contender | ms |\n| --- | --: |\n| `a \\| b` | 1 |\n\n### Two\n\n| process | MB |\n| --- | --: |',
    )
  })

  it('writes figures with three digits that count, and thousands apart', () => {
    expect([0.0012345, 0.5, 12.34, 99.96, 1234.5].map(significant)).toEqual([
      '0.00123',
      '0.5',
      '12.3',
      '100',
      '1235',
    ])
    expect([0, 999, 1000, 2_000_000].map(thousands)).toEqual(['0', '999', '1,000', '2,000,000'])
  })
})

describe('wire files', () => {
  it('turn each line into what goes into the socket', () => {
    const directory = mkdtempSync(join(tmpdir(), 'peers-'))
    try {
      const path = join(directory, 'lines')
      writeFileSync(path, 'one\nthree\n')
      const target = join(directory, 'wire')
      rewriteLines(
        { path, lineBytes: 4, records: 2 },
        target,
        (line) => `PUB ${line.length} ${line};`,
      )
      expect(readFileSync(target, 'latin1')).toBe('PUB 3 one;PUB 5 three;')
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
