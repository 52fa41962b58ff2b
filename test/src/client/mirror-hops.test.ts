/** Ways of records through clusters: as they are told, stored and joined. */
import { describe, expect, it } from 'vitest'
import {
  formatHops,
  joinHops,
  parseHops,
  parsePath,
  readLinkHops,
  storedPath,
} from '../../../src/client/mirror-hops.ts'

const plain = (cluster: string) => ({ cluster, isTagged: false })
const tagged = (cluster: string) => ({ cluster, isTagged: true })

describe('hops', () => {
  it('are told and read again', () => {
    const hops = [plain('a-b_C'), tagged('x'), plain('y')]
    expect(formatHops(hops)).toBe('a-b_C,x+tagged,y')
    expect(parseHops(formatHops(hops))).toEqual(hops)
    expect(parseHops('')).toEqual([])
  })

  it('join: one way without tags is enough to make a ring', () => {
    const known = [tagged('a'), plain('b')]
    expect(joinHops(known, [tagged('b'), tagged('a')])).toBe(known)
    expect(joinHops(known, [plain('a')])).toEqual([plain('a'), plain('b')])
    expect(joinHops(known, [plain('c')])).toEqual([...known, plain('c')])
  })

  it('are stored with the topic that they are of; what is no path is left out', () => {
    const path = { topicId: 'id', hops: [plain('a'), tagged('b')] }
    const key = JSON.stringify(['mirror-path', 't'])
    expect(parsePath(key, storedPath(path))).toEqual({ topic: 't', path })
    expect(parsePath(JSON.stringify(['mirror', 't']), storedPath(path))).toBeUndefined()
    expect(parsePath(key, { v: 2 })).toBeUndefined()
    expect(parsePath(key, null)).toBeUndefined()
  })

  it('of links are asked for by name, a thousand topics at a time', async () => {
    const asked: number[] = []
    const admin = {
      describeConfigs: (resources: readonly { readonly name: string }[]) => {
        asked.push(resources.length)
        return Promise.resolve(
          resources.map(({ name }) => ({
            name,
            configs: name === 't7' ? [{ name: 'mirror.path', value: 'a,b' }] : [],
            error: undefined,
          })),
        )
      },
    }
    const names = Array.from({ length: 1500 }, (_, at) => `t${at}`)
    expect([...(await readLinkHops(admin, names))]).toEqual([['t7', [plain('a'), plain('b')]]])
    expect(asked).toEqual([1000, 500])
  })
})
