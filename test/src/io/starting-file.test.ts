import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { processMark } from '../../../src/io/process-mark.ts'
import { putStartingFile } from '../../../src/io/starting-file.ts'

let scratch: string

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stream-starting-'))
})
afterEach(() => rmSync(scratch, { recursive: true, force: true }))

it('has the mark of this process until it is taken away', () => {
  const remove = putStartingFile(scratch, { isNew: false })
  const path = join(scratch, 'daemon.starting')
  expect(readFileSync(path, 'latin1')).toBe(`${processMark(process.pid)}\n`)
  remove()
  remove()
  expect(existsSync(path)).toBe(false)
  expect(existsSync(scratch)).toBe(true)
})

it('takes a new directory with it that is still empty', () => {
  putStartingFile(scratch, { isNew: true })()
  expect(existsSync(scratch)).toBe(false)
})

it('creates no directory: its name would not be durable, and the records in it lost with the power', () => {
  const missing = join(scratch, 'data')
  expect(() => putStartingFile(missing, { isNew: true })).toThrow('ENOENT')
  expect(existsSync(missing)).toBe(false)
})
