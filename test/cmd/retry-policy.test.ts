import { describe, expect, it } from 'vitest'
import {
  Attempts,
  describeEnd,
  describeFailure,
  judgeEnd,
  parseRetry,
} from '../../cmd/retry-policy.ts'
import type { ChildEnd } from '../../src/ports/children.ts'

const middle = { bytes: (count: number) => new Uint8Array(count), fraction: () => 0.5 }
const end = (fields: Partial<ChildEnd>): ChildEnd => ({
  exit: undefined,
  signal: undefined,
  cannotStart: undefined,
  stopped: undefined,
  hasUnreadInput: false,
  hasLeftProcesses: false,
  errorTail: new Uint8Array(0),
  ...fields,
})

describe('--retry', () => {
  it('times, first pause, longest pause', () => {
    expect(parseRetry('5,1s..1m')).toEqual({ times: 5, firstMs: 1000, maxMs: 60_000 })
    expect(parseRetry('0')).toMatchObject({ times: 0 })
    expect(parseRetry('3,500ms')).toEqual({ times: 3, firstMs: 500, maxMs: 60_000 })
    expect(parseRetry('3,1.5s..2.5s')).toEqual({ times: 3, firstMs: 1500, maxMs: 2500 })
    expect(parseRetry('3,2m')).toEqual({ times: 3, firstMs: 120_000, maxMs: 120_000 })
  })

  it.each(['', 'x', '-1', '5,', '5,1', '5,1s..', '5,2s..1s', '5,1s.1m', '1.5'])(
    '%j is none',
    (text) => {
      expect(parseRetry(text)).toBeUndefined()
    },
  )

  it('pauses double up to the longest; then it is given up', () => {
    const attempts = new Attempts({ times: 3, firstMs: 100, maxMs: 250 }, middle)
    expect([1, 2, 3, 4].map(() => attempts.next('failed'))).toEqual([100, 200, 250, undefined])
    expect(attempts.number).toBe(4)
  })

  it('what will pass is tried without end, and does not count', () => {
    const attempts = new Attempts({ times: 1, firstMs: 100, maxMs: 100 }, middle)
    for (let attempt = 1; attempt < 50; attempt += 1) expect(attempts.next('later')).toBe(100)
    expect(attempts.next('failed')).toBe(100)
    expect(attempts.next('failed')).toBeUndefined()
  })
})

describe('the end of a child', () => {
  it.each([
    [{ exit: 0 }, 'done', 'exit 0'],
    [{ exit: 1 }, 'failed', 'exit 1'],
    [{ exit: 75 }, 'later', 'exit 75'],
    [{ exit: 255 }, 'stop', 'exit 255'],
    [{ exit: 126 }, 'stop', 'exit 126 (command not executable)'],
    [{ exit: 127 }, 'stop', 'exit 127 (command not found)'],
    [{ exit: 137 }, 'failed', 'exit 137 (signal 9)'],
    [{ signal: 'SIGSEGV' }, 'failed', 'killed by SIGSEGV'],
    [{ cannotStart: 'ENOENT' }, 'stop', 'not found'],
    [{ cannotStart: 'EAGAIN' }, 'failed', 'not run (EAGAIN)'],
    [{ exit: 0, stopped: 'timed-out' }, 'failed', 'stopped for taking too long'],
  ] as const)('%j', (fields, verdict, words) => {
    expect(judgeEnd(end(fields), new Set([0]))).toBe(verdict)
    expect(describeEnd(end(fields))).toBe(words)
  })

  it('an exit code that was named as success is one', () => {
    expect(judgeEnd(end({ exit: 75 }), new Set([0, 75]))).toBe('done')
    expect(judgeEnd(end({ exit: 0 }), new Set([1]))).toBe('failed')
  })

  it('its last words are told', () => {
    const errorTail = Buffer.from('first\nlast words \n\n')
    expect(describeFailure(end({ exit: 2, errorTail }))).toBe('exit 2: last words')
  })
})
