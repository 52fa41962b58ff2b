import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
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

  it('a closed descriptor is no error', () => {
    const descriptor = openSync(join(root, 'closed'), 'w')
    closeSync(descriptor)
    new StderrLog('info', descriptor).error('nobody hears')
  })
})
