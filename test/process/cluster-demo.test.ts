/** `stream cluster demo` as a user has it: what it prints can be typed, and nothing is left of it. */
import type { ChildProcess } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasNoEtcd } from '../support/etcd.ts'
import { ended, Program } from '../support/program.ts'

const UP_MS = 60_000

interface Demo {
  readonly child: ChildProcess
  readonly end: Promise<number>
  readonly said: { out: string; err: string }
}

function demo(program: Program, ...words: string[]): Demo {
  const child = program.start(program.stream, ['cluster', 'demo', ...words])
  const said = { out: '', err: '' }
  child.stdout?.on('data', (chunk: Buffer) => {
    said.out += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    said.err += chunk.toString()
  })
  return { child, end: ended(child), said }
}

async function until(isSo: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + UP_MS
  while (!isSo()) {
    if (performance.now() > deadlineMs) throw new Error(`not after ${UP_MS} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Processes whose command line names the directory. */
function processesIn(directory: string): number {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(directory)
      } catch {
        return false
      }
    }).length
}

describe.skipIf(hasNoEtcd)('cluster demo', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(() => program?.stop())

  it('prints lines that can be typed; what is killed comes back; at the end nothing is left', async () => {
    const { child, end, said } = demo(program)
    await until(() => said.out.includes('Ctrl-C ends') || child.exitCode !== null, 'it is up')
    const directory = /in (\/\S+)\n/.exec(said.out)?.[1] ?? ''
    expect(said.err).toBe('')
    expect(existsSync(`${directory}/daemon-1.log`)).toBe(true)
    const lines = said.out.split('\n').filter((line) => line.startsWith('  '))
    expect(lines).toHaveLength(7)
    expect(program.ok(lines.join('\n'))).toMatch(/\n1000\n$/)
    await until(() => /daemon-3 runs again/.test(said.err), 'it is started again')
    expect(said.err).toMatch(/daemon-3 has ended \(SIGKILL\)/)
    child.kill('SIGINT')
    expect(await end).toBe(130)
    expect(existsSync(directory)).toBe(false)
    expect(processesIn(directory)).toBe(0)
  })

  it('keeps the data of a directory that was named, over a SIGTERM', async () => {
    const directory = program.path('kept')
    for (const expected of ['10', '20']) {
      const { child, end, said } = demo(program, directory, '--daemons', '1')
      await until(() => said.out.includes('Ctrl-C ends') || child.exitCode !== null, 'it is up')
      const line = said.out.split('\n').find((text) => text.includes('export'))
      const counted = program.ok(
        `${line}; seq 10 | stream produce kept --create; stream cat kept | wc -l`,
      )
      expect(counted.trim()).toBe(expected)
      child.kill('SIGTERM')
      expect(await end).toBe(143)
      expect(processesIn(directory)).toBe(0)
    }
  })
})

describe.skipIf(hasNoEtcd)('cluster demo in a directory that is not free', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(() => program?.stop())

  it('is refused at once beside another one, and goes on after one that was killed', async () => {
    const directory = program.path('shared')
    const isUp = ({ child, said }: Demo) =>
      until(() => said.out.includes('Ctrl-C ends') || child.exitCode !== null, 'it is up')
    const first = demo(program, directory, '--daemons', '1')
    await isUp(first)
    const beside = program.shell(`stream cluster demo ${directory}`, { timeoutMs: 10_000 })
    expect(beside.status).toBe(8)
    expect(beside.stderr).toMatch(/shared: a demo runs there already; end it where it runs/)
    const line = first.said.out.split('\n').find((text) => text.includes('export'))
    program.ok(`${line}; seq 10 | stream produce kept --create`)
    first.child.kill('SIGKILL')
    await first.end
    expect(processesIn(directory)).toBeGreaterThan(0)
    const second = demo(program, directory, '--daemons', '1')
    await isUp(second)
    expect(second.said.err).toContain('2 servers of a demo that was killed are running here')
    const next = second.said.out.split('\n').find((text) => text.includes('export'))
    expect(program.ok(`${next}; stream cat kept | wc -l`).trim()).toBe('10')
    second.child.kill('SIGINT')
    expect(await second.end).toBe(130)
    expect(processesIn(directory)).toBe(0)
  }, 90_000)
})

describe('cluster demo without what it needs', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(() => program?.stop())

  it('says that there is no etcd, and what to do', () => {
    const outcome = program.shell('ETCD_BIN=/nowhere/etcd stream cluster demo')
    expect([outcome.status, outcome.stdout]).toEqual([1, ''])
    expect(outcome.stderr).toMatch(/there is no etcd: cannot run \/nowhere\/etcd; .*ETCD_BIN/)
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
  })

  it('refuses what makes no sense', () => {
    expect(program.shell('stream cluster demo --daemons 0').status).toBe(2)
    expect(program.shell('stream cluster demo a b').status).toBe(2)
  })
})
