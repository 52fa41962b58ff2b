import { describe, expect, it } from 'vitest'
import { pointIntoWords } from '../../cmd/error-place.ts'
import { UsageError } from '../../src/base/errors.ts'
import { World } from './fake-world.ts'

async function shown(...words: string[]): Promise<string[]> {
  const w = new World()
  w.terminals = ['error']
  w.broker.addTopic('t')
  const { stderr, exit } = await w.run(...words)
  expect(exit).toBe(2)
  return stderr.trimEnd().split('\n')
}

describe('a usage error on a terminal', () => {
  it('marks the flag, its value, or the word', async () => {
    expect((await shown('produce', 't', '--compres', 'zstd')).slice(1)).toEqual([
      '  stream produce t --compres zstd',
      '                   ^^^^^^^^^',
    ])
    expect((await shown('consume', 't', '--idle', 'soon')).slice(1)).toEqual([
      '  stream consume t --idle soon',
      '                          ^^^^',
    ])
    expect((await shown('consume', 't', '--idle=soon')).at(-1)).toBe(
      '                          ^^^^',
    )
    expect((await shown('prodce', 't')).slice(1)).toEqual(['  stream prodce t', '         ^^^^^^'])
    expect((await shown('daemon', 'stop', 'now')).at(-1)).toBe('                     ^^^')
  })

  it('marks a place inside a word, where the error knows it', () => {
    const error = new UsageError('%q: no such token', undefined, {
      text: '%v %q',
      at: 3,
      length: 2,
    })
    expect(pointIntoWords(['cat', 't', '--format=%v'], error)).toBeUndefined()
    const plain = new UsageError('no such token', undefined, { text: '%v,%q', at: 3, length: 2 })
    expect(pointIntoWords(['cat', 't', '-F', '%v,%q'], plain)).toBe(
      '  stream cat t -F %v,%q\n                     ^^\n',
    )
  })

  it('says nothing where it is not certain, and never repeats a secret', async () => {
    expect(await shown('topics', 'create')).toHaveLength(1)
    const secret = await shown('-X', 'sasl.password=s3cret', 'topics', 'list')
    expect(secret.join('')).not.toContain('s3cret')
    const url = await shown('topics', 'list', '-b', 'kafka://me:s3cret@host')
    expect(url.join('')).not.toContain('s3cret')
  })

  it('elsewhere it stays one line', async () => {
    const { stderr } = await new World().run('produce', 't', '--compres', 'zstd')
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})
