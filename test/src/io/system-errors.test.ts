import { expect, test } from 'vitest'
import { uninterrupted } from '../../../src/io/system-errors.ts'

/** A call that fails with these codes, one after the other, and then gives `done`. */
function failing(...codes: string[]): () => string {
  return () => {
    const code = codes.shift()
    if (code !== undefined) throw Object.assign(new Error(code), { code })
    return 'done'
  }
}

// A command whose profiler sent it SIGPROF ended with "Interrupted system call" while it connected, once in thirty runs.
test('a call that a signal cut short is made again', () => {
  expect(uninterrupted(failing('EINTR', 'EINTR'))).toBe('done')
})

test('other errors stand', () => {
  expect(() => uninterrupted(failing('EINTR', 'EINVAL'))).toThrow('EINVAL')
})
