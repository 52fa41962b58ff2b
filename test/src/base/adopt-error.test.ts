import { describe, expect, it } from 'vitest'
import { adoptError, StreamError, UsageError } from '../../../src/base/errors.ts'

describe('adoptError', () => {
  it('an error of a bundle beside this one becomes one of this one', () => {
    const foreign = Object.assign(new Error('no such file'), {
      name: 'StreamError',
      code: 'FILE_NOT_FOUND',
      hint: 'look again',
      target: '/x',
      line: 3,
    })
    const adopted = adoptError(foreign)
    expect(adopted).toBeInstanceOf(StreamError)
    expect(adopted).toMatchObject({
      code: 'FILE_NOT_FOUND',
      exit: 3,
      hint: 'look again',
      target: '/x',
      line: 3,
    })
    const usage = Object.assign(new Error('wrong'), { name: 'UsageError', hint: 'try' })
    expect(adoptError(usage)).toBeInstanceOf(UsageError)
  })

  it('everything else stays what it is', () => {
    const own = new StreamError('CLOSED', 'closed')
    const strange = Object.assign(new Error('x'), { name: 'StreamError', code: 'toString' })
    for (const each of [own, strange, new TypeError('x'), 'text', undefined]) {
      expect(adoptError(each)).toBe(each)
    }
  })
})
