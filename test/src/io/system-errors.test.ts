import { expect, test } from 'vitest'
import { diskError, uninterrupted } from '../../../src/io/system-errors.ts'

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

// An inode whose checksum is wrong: readdir and stat end with "Unknown system error -74".
test.each([
  [-74, 'EBADMSG'],
  [-117, 'EUCLEAN'],
])('a damaged file system is named, %d', (errno, name) => {
  const code = `Unknown system error ${errno}`
  const error = diskError(Object.assign(new Error(code), { code, errno }), 'look at', '/data/t-0')
  expect(error.code).toBe('DISK_FAILED')
  expect(error.message).toBe(`cannot look at /data/t-0: ${name}`)
  expect(error.hint).toMatch(/^the file system is damaged: .*fsck/)
})

test('errors with a name of their own keep it', () => {
  const error = diskError(
    Object.assign(new Error('x'), { code: 'ENOSPC', errno: -74 }),
    'write',
    '/data/t-0',
  )
  expect([error.code, error.message]).toEqual(['DISK_FULL', 'cannot write /data/t-0: ENOSPC'])
})

test('what the system says comes in words, its name behind', () => {
  const missing = Object.assign(new Error('x'), { code: 'ENOENT', errno: -2 })
  expect(diskError(missing, 'open', '/data/t-0').message).toBe(
    'cannot open /data/t-0: no such file or directory (ENOENT)',
  )
  expect(diskError(new Error('x'), 'open', '/data/t-0').message).toBe(
    'cannot open /data/t-0: unknown error',
  )
})
