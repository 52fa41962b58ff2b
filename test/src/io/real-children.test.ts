import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openChildren } from '../../../src/io/real-children.ts'
import type { Child, ChildPlan } from '../../../src/ports/children.ts'

const children = openChildren()
let directory = ''

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'children-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function start(words: readonly string[], plan: Partial<ChildPlan> = {}): Child {
  return children.start({
    words,
    environment: {},
    input: 'none',
    output: 'pipe',
    graceMs: 300,
    ...plan,
  })
}

function file(name: string, content = ''): string {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}

async function all(child: Child): Promise<string> {
  const chunks: Uint8Array[] = []
  for (;;) {
    const chunk = await child.output?.read()
    if (chunk === undefined) return Buffer.concat(chunks).toString()
    chunks.push(chunk)
  }
}

/** One that has ended and waits to be reaped does not run. */
function isRunning(processId: number): boolean {
  try {
    const stat = readFileSync(`/proc/${processId}/stat`, 'latin1')
    return stat[stat.lastIndexOf(')') + 2] !== 'Z'
  } catch {
    return false
  }
}

describe('files for streams', () => {
  test('a child reads one file and writes another', async () => {
    const path = join(directory, 'out')
    const child = start(['tr', 'a-z', 'A-Z'], {
      input: { path: file('in', 'abc\ndef\n') },
      output: { path, bytesMax: 100 },
    })
    expect(await child.ended).toMatchObject({
      exit: 0,
      hasUnreadInput: false,
      hasLeftProcesses: false,
      stopped: undefined,
    })
    expect(readFileSync(path, 'utf8')).toBe('ABC\nDEF\n')
  })

  test('input that was not read is known, whether the child read none of it or a part', async () => {
    const input = { path: file('in', 'a\n'.repeat(100_000)) }
    const output = { path: join(directory, 'out'), bytesMax: 1e6 }
    expect((await start(['true'], { input, output }).ended).hasUnreadInput).toBe(true)
    expect((await start(['head', '-1'], { input, output }).ended).hasUnreadInput).toBe(true)
    expect((await start(['wc', '-l'], { input, output }).ended).hasUnreadInput).toBe(false)
    expect((await start(['sh', '-c', 'cat | cat'], { input, output }).ended).exit).toBe(0)
  })

  test('an empty input is read to its end by who reads nothing', async () => {
    const child = start(['true'], { input: { path: file('in') } })
    expect((await child.ended).hasUnreadInput).toBe(false)
  })

  test('a flood ends at the limit', async () => {
    const child = start(['yes'], { output: { path: join(directory, 'out'), bytesMax: 100_000 } })
    expect(await child.ended).toMatchObject({ signal: 'SIGTERM', stopped: 'output-limit' })
  })
})

describe('pipes', () => {
  test('what is written comes back', async () => {
    const child = start(['cat'], { input: 'pipe' })
    expect(await child.input?.write(Buffer.from('one\n'))).toBe(true)
    expect(Buffer.from((await child.output?.read()) ?? []).toString()).toBe('one\n')
    child.input?.end()
    expect(await all(child)).toBe('')
    expect(await child.ended).toMatchObject({ exit: 0, hasUnreadInput: false })
  })

  test('a child that goes away takes no more, and is told apart from one that read all', async () => {
    const child = start(['true'], { input: 'pipe' })
    const block = new Uint8Array(1 << 20)
    let isTaken = true
    while (isTaken) isTaken = (await child.input?.write(block)) === true
    expect(await child.ended).toMatchObject({ exit: 0, hasUnreadInput: true })
  })

  test('descriptor 3 is a stream of its own', async () => {
    const child = start(['sh', '-c', 'echo out; echo ack 1 >&3'], { control: true })
    expect(Buffer.from((await child.control?.read()) ?? []).toString()).toBe('ack 1\n')
    expect(await all(child)).toBe('out\n')
    expect((await child.ended).exit).toBe(0)
  })

  test('who reads slowly gets all of it, after the end and the grace too', async () => {
    const child = start(['sh', '-c', 'seq 15000; sleep 10 >&2 &'], { graceMs: 100 })
    let count = (await child.output?.read())?.length ?? 0
    await child.ended
    count += (await all(child)).length
    expect(count).toBe(78_894)
  })

  test('what is not read holds the child back, and not us', async () => {
    const child = start(['yes'])
    await new Promise((resolve) => setTimeout(resolve, 100))
    child.stop()
    expect(await child.ended).toMatchObject({ signal: 'SIGTERM', stopped: 'asked' })
  })
})

describe('ends', () => {
  test('code, signal, the last words', async () => {
    const child = start(['sh', '-c', 'printf "%03000d" 7 >&2; exit 3'])
    const end = await child.ended
    expect(end).toMatchObject({ exit: 3, signal: undefined, cannotStart: undefined })
    expect(end.errorTail).toHaveLength(2048)
    expect((await start(['sh', '-c', 'kill -9 $$']).ended).signal).toBe('SIGKILL')
  })

  test('a program that is not there, or is none, or is given too much', async () => {
    expect((await start(['/nowhere/x']).ended).cannotStart).toBe('ENOENT')
    expect((await start([file('plain', 'text')]).ended).cannotStart).toBe('EACCES')
    const long = { LONG: 'x'.repeat(200_000) }
    expect((await start(['true'], { environment: long }).ended).cannotStart).toBe('E2BIG')
  })

  test('the environment is ours, with changes', async () => {
    const environment = { STREAM_X: 'é', HOME: undefined }
    const child = start(['sh', '-c', 'echo "$STREAM_X,$HOME,$PATH"'], { environment })
    expect(await all(child)).toBe(`é,,${process.env['PATH']}\n`)
    await child.ended
  })

  test('one that ignores SIGTERM is killed after the grace', async () => {
    const child = start(['sh', '-c', 'trap "" TERM; echo up; while :; do sleep 0.05; done'])
    await child.output?.read()
    child.stop()
    expect(await child.ended).toMatchObject({ signal: 'SIGKILL', stopped: 'asked' })
  })

  test('one that takes too long is stopped', async () => {
    const child = start(['sleep', '60'], { timeoutMs: 50 })
    expect(await child.ended).toMatchObject({ signal: 'SIGTERM', stopped: 'timed-out' })
  })

  test('a signal reaches what the child started', async () => {
    const child = start(['sh', '-c', 'sleep 60 & echo $!; wait'])
    const grandchild = Number(await child.output?.read())
    child.stop()
    await child.ended
    await expect.poll(() => isRunning(grandchild)).toBe(false)
  })

  test('what runs on in the background is told, and ended', async () => {
    const child = start(['sh', '-c', 'sleep 60 >/dev/null 2>&1 </dev/null & echo $!'])
    const left = Number(await child.output?.read())
    expect(await child.ended).toMatchObject({ exit: 0, hasLeftProcesses: true })
    await expect.poll(() => isRunning(left)).toBe(false)
  })

  test('one that leaves the group and keeps our pipe does not keep us', async () => {
    const child = start(['sh', '-c', 'setsid sleep 3 & exit 0'])
    expect((await child.ended).exit).toBe(0)
  })
})
