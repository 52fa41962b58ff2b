import { describe, expect, it } from 'vitest'
import { TopicPattern } from '../../../daemon/coordinator/topic-pattern.ts'

function matches(source: string, name: string): boolean {
  const pattern = TopicPattern.parse(source)
  if (typeof pattern === 'string') throw new Error(`${source}: ${pattern}`)
  return pattern.matches(name)
}

describe('regular expressions over topic names', () => {
  const names = [
    '',
    'a',
    'ab',
    'orders',
    'orders-eu',
    'orders_us.1',
    'ORDERS',
    'x10',
    'aaa',
    'a.b',
    '-',
  ]
  // What RE2 and JavaScript both mean.
  const sources = [
    'orders',
    'orders.*',
    'orders(-eu|_us\\.\\d)?',
    '.*',
    '.+',
    '[a-z]+',
    '[^a-z]+',
    '[a-z.-]+',
    '[]a]+',
    'a{2}',
    'a{2,}',
    'a{1,3}',
    'a{0}',
    '(a|b)*',
    '(?:a|ab)(?:b|)',
    'a*?b??',
    '\\w+',
    '\\W',
    '^orders$',
    'x\\x31\\d',
    '(a*)*b*',
    'a||b',
    '()',
    '[\\d\\w]+',
    'a.b|a\\.b',
  ]
  it.each(sources)('%s', (source) => {
    const reference = new RegExp(`^(?:${source.replace('[]a]', '[\\]a]')})$`)
    for (const name of names)
      expect([name, matches(source, name)]).toEqual([name, reference.test(name)])
  })

  it('ignores case where it is told to, as far as the group goes', () => {
    expect(matches('(?i)orders', 'ORDERS')).toBe(true)
    expect(matches('(?i:o)rders', 'Orders')).toBe(true)
    expect(matches('(?i:o)rders', 'ORDERS')).toBe(false)
    expect(matches('(?i)[a-z]+', 'ORDERS')).toBe(true)
    expect(matches('((?i)a)b', 'Ab')).toBe(true)
    expect(matches('((?i)a)b', 'AB')).toBe(false)
  })

  it('knows named groups, named classes and anchors', () => {
    expect(matches('(?P<region>eu|us)-\\d', 'eu-1')).toBe(true)
    expect(matches('[[:alpha:]]+', 'abc')).toBe(true)
    expect(matches('[[:digit:]_]+', '1_2')).toBe(true)
    expect(matches('\\Aab\\z', 'ab')).toBe(true)
    expect(matches('a^b', 'ab')).toBe(false)
    expect(matches('\\x{61}', 'a')).toBe(true)
  })

  it.each([
    '(',
    ')',
    'a)',
    '(a',
    '[a',
    '[z-a]',
    '*',
    '+a',
    'a{3,1}',
    'a{1001}',
    '\\',
    '\\1',
    '\\bword',
    '\\p{L}',
    '(?=a)',
    '(?<!a)b',
    '[[:nothing:]]',
    '[[:constructor:]]',
    '\\xg0',
    '((((a{100}){100}){100}){100})',
    '((((){100}){100}){100})',
    'a'.repeat(5000),
    '('.repeat(200) + ')'.repeat(200),
  ])('refuses %s in words', (source) => {
    expect(typeof TopicPattern.parse(source)).toBe('string')
  })

  it('takes no longer for patterns that make others go back and forth for ever', () => {
    const started = performance.now()
    for (const source of [
      '(a+)+b',
      '(a|aa)+b',
      '(a*)*b',
      '(.*)(.*)(.*)(.*)x',
      '(a{1,30}){1,30}b',
    ]) {
      expect(matches(source, 'a'.repeat(249))).toBe(false)
    }
    expect(performance.now() - started).toBeLessThan(2000)
  })
})
