/** The implementation fits the types that are published. Most of the proof is that this file compiles. */
import { describe, expect, it } from 'vitest'
import { connect, StreamError } from '../../../src/library/index.ts'
import type * as Public from '../../../src/library/public.d.ts'

describe('public.d.ts', () => {
  it('is what index.ts exports', async () => {
    const published: typeof Public.connect = connect
    const error: Public.StreamError = new StreamError('UNREACHABLE', 'nobody')
    expect([error.code, error.exit, error.retriable, error.kafkaError]).toEqual([
      'UNREACHABLE',
      4,
      true,
      undefined,
    ])
    await expect(published({ broker: 'ipc:///tmp/none.sock' })).rejects.toMatchObject({
      code: 'UNREACHABLE',
      exit: 4,
    })
    await expect(published({ broker: 'http://x' })).rejects.toMatchObject({
      code: 'ADDRESS_INVALID',
    })
    await expect(published({ broker: 'tcp://user:secret@x:1' })).rejects.not.toThrow(/secret/)
  })
})
