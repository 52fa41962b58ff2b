import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { StderrLog } from '../../../src/io/stderr-log.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-log-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

function linesOf(use: (log: StderrLog) => void): string[] {
  const path = join(root, 'log')
  const descriptor = openSync(path, 'w')
  use(new StderrLog('info', descriptor))
  closeSync(descriptor)
  return readFileSync(path, 'utf8').split('\n').slice(0, -1)
}

describe('StderrLog', () => {
  it('prints a line with its fields, from its level on', () => {
    const lines = linesOf((log) => {
      log.debug('unheard')
      log.info('started', { port: 9092, name: 'a b', none: undefined })
      log.error('failed', { empty: '' })
    })
    expect(lines.map((line) => line.replace(/^\S+ /, ''))).toEqual([
      'info started port=9092 name="a b"',
      'error failed empty=""',
    ])
    expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /)
  })

  it('foreign text cannot forge a line or move the cursor', () => {
    const lines = linesOf((log) => log.warn('a\nb\u001b[2J', { value: 'x\ny' }))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain('warn a\\nb\\u001b[2J value="x\\ny"')
  })

  it('a reader that stalls holds nobody up, and hears how much was dropped', async () => {
    const text = `
      const { StderrLog } = await import(${JSON.stringify(join(import.meta.dirname, '../../../src/io/stderr-log.ts'))})
      const log = new StderrLog()
      for (let line = 0; line < 20_000; line += 1) log.info('a line as long as lines are', { line })
      process.stdout.write('through')
      process.stdin.once('data', () => {
        log.info('read again')
        process.exit()
      })`
    const child = spawn(process.execPath, ['--input-type=module', '-e', text])
    const through = await new Promise<string>((resolve) => {
      child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()))
    })
    expect(through).toBe('through')
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await vi.waitFor(() => expect(said.length).toBeGreaterThan(200_000), 5000)
    await new Promise((resolve) => setTimeout(resolve, 100))
    child.stdin.write('go')
    await once(child, 'close')
    const lines = said.split('\n').slice(0, -1)
    expect(lines.at(-1)).toContain('info read again')
    const dropped = Number(lines.at(-2)?.match(/warn (\d+) lines of this log were dropped/)?.[1])
    expect(lines.length - 2 + dropped).toBe(20_000)
  })

  it('a closed descriptor is no error', () => {
    const descriptor = openSync(join(root, 'closed'), 'w')
    closeSync(descriptor)
    new StderrLog('info', descriptor).error('nobody hears')
  })
})
